// SPDX-License-Identifier: MPL-2.0
//! The GObject: properties, pads, state changes.
//!
//! # Locking
//!
//! `settings`, `state`, `model` and `stats` each protect plain values and are held only to read or write these. No
//! thread takes two of them at once, and none is held across inference, a pad push, a query, a join or a message, so
//! there is no order to keep.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use crossbeam::channel::Sender;
use flashvideo::{DeviceSpec, Size};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use once_cell::sync::Lazy;

use super::loader::ModelSlot;
use super::run::{Leaving, Run, RunControl};
use super::settings::{
    DEFAULT_DEVICE, DEFAULT_SCALE, MAX_GUIDANCE_SCALE, MAX_SCALE, MAX_STEPS, MAX_THREADS,
    MODEL_DEFAULT, Settings,
};
use super::stats::Stats;
use super::{CAT, Preset, UpscaleNumberType, caps};

/// What the streaming threads share.
pub(super) struct State {
    /// The worker's mailbox, while the source pad is active.
    pub worker: Option<Sender<Run>>,
    pub worker_thread: Option<ThreadId>,
    pub run: Option<RunControl>,
    /// The run that was stopped last, until the worker is out of it.
    pub leaving: Option<Leaving>,
    /// What upstream is to be told.
    pub flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// EOS has arrived at the sink pad: upstream will not ask for `flow` again.
    pub eos: bool,
    /// Where the worker takes output buffers from.
    pub pool: Option<gst::BufferPool>,
    /// Of the input and the output.
    pub sizes: Option<(Size, Size)>,
    /// What this element adds to the minimum and maximum latency of a live pipeline.
    pub latency: Option<(gst::ClockTime, gst::ClockTime)>,
}

impl State {
    /// Forgets what came from caps.
    pub fn forget_stream(&mut self) {
        self.leaving = None;
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
            worker_thread: None,
            run: None,
            leaving: None,
            flow: Err(gst::FlowError::Flushing),
            eos: false,
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
    state: Mutex<State>,
    stats: Mutex<Stats>,
}

/// The guarded values are plain, so a panic elsewhere cannot leave them half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FlashUpscale {
    /// A snapshot of the properties.
    pub(super) fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }

    /// NULL to READY: what can be checked without loading anything.
    fn check_settings(&self) -> flashvideo::Result<()> {
        let request = self.settings().request()?;
        if request.device != DeviceSpec::Cpu {
            request.device.open()?;
        }
        Ok(())
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
            state: Mutex::default(),
            stats: Mutex::default(),
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
            vec![
                glib::ParamSpecString::builder("model")
                    .nick("Model")
                    .blurb("builtin, builtin:live, or path of a model file or folder; wins over the preset's choice")
                    .default_value("builtin")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecDouble::builder("scale")
                    .nick("Scale")
                    .blurb("Output size over input size, unless downstream caps fix a size")
                    .minimum(1.0)
                    .maximum(MAX_SCALE)
                    .default_value(DEFAULT_SCALE)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("steps")
                    .nick("Steps")
                    .blurb("Function evaluations of the flow for each frame (0 = what preset and model choose)")
                    .maximum(MAX_STEPS)
                    .default_value(0)
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecDouble::builder("noise")
                    .nick("Noise")
                    .blurb("Noise at the start of the flow: 0 = faithful, 1 = most invented detail, -1 = what preset and model choose")
                    .minimum(MODEL_DEFAULT)
                    .maximum(1.0)
                    .default_value(MODEL_DEFAULT)
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecUInt64::builder("seed")
                    .nick("Seed")
                    .blurb("Chooses the noise; the same seed gives the same pictures")
                    .default_value(0)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("prompt")
                    .nick("Prompt")
                    .blurb("What the video shows, for models that read text (default: upstream's title tag)")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("guidance-scale")
                    .nick("Guidance scale")
                    .blurb("How closely models that read text follow the prompt (-1 = the model's default)")
                    .minimum(MODEL_DEFAULT)
                    .maximum(MAX_GUIDANCE_SCALE)
                    .default_value(MODEL_DEFAULT)
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("preset", Preset::default())
                    .nick("Preset")
                    .blurb("What to spend on each frame; explicit properties win")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("bypass")
                    .nick("Bypass")
                    .blurb("Resize without a model, to the same output size")
                    .default_value(false)
                    .mutable_playing()
                    .controllable()
                    .build(),
                glib::ParamSpecString::builder("device")
                    .nick("Device")
                    .blurb("Where the model runs: cpu, cuda:N or metal, as far as built in")
                    .default_value(DEFAULT_DEVICE)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("dtype", UpscaleNumberType::default())
                    .nick("Number type")
                    .blurb("Number type of the arithmetic; int8 is for built-in models without noise, on CPUs with AVX-512 VNNI")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("threads")
                    .nick("Threads")
                    .blurb("Threads for the model on the CPU (0 = all cores)")
                    .maximum(MAX_THREADS)
                    .default_value(0)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("frames, fps, ms-per-evaluation, evaluations, peak-memory (bytes), model, steps")
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPE: &str = "type checked by GObject";
        let mut rescaled = false;
        {
            let mut settings = lock(&self.settings);
            let text = || {
                value
                    .get::<Option<String>>()
                    .expect(TYPE)
                    .filter(|text| !text.is_empty())
            };
            match pspec.name() {
                "model" => settings.model = text(),
                "scale" => {
                    let scale = value.get().expect(TYPE);
                    rescaled = settings.scale != scale;
                    settings.scale = scale;
                }
                "steps" => settings.steps = value.get().expect(TYPE),
                "noise" => settings.noise = value.get().expect(TYPE),
                "seed" => settings.seed = value.get().expect(TYPE),
                "prompt" => settings.prompt = text(),
                "guidance-scale" => settings.guidance_scale = value.get().expect(TYPE),
                "preset" => settings.preset = value.get().expect(TYPE),
                "bypass" => settings.bypass = value.get().expect(TYPE),
                "device" => settings.device = text().unwrap_or_else(|| DEFAULT_DEVICE.to_owned()),
                "dtype" => settings.dtype = value.get().expect(TYPE),
                "threads" => settings.threads = value.get().expect(TYPE),
                name => unreachable!("no property {name} was installed"),
            }
            gst::debug!(CAT, imp = self, "{} is now {value:?}", pspec.name());
        }
        if rescaled {
            // The worker negotiates before its next frame.
            self.srcpad.mark_reconfigure();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            return self.stats().to_structure().to_value();
        }
        let settings = lock(&self.settings);
        match pspec.name() {
            "model" => settings.model().to_value(),
            "scale" => settings.scale.to_value(),
            "steps" => settings.steps.to_value(),
            "noise" => settings.noise.to_value(),
            "seed" => settings.seed.to_value(),
            "prompt" => settings.prompt.to_value(),
            "guidance-scale" => settings.guidance_scale.to_value(),
            "preset" => settings.preset.to_value(),
            "bypass" => settings.bypass.to_value(),
            "device" => settings.device.to_value(),
            "dtype" => settings.dtype.to_value(),
            "threads" => settings.threads.to_value(),
            name => unreachable!("no property {name} was installed"),
        }
    }
}

impl GstObjectImpl for FlashUpscale {}

impl PresetImpl for FlashUpscale {}

impl ElementImpl for FlashUpscale {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "FlashVideo upscaler",
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
                ("sink", gst::PadDirection::Sink),
                ("src", gst::PadDirection::Src),
            ]
            .into_iter()
            .map(|(name, direction)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps::TEMPLATE)
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
                if let Err(error) = self.check_settings() {
                    self.post_failure(&error);
                    return Err(gst::StateChangeError);
                }
            }
            gst::StateChange::ReadyToPaused => {
                *self.stats() = Stats::default();
                let settings = self.settings();
                // With bypass the model is loaded when bypass is turned off, if ever.
                if !settings.bypass {
                    let request = settings.request().map_err(|error| {
                        self.post_failure(&error);
                        gst::StateChangeError
                    })?;
                    self.start_loading(&request, true).map_err(|message| {
                        self.post_error_message(message);
                        gst::StateChangeError
                    })?;
                }
            }
            gst::StateChange::PausedToReady => self.model.cancel_unfinished(),
            _ => {}
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::PausedToReady => self.model.end_unfinished(),
            gst::StateChange::ReadyToNull => self.model.unload(),
            _ => {}
        }
        Ok(success)
    }
}
