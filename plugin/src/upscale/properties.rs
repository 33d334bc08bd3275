// SPDX-License-Identifier: MPL-2.0
//! The properties as GObject has them.

use gst::glib;
use gst::prelude::*;

use super::Preset;
use super::settings::{DEFAULT_SCALE, MAX_GUIDANCE_SCALE, MAX_SCALE, MAX_STEPS, Settings};
use crate::common::compute::ComputeSettings;
use crate::common::property::{self, UNSET};

impl Settings {
    /// What to install; `stats` is not among the settings.
    pub fn properties() -> Vec<glib::ParamSpec> {
        let mut all = vec![
            glib::ParamSpecString::builder("model")
                .nick("Model")
                .blurb("builtin, builtin:live, or path of a model file or folder (default: what the preset chooses; stats has what is in force)")
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
                .minimum(UNSET.into())
                .maximum(1.0)
                .default_value(UNSET.into())
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
                .minimum(UNSET.into())
                .maximum(MAX_GUIDANCE_SCALE)
                .default_value(UNSET.into())
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
        ];
        all.extend(ComputeSettings::properties());
        all
    }

    /// Sets the property `name`.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "model" => self.model = property::text(value),
            "scale" => self.scale = property::get(value),
            "steps" => self.steps = property::count(value),
            "noise" => self.noise = property::amount(value),
            "seed" => self.seed = property::get(value),
            "prompt" => self.prompt = property::text(value),
            "guidance-scale" => self.guidance_scale = property::amount(value),
            "preset" => self.preset = property::get(value),
            "bypass" => self.bypass = property::get(value),
            name if self.compute.set(name, value) => {}
            name => unreachable!("no property {name} was installed"),
        }
    }

    /// The property `name`.
    pub fn get(&self, name: &str) -> glib::Value {
        match name {
            "model" => self.model.to_value(),
            "scale" => self.scale.to_value(),
            "steps" => property::from_count(self.steps),
            "noise" => property::from_amount(self.noise),
            "seed" => self.seed.to_value(),
            "prompt" => self.prompt.to_value(),
            "guidance-scale" => property::from_amount(self.guidance_scale),
            "preset" => self.preset.to_value(),
            "bypass" => self.bypass.to_value(),
            name => match self.compute.get(name) {
                Some(value) => value,
                None => unreachable!("no property {name} was installed"),
            },
        }
    }
}
