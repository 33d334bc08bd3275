// SPDX-License-Identifier: MPL-2.0
//! Values of the properties, and what they mean for a model.

use std::path::PathBuf;

use flashvideo::GeneratorInfo;

use crate::common::compute::{Compute, ComputeSettings};

pub(super) const DEFAULT_MODEL: &str = "builtin";
pub(super) const DEFAULT_PROMPT: &str = "a red balloon rises over snowy mountains at sunset";
pub(super) const MAX_GUIDANCE_SCALE: f64 = 100.0;
pub(super) const MAX_LORA_SCALE: f64 = 10.0;
/// Fewest and most steps that a schedule can have.
pub(super) const MIN_STEPS: usize = 2;
pub(super) const MAX_STEPS: u32 = 1000;
pub(super) const MAX_FRAMES: u32 = 4097;

/// How many clips there are until the stream ends, or goes round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Clips {
    #[default]
    OneForEachPrompt,
    Endless,
    Exactly(u64),
}

/// A copy of all properties. `None` is the model's own where nothing else is said.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub prompt: Option<String>,
    pub model: String,
    /// `None`: no adapters.
    pub lora: Option<String>,
    pub lora_scale: f64,
    /// `None`: random.
    pub seed: Option<u64>,
    pub steps: Option<usize>,
    pub guidance_scale: Option<f64>,
    pub num_frames: Option<usize>,
    pub num_clips: Clips,
    /// `None`: `prompt` is all there is.
    pub prompts_file: Option<PathBuf>,
    pub repeat: bool,
    pub live: bool,
    pub compute: ComputeSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prompt: None,
            model: DEFAULT_MODEL.to_owned(),
            lora: None,
            lora_scale: 1.0,
            seed: Some(0),
            steps: None,
            guidance_scale: None,
            num_frames: None,
            num_clips: Clips::default(),
            prompts_file: None,
            repeat: false,
            live: false,
            compute: ComputeSettings::default(),
        }
    }
}

/// What has to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelRequest {
    pub model: String,
    pub lora: Option<(String, f64)>,
    pub compute: Compute,
}

/// `frames` as the nearest number that a model can make, one more than a multiple of four; upwards from the middle.
pub(super) fn whole_frames(frames: usize) -> usize {
    (frames + 1) / 4 * 4 + 1
}

impl Settings {
    /// The model to load for these settings.
    ///
    /// # Errors
    /// [`flashvideo::Error::Device`] for a device name that does not exist.
    pub fn request(&self) -> flashvideo::Result<ModelRequest> {
        Ok(ModelRequest {
            model: self.model.clone(),
            lora: self.lora.clone().map(|lora| (lora, self.lora_scale)),
            compute: self.compute.request()?,
        })
    }

    /// The prompt where no file gives any.
    pub fn prompt<'a>(&'a self, info: &'a GeneratorInfo) -> &'a str {
        match &self.prompt {
            Some(prompt) => prompt,
            None if info.prompt.is_empty() => DEFAULT_PROMPT,
            None => &info.prompt,
        }
    }

    /// Frames of a clip.
    pub fn frames(&self, info: &GeneratorInfo) -> usize {
        self.num_frames.map_or(info.frames, whole_frames)
    }

    /// Sampling steps. One is too few for a schedule, which has two ends, and stands for the fewest.
    pub fn steps(&self, info: &GeneratorInfo) -> usize {
        self.steps.map_or(info.steps, |steps| steps.max(MIN_STEPS))
    }

    /// Strength of the guidance.
    pub fn guidance(&self, info: &GeneratorInfo) -> f64 {
        self.guidance_scale.unwrap_or(info.guidance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_numbers_are_rounded_to_the_nearest() {
        let rounded: Vec<_> = (1..=10).map(whole_frames).collect();
        assert_eq!(rounded, [1, 1, 5, 5, 5, 5, 9, 9, 9, 9]);
        assert_eq!((whole_frames(48), whole_frames(49)), (49, 49));
    }
}
