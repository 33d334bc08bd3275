// SPDX-License-Identifier: MPL-2.0
//! The GObject: state changes, what its threads share.
//!
//! # Locking
//!
//! `settings`, `playing`, `position`, `model` and `stats` each protect plain values and are held only to read or write
//! these; the queue has a lock of its own for which the same holds. No thread takes two of them at once, and none is
//! held across inference, a wait, a join, an event or a message, so there is no order to keep.

/**
 * SECTION:element-flashvideosrc
 * @see_also: flashupscale
 *
 * Makes video clips from a prompt: the first stage of FlashVideo. With `flashupscale` behind it this is the whole of
 * FlashVideo: a small clip first, then a large and sharp one.
 *
 * ## Example pipelines
 *
 * |[
 * gst-launch-1.0 flashvideosrc prompt="a red balloon rises over snowy mountains at sunset" ! flashupscale ! autovideosink
 * ]| This makes a clip and shows it enlarged.
 *
 * |[
 * gst-launch-1.0 flashvideosrc prompts-file=story.txt loop=true is-live=true ! videoconvert ! autovideosink
 * ]| This plays a clip for each line of a file, again and again, at the pace of the clock.
 *
 * Since: 0.1.0
 */
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use once_cell::sync::Lazy;
use std::thread::JoinHandle;

use flashvideo::Generator;
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;

use super::position::Position;
use super::prompts;
use super::queue::ClipQueue;
use super::settings::{ModelRequest, Settings};
use super::stats::Stats;
use super::{CAT, caps};
use crate::common::messages::Messages;
use crate::common::{lock, property};

/// Between start and stop.
pub(super) struct Playing {
    pub generator: Arc<Generator>,
    pub queue: Arc<ClipQueue>,
    /// The seed where none was set.
    pub random: u64,
    pub thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub struct FlashVideoSrc {
    settings: Mutex<Settings>,
    playing: Mutex<Option<Playing>>,
    position: Mutex<Position>,
    /// Kept from the first start until the element goes to NULL.
    model: Mutex<Option<(ModelRequest, Arc<Generator>)>>,
    stats: Mutex<Stats>,
    /// An application has sent FLUSH_START, and no FLUSH_STOP yet.
    pub(super) flushing: AtomicBool,
}

impl FlashVideoSrc {
    /// A snapshot of the properties.
    pub(super) fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    pub(super) fn playing(&self) -> MutexGuard<'_, Option<Playing>> {
        lock(&self.playing)
    }

    /// The clips, while it plays.
    pub(super) fn queue(&self) -> Option<Arc<ClipQueue>> {
        Some(self.playing().as_ref()?.queue.clone())
    }

    /// The model, while it plays.
    pub(super) fn generator(&self) -> Option<Arc<Generator>> {
        Some(self.playing().as_ref()?.generator.clone())
    }

    pub(super) fn position(&self) -> MutexGuard<'_, Position> {
        lock(&self.position)
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Option<(ModelRequest, Arc<Generator>)>> {
        lock(&self.model)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }

    /// The clips that have not begun follow the properties as they are now that `name` was set.
    fn settings_changed(&self, name: &str) {
        let playing = self.playing().as_ref().map(|playing| {
            let (queue, generator) = (playing.queue.clone(), playing.generator.clone());
            (queue, generator, playing.random)
        });
        let Some((queue, generator, random)) = playing else {
            return;
        };
        let settings = self.settings();
        let prompt = settings.prompt(generator.info());
        if name == "prompt"
            && let Some(problem) = prompts::problem(prompt)
        {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("{problem}; the prompt before it stays")
            );
        }
        if name == "steps" {
            self.tell_about_steps(&settings);
        }
        queue.change(&settings, generator.info(), random);
    }
}

impl Messages for FlashVideoSrc {
    fn category() -> gst::DebugCategory {
        *CAT
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FlashVideoSrc {
    const NAME: &'static str = "GstFlashVideoSrc";
    type Type = super::FlashVideoSrc;
    type ParentType = gst_base::PushSrc;
    type Interfaces = (gst::Preset,);
}

impl ObjectImpl for FlashVideoSrc {
    fn constructed(&self) {
        self.parent_constructed();
        self.obj().set_format(gst::Format::Time);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: Lazy<Vec<glib::ParamSpec>> = Lazy::new(|| {
            let mut all = Settings::properties();
            all.push(property::stats("model, prompt and seed of the clip that plays, clips, seconds-last-clip, seconds-per-clip, frames, repeated-frames, kept-clips, kept-bytes"));
            all
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
        gst::debug!(CAT, imp = self, "{} is now {value:?}", pspec.name());
        match pspec.name() {
            // The base class must not learn of it while it plays.
            "is-live" if self.playing().is_none() => self.obj().set_live(property::get(value)),
            "prompt" | "seed" | "steps" | "guidance-scale" => self.settings_changed(pspec.name()),
            _ => {}
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        match pspec.name() {
            "stats" => {
                let kept = self.queue().map(|queue| queue.kept()).unwrap_or_default();
                self.stats().to_structure(kept).to_value()
            }
            name => lock(&self.settings).get(name),
        }
    }
}

impl GstObjectImpl for FlashVideoSrc {}

impl PresetImpl for FlashVideoSrc {}

impl ElementImpl for FlashVideoSrc {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "FlashVideo text-to-video source",
                "Source/Video",
                "Makes video clips from a prompt",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            vec![
                gst::PadTemplate::new(
                    "src",
                    gst::PadDirection::Src,
                    gst::PadPresence::Always,
                    &caps::TEMPLATE,
                )
                .expect("name and caps are valid"),
            ]
        });
        &TEMPLATES
    }

    fn send_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Eos {
            return self.end_of_stream();
        }
        self.can_obey(&event) && self.is_in_order(&event) && self.parent_send_event(event)
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        gst::debug!(CAT, imp = self, "changing state {transition:?}");
        if transition == gst::StateChange::NullToReady
            && let Err(error) = self.settings().compute.check()
        {
            self.post_failure(&error);
            return Err(gst::StateChangeError);
        }
        if transition == gst::StateChange::ReadyToPaused {
            self.flushing.store(false, Ordering::SeqCst);
            self.obj().set_live(self.settings().live);
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            let model = self.model().take();
            drop(model);
        }
        Ok(success)
    }
}
