// SPDX-License-Identifier: MPL-2.0
//! The properties as GObject has them.

use std::path::PathBuf;

use gst::glib;
use gst::prelude::*;

use super::settings::{
    Clips, DEFAULT_MODEL, MAX_FRAMES, MAX_GUIDANCE_SCALE, MAX_LORA_SCALE, MAX_STEPS, Settings,
};
use crate::common::compute::ComputeSettings;
use crate::common::property::{self, UNSET};

/// Stands for [`Clips::OneForEachPrompt`]: the number that nobody means.
const ONE_FOR_EACH_PROMPT: u32 = u32::MAX;

impl Settings {
    /// What to install; `stats` is not among the settings.
    pub fn properties() -> Vec<glib::ParamSpec> {
        let mut all = vec![
            glib::ParamSpecString::builder("prompt")
                .nick("Prompt")
                .blurb("What the clips show; a change takes effect with the next clip (default: what shows the model)")
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
                .minimum(UNSET.into())
                .default_value(0)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("steps")
                .nick("Steps")
                .blurb("Sampling steps, at least two: 1 is taken as 2 (0 = the model's own number)")
                .maximum(MAX_STEPS)
                .default_value(0)
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("guidance-scale")
                .nick("Guidance scale")
                .blurb("How closely the clip follows the prompt (-1 = the model's own scale)")
                .minimum(UNSET.into())
                .maximum(MAX_GUIDANCE_SCALE)
                .default_value(UNSET.into())
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
                .blurb("Clips until the end of the stream (0 = for ever, 4294967295 = as many as prompts-file has lines, or one)")
                .default_value(ONE_FOR_EACH_PROMPT)
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
        ];
        all.push(
            glib::ParamSpecBoolean::builder("is-live")
                .nick("Is live")
                .blurb("Keep the pace of the clock, repeating the last frame while the next clip is made")
                .default_value(false)
                .mutable_ready()
                .build(),
        );
        all.extend(ComputeSettings::properties());
        all
    }

    /// Sets the property `name`.
    pub fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "prompt" => self.prompt = property::text(value),
            "model" => {
                self.model = property::text(value).unwrap_or_else(|| DEFAULT_MODEL.to_owned());
            }
            "lora" => self.lora = property::text(value),
            "lora-scale" => self.lora_scale = property::get(value),
            "seed" => self.seed = property::seed(value),
            "steps" => self.steps = property::count(value),
            "guidance-scale" => self.guidance_scale = property::amount(value),
            "num-frames" => self.num_frames = property::count(value),
            "num-clips" => {
                self.num_clips = match property::get(value) {
                    ONE_FOR_EACH_PROMPT => Clips::OneForEachPrompt,
                    0 => Clips::Endless,
                    clips => Clips::Exactly(clips.into()),
                };
            }
            "prompts-file" => self.prompts_file = property::text(value).map(PathBuf::from),
            "loop" => self.repeat = property::get(value),
            "is-live" => self.live = property::get(value),
            name if self.compute.set(name, value) => {}
            name => unreachable!("no property {name} was installed"),
        }
    }

    /// The property `name`.
    pub fn get(&self, name: &str) -> glib::Value {
        match name {
            "prompt" => self.prompt.to_value(),
            "model" => self.model.to_value(),
            "lora" => self.lora.to_value(),
            "lora-scale" => self.lora_scale.to_value(),
            "seed" => property::from_seed(self.seed),
            "steps" => property::from_count(self.steps),
            "guidance-scale" => property::from_amount(self.guidance_scale),
            "num-frames" => property::from_count(self.num_frames),
            "num-clips" => match self.num_clips {
                Clips::OneForEachPrompt => ONE_FOR_EACH_PROMPT,
                Clips::Endless => 0,
                Clips::Exactly(clips) => u32::try_from(clips).unwrap_or(ONE_FOR_EACH_PROMPT),
            }
            .to_value(),
            "prompts-file" => {
                let path = self.prompts_file.as_ref();
                path.map(|path| path.to_string_lossy().into_owned())
                    .to_value()
            }
            "loop" => self.repeat.to_value(),
            "is-live" => self.live.to_value(),
            name => match self.compute.get(name) {
                Some(value) => value,
                None => unreachable!("no property {name} was installed"),
            },
        }
    }
}
