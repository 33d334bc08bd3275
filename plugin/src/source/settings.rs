// SPDX-License-Identifier: MPL-2.0
//! Values of the properties, and what they mean for a model.

use std::path::PathBuf;

use flashvideo::{DeviceSpec, GeneratorInfo};

use super::NumberType;

pub(super) const DEFAULT_MODEL: &str = "builtin";
pub(super) const DEFAULT_PROMPT: &str = "a red balloon rises over snowy mountains at sunset";
pub(super) const DEFAULT_DEVICE: &str = "cpu";
/// For `seed`: another one each time.
pub(super) const RANDOM_SEED: i64 = -1;
/// For `guidance-scale`: the model decides.
pub(super) const MODEL_DEFAULT: f64 = -1.0;
pub(super) const MAX_GUIDANCE_SCALE: f64 = 100.0;
pub(super) const MAX_LORA_SCALE: f64 = 10.0;
pub(super) const MAX_STEPS: u32 = 1000;
pub(super) const MAX_FRAMES: u32 = 4097;
pub(super) const MAX_THREADS: u32 = 1024;

/// A copy of all properties.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// `None`: the model's own.
    pub prompt: Option<String>,
    pub model: String,
    pub lora: Option<String>,
    pub lora_scale: f64,
    /// Negative: random.
    pub seed: i64,
    /// 0: the model's own.
    pub steps: u32,
    /// Negative: the model's own.
    pub guidance_scale: f64,
    /// 0: the model's own.
    pub num_frames: u32,
    /// 0: for ever; `None`: one for each prompt.
    pub num_clips: Option<u32>,
    pub prompts_file: Option<PathBuf>,
    pub repeat: bool,
    pub device: String,
    pub dtype: NumberType,
    pub threads: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prompt: None,
            model: DEFAULT_MODEL.to_owned(),
            lora: None,
            lora_scale: 1.0,
            seed: 0,
            steps: 0,
            guidance_scale: MODEL_DEFAULT,
            num_frames: 0,
            num_clips: None,
            prompts_file: None,
            repeat: false,
            device: DEFAULT_DEVICE.to_owned(),
            dtype: NumberType::Auto,
            threads: 0,
        }
    }
}

/// What has to be loaded.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ModelRequest {
    pub model: String,
    pub lora: Option<(String, f64)>,
    pub device: DeviceSpec,
    pub dtype: NumberType,
    pub threads: Option<usize>,
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
            device: self.device.parse()?,
            dtype: self.dtype,
            threads: Some(self.threads as usize).filter(|threads| *threads > 0),
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
        match self.num_frames {
            0 => info.frames,
            frames => whole_frames(frames as usize),
        }
    }

    /// Sampling steps.
    pub fn steps(&self, info: &GeneratorInfo) -> usize {
        match self.steps {
            0 => info.steps,
            steps => steps as usize,
        }
    }

    /// Strength of the guidance.
    pub fn guidance(&self, info: &GeneratorInfo) -> f64 {
        if self.guidance_scale < 0.0 {
            info.guidance
        } else {
            self.guidance_scale
        }
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
