// SPDX-License-Identifier: MPL-2.0
//! The GObject: pads, state changes, what its threads share.
//!
//! # Locking
//!
//! `settings`, `begun`, `state`, `model`, `stats` and `timing` each protect plain values and are held only to read or write these. No
//! thread takes two of them at once, and none is held across inference, a pad push, a query, a join or a message, so
//! there is no order to keep.

/**
 * SECTION:element-flashupscale
 * @see_also: flashvideosrc
 *
 * Enlarges a video and makes it sharper: the second stage of FlashVideo. Each frame is carried by a learned flow from its
 * plain enlargement to a sharp picture, with a look at its neighbours.
 *
 * ## Example pipelines
 *
 * |[
 * gst-launch-1.0 filesrc location=old.mp4 ! decodebin ! videoconvert ! flashupscale ! videoconvert ! x264enc pass=qual vbv-buf-capacity=0 ! mp4mux ! filesink location=new.mp4
 * ]| This enlarges a clip to four times its width and height.
 *
 * |[
 * gst-launch-1.0 v4l2src ! videoconvert ! flashupscale preset=live scale=2 ! autovideosink
 * ]| This shows the picture of a camera enlarged.
 *
 * Since: 0.1.0
 */
use std::sync::{Mutex, MutexGuard};

use once_cell::sync::Lazy;
use std::thread::ThreadId;

use crossbeam::channel::Sender;
use flashvideo::Size;
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::latency::Latency;
use super::model_slot::ModelSlot;
use super::pace::{Known, Timing};
use super::run::{Leaving, Run, RunControl};
use super::settings::{Begun, ModelRequest, Settings};
use super::stats::Stats;
use super::{CAT, caps};
use crate::common::messages::Messages;
use crate::common::{lock, property};

/// What the streaming threads share.
pub(super) struct State {
    /// The worker's mailbox, while the source pad is active.
    pub worker: Option<Sender<Run>>,
    /// Ends the worker once its task is over.
    pub end_worker: Option<Box<dyn FnOnce() + Send>>,
    pub worker_thread: Option<ThreadId>,
    pub run: Option<RunControl>,
    /// The run that was stopped last, until the worker is out of it.
    pub leaving: Option<Leaving>,
    /// What upstream is to be told.
    pub flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// If that is an error, somebody was told.
    pub flow_is_known: bool,
    /// EOS has arrived at the sink pad: upstream will not ask for `flow` again.
    pub eos: bool,
    /// The caps of the sink pad, if they are such that no frame can be taken. Why is on the bus.
    pub refused: Option<gst::Caps>,
    /// Where the worker takes output buffers from.
    pub pool: Option<gst::BufferPool>,
    /// Of the input and the output.
    pub sizes: Option<(Size, Size)>,
    /// What this element adds to the latency of a live pipeline, once it is known.
    pub latency: Option<Latency>,
}

impl State {
    /// Forgets what came from caps.
    pub fn forget_stream(&mut self) {
        self.leaving = None;
        self.refused = None;
        self.worker_thread = None;
        self.pool = None;
        self.sizes = None;
        self.latency = None;
    }
}

impl Default for State {
    fn default() -> Self {
        Self {
            worker: None,
            end_worker: None,
            worker_thread: None,
            run: None,
            leaving: None,
            flow: Err(gst::FlowError::Flushing),
            flow_is_known: false,
            eos: false,
            refused: None,
            pool: None,
            sizes: None,
            latency: None,
        }
    }
}

pub struct FlashUpscale {
    pub(super) sinkpad: gst::Pad,
    pub(super) srcpad: gst::Pad,
    pub(super) model: ModelSlot,
    settings: Mutex<Settings>,
    begun: Mutex<Option<Begun>>,
    state: Mutex<State>,
    stats: Mutex<Stats>,
    pub(super) timing: Timing,
}

impl FlashUpscale {
    /// A snapshot of the properties as they were set.
    fn set_settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// A snapshot of the properties as far as they are in force.
    pub(super) fn settings(&self) -> Settings {
        let settings = self.set_settings();
        match &*lock(&self.begun) {
            Some(begun) => settings.during(begun),
            None => settings,
        }
    }

    /// The model of the stream, once the element has left READY.
    pub(super) fn request(&self) -> Option<ModelRequest> {
        Some(lock(&self.begun).as_ref()?.request.clone())
    }

    /// From READY to PAUSED: what holds until the element is back in READY.
    ///
    /// A model that cannot be had is no reason to end a session that has one: editors set properties at each keystroke.
    fn begin(&self) -> Result<(), gst::StateChangeError> {
        *self.stats() = Stats::default();
        *self.timing.lock() = Known::default();
        let settings = self.set_settings();
        let request = match (settings.request(), self.model.request()) {
            (Ok(request), _) => request,
            (Err(error), Some(loaded)) => {
                self.keep_model(&loaded.model, &error);
                loaded
            }
            (Err(error), None) => {
                self.post_failure(&error);
                return Err(gst::StateChangeError);
            }
        };
        *lock(&self.begun) = Some(Begun::new(&settings, request.clone()));
        // With bypass the model is loaded when bypass is turned off, if ever.
        if !settings.bypass {
            self.start_loading(&request, true).map_err(|message| {
                self.post_error_message(message);
                gst::StateChangeError
            })?;
        }
        Ok(())
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }
}

impl Messages for FlashUpscale {
    fn category() -> gst::DebugCategory {
        *CAT
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FlashUpscale {
    const NAME: &'static str = "GstFlashUpscale";
    type Type = super::FlashUpscale;
    type ParentType = gst::Element;
    type Interfaces = (gst::Preset,);

    fn with_class(klass: &Self::Class) -> Self {
        let template = |name| {
            klass
                .pad_template(name)
                .expect("installed by pad_templates()")
        };
        let sinkpad = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|pad, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |imp| imp.sink_chain(pad, buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.sink_query(pad, query))
            })
            .build();
        let srcpad = gst::Pad::builder_from_template(&template("src"))
            .activatemode_function(|pad, parent, mode, active| {
                Self::catch_panic_pad_function(
                    parent,
                    || {
                        Err(gst::loggable_error!(
                            CAT,
                            "panic while activating the source pad"
                        ))
                    },
                    |imp| imp.src_activatemode(pad, mode, active),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |imp| imp.src_query(pad, query))
            })
            .build();
        Self {
            sinkpad,
            srcpad,
            model: ModelSlot::default(),
            settings: Mutex::default(),
            begun: Mutex::default(),
            state: Mutex::default(),
            stats: Mutex::default(),
            timing: Timing::default(),
        }
    }
}

impl ObjectImpl for FlashUpscale {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element
            .add_pad(&self.sinkpad)
            .expect("the element has no pads yet");
        element
            .add_pad(&self.srcpad)
            .expect("the element has no source pad yet");
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let mut all = Settings::properties();
            all.push(property::stats(
                "frames, fps, ms-per-evaluation, evaluations, peak-memory (bytes); model, steps and rung in force, which are notified; frames by rung, broken-off, late",
            ));
            all
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let rescaled = {
            let mut settings = lock(&self.settings);
            let scale = settings.scale;
            settings.set(pspec.name(), value);
            settings.scale != scale
        };
        gst::debug!(CAT, imp = self, "{} is now {value:?}", pspec.name());
        let waits = !pspec.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING);
        if waits && lock(&self.begun).is_some() {
            let name = pspec.name();
            gst::info!(
                CAT,
                imp = self,
                "{name} takes effect once the element was in READY"
            );
        }
        if rescaled {
            // The worker negotiates before its next frame.
            self.srcpad.mark_reconfigure();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let mut stats = self.stats().to_structure();
                self.timing.lock().add_to(&mut stats);
                stats.to_value()
            }
            name => lock(&self.settings).get(name),
        }
    }
}

impl GstObjectImpl for FlashUpscale {}

impl PresetImpl for FlashUpscale {}

impl ElementImpl for FlashUpscale {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "Enlarge and Sharpen (FlashVideo)",
                "Filter/Effect/Video",
                "Enlarges and sharpens video by flow matching",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            [
                ("sink", gst::PadDirection::Sink, &caps::SINK_TEMPLATE),
                ("src", gst::PadDirection::Src, &caps::TEMPLATE),
            ]
            .into_iter()
            .map(|(name, direction, caps)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps)
                    .expect("name and caps are valid")
            })
            .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        gst::debug!(CAT, imp = self, "changing state {transition:?}");
        match transition {
            gst::StateChange::NullToReady => {
                if let Err(error) = self.set_settings().compute.check() {
                    self.post_failure(&error);
                    return Err(gst::StateChangeError);
                }
            }
            gst::StateChange::ReadyToPaused => self.begin()?,
            gst::StateChange::PausedToReady => self.model.cancel_unfinished(),
            _ => {}
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::PausedToReady => {
                self.model.end_unfinished();
                *lock(&self.begun) = None;
            }
            gst::StateChange::ReadyToNull => self.model.unload(),
            _ => {}
        }
        Ok(success)
    }
}
