// SPDX-License-Identifier: MPL-2.0
//! The GObject: properties, state changes.
//!
//! # Locking
//!
//! `settings`, `playing`, `place`, `model` and `stats` each protect plain values and are held only to read or write
//! these; the studio has a lock of its own for which the same holds. No thread takes two of them at once, and none is
//! held across inference, a wait, a join, an event or a message, so there is no order to keep.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use flashvideo::{DeviceSpec, Generator};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use once_cell::sync::Lazy;

use super::settings::{
    DEFAULT_DEVICE, DEFAULT_MODEL, DEFAULT_PROMPT, MAX_FRAMES, MAX_GUIDANCE_SCALE, MAX_LORA_SCALE,
    MAX_STEPS, MAX_THREADS, MODEL_DEFAULT, ModelRequest, RANDOM_SEED, Settings,
};
use super::src::Place;
use super::stats::Stats;
use super::studio::Studio;
use super::{CAT, NumberType, caps};

/// Between start and stop.
pub(super) struct Playing {
    pub generator: Arc<Generator>,
    pub studio: Arc<Studio>,
    /// The seed where -1 was set.
    pub random: u64,
    pub thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub struct FlashVideoSrc {
    settings: Mutex<Settings>,
    playing: Mutex<Option<Playing>>,
    place: Mutex<Place>,
    /// Kept from the first start until the element goes to NULL.
    model: Mutex<Option<(ModelRequest, Arc<Generator>)>>,
    stats: Mutex<Stats>,
}

/// The guarded values are plain, so a panic elsewhere cannot leave them half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FlashVideoSrc {
    /// A snapshot of the properties.
    pub(super) fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    pub(super) fn playing(&self) -> MutexGuard<'_, Option<Playing>> {
        lock(&self.playing)
    }

    /// The studio, while there is one.
    pub(super) fn studio(&self) -> Option<Arc<Studio>> {
        Some(self.playing().as_ref()?.studio.clone())
    }

    /// The model, while it plays.
    pub(super) fn generator(&self) -> Option<Arc<Generator>> {
        Some(self.playing().as_ref()?.generator.clone())
    }

    pub(super) fn place(&self) -> MutexGuard<'_, Place> {
        lock(&self.place)
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Option<(ModelRequest, Arc<Generator>)>> {
        lock(&self.model)
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

    /// The clips that have not begun follow the properties as they are now.
    fn settings_changed(&self) {
        let playing = self.playing().as_ref().map(|playing| {
            let (studio, generator) = (playing.studio.clone(), playing.generator.clone());
            (studio, generator, playing.random)
        });
        if let Some((studio, generator, random)) = playing {
            studio.change(&self.settings(), generator.info(), random);
        }
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
            vec![
                glib::ParamSpecString::builder("prompt")
                    .nick("Prompt")
                    .blurb("What the clips show; a change takes effect with the next clip")
                    .default_value(Some(DEFAULT_PROMPT))
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("model")
                    .nick("Model")
                    .blurb("builtin, the path of a model in one file, or the folder of a released one")
                    .default_value(Some(DEFAULT_MODEL))
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("lora")
                    .nick("LoRA")
                    .blurb("Adapters for the model, for another style or subject: builtin:watercolour, or the path of a safetensors file")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecDouble::builder("lora-scale")
                    .nick("LoRA scale")
                    .blurb("How strong the adapters are: 0 = not at all, 1 = as trained")
                    .minimum(-MAX_LORA_SCALE)
                    .maximum(MAX_LORA_SCALE)
                    .default_value(1.0)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecInt64::builder("seed")
                    .nick("Seed")
                    .blurb("Chooses the noise of the first clip, each further one takes the next number (-1 = random, see stats and tags)")
                    .minimum(RANDOM_SEED)
                    .default_value(0)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("steps")
                    .nick("Steps")
                    .blurb("Sampling steps (0 = the model's own number)")
                    .maximum(MAX_STEPS)
                    .default_value(0)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("guidance-scale")
                    .nick("Guidance scale")
                    .blurb("How closely the clip follows the prompt (-1 = the model's own scale)")
                    .minimum(MODEL_DEFAULT)
                    .maximum(MAX_GUIDANCE_SCALE)
                    .default_value(MODEL_DEFAULT)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("num-frames")
                    .nick("Number of frames")
                    .blurb("Frames of a clip, one more than a multiple of 4; others are rounded (0 = the model's own number)")
                    .maximum(MAX_FRAMES)
                    .default_value(0)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecUInt::builder("num-clips")
                    .nick("Number of clips")
                    .blurb("Clips until the end of the stream (0 = for ever); unless set, as many as prompts-file has lines")
                    .default_value(1)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("prompts-file")
                    .nick("File of prompts")
                    .blurb("Path of a text with a prompt in each line, each a clip; wins over prompt")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("loop")
                    .nick("Loop")
                    .blurb("After the last clip begin with the first again, without making them again")
                    .default_value(false)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoolean::builder("is-live")
                    .nick("Is live")
                    .blurb("Keep the pace of the clock, repeating the last frame while the next clip is made")
                    .default_value(false)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecString::builder("device")
                    .nick("Device")
                    .blurb("Where the model runs: cpu, cuda:N or metal, as far as built in")
                    .default_value(DEFAULT_DEVICE)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("dtype", NumberType::default())
                    .nick("Number type")
                    .blurb("Number type of the model's weights")
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
                    .blurb("model, prompt and seed of the clip that plays, clips, seconds-last-clip, seconds-per-clip, frames, repeated-frames, kept-clips, kept-bytes")
                    .read_only()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        const TYPE: &str = "type checked by GObject";
        let text = || {
            value
                .get::<Option<String>>()
                .expect(TYPE)
                .filter(|text| !text.is_empty())
        };
        if pspec.name() == "is-live" {
            self.obj().set_live(value.get().expect(TYPE));
            return;
        }
        let changed = {
            let mut settings = lock(&self.settings);
            match pspec.name() {
                "prompt" => settings.prompt = text(),
                "model" => settings.model = text().unwrap_or_else(|| DEFAULT_MODEL.to_owned()),
                "lora" => settings.lora = text(),
                "lora-scale" => settings.lora_scale = value.get().expect(TYPE),
                "seed" => settings.seed = value.get().expect(TYPE),
                "steps" => settings.steps = value.get().expect(TYPE),
                "guidance-scale" => settings.guidance_scale = value.get().expect(TYPE),
                "num-frames" => settings.num_frames = value.get().expect(TYPE),
                "num-clips" => settings.num_clips = Some(value.get().expect(TYPE)),
                "prompts-file" => settings.prompts_file = text().map(PathBuf::from),
                "loop" => settings.repeat = value.get().expect(TYPE),
                "device" => settings.device = text().unwrap_or_else(|| DEFAULT_DEVICE.to_owned()),
                "dtype" => settings.dtype = value.get().expect(TYPE),
                "threads" => settings.threads = value.get().expect(TYPE),
                name => unreachable!("no property {name} was installed"),
            }
            matches!(pspec.name(), "prompt" | "seed" | "steps" | "guidance-scale")
        };
        gst::debug!(CAT, imp = self, "{} is now {value:?}", pspec.name());
        if changed {
            self.settings_changed();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            let kept = self.studio().map(|studio| studio.kept());
            return self
                .stats()
                .to_structure(kept.unwrap_or_default())
                .to_value();
        }
        let settings = lock(&self.settings);
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .to_value()
        };
        match pspec.name() {
            "prompt" => settings
                .prompt
                .as_deref()
                .unwrap_or(DEFAULT_PROMPT)
                .to_value(),
            "model" => settings.model.to_value(),
            "lora" => settings.lora.to_value(),
            "lora-scale" => settings.lora_scale.to_value(),
            "seed" => settings.seed.to_value(),
            "steps" => settings.steps.to_value(),
            "guidance-scale" => settings.guidance_scale.to_value(),
            "num-frames" => settings.num_frames.to_value(),
            "num-clips" => settings.num_clips.unwrap_or(1).to_value(),
            "prompts-file" => path(&settings.prompts_file),
            "loop" => settings.repeat.to_value(),
            "is-live" => self.obj().is_live().to_value(),
            "device" => settings.device.to_value(),
            "dtype" => settings.dtype.to_value(),
            "threads" => settings.threads.to_value(),
            name => unreachable!("no property {name} was installed"),
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

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        gst::debug!(CAT, imp = self, "changing state {transition:?}");
        if transition == gst::StateChange::NullToReady
            && let Err(error) = self.check_settings()
        {
            self.post_failure(&error);
            return Err(gst::StateChangeError);
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::ReadyToNull {
            let model = self.model().take();
            drop(model);
        }
        Ok(success)
    }
}
