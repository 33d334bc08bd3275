// SPDX-License-Identifier: MPL-2.0
//! Values of the properties, and what the presets stand for.

use flashvideo::{DeviceSpec, EnhanceOptions, Size, Target};

use super::{Preset, UpscaleNumberType};

pub(super) const DEFAULT_SCALE: f64 = 4.0;
pub(super) const MAX_SCALE: f64 = 16.0;
pub(super) const MAX_STEPS: u32 = 8;
/// For `noise` and `guidance-scale`: the model decides.
pub(super) const MODEL_DEFAULT: f64 = -1.0;
pub(super) const MAX_GUIDANCE_SCALE: f64 = 100.0;
pub(super) const MAX_THREADS: u32 = 1024;
pub(super) const DEFAULT_DEVICE: &str = "cpu";

const MODEL: &str = "builtin";
const LIVE_MODEL: &str = "builtin:live";

/// A copy of all properties.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// As set by the user; `None` leaves the choice to the preset.
    pub model: Option<String>,
    pub scale: f64,
    /// 0 leaves the choice to the preset.
    pub steps: u32,
    /// Negative leaves the choice to the preset.
    pub noise: f64,
    pub seed: u64,
    pub prompt: Option<String>,
    pub guidance_scale: f64,
    pub preset: Preset,
    pub bypass: bool,
    pub device: String,
    /// `Auto` leaves the choice to the model.
    pub dtype: UpscaleNumberType,
    pub threads: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: None,
            scale: DEFAULT_SCALE,
            steps: 0,
            noise: MODEL_DEFAULT,
            seed: 0,
            prompt: None,
            guidance_scale: MODEL_DEFAULT,
            preset: Preset::default(),
            bypass: false,
            device: DEFAULT_DEVICE.to_owned(),
            dtype: UpscaleNumberType::default(),
            threads: 0,
        }
    }
}

/// What has to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelRequest {
    pub model: String,
    pub device: DeviceSpec,
    pub number: flashvideo::NumberType,
    pub threads: Option<usize>,
}

impl Settings {
    /// Name or path of the model: the user's, else the preset's.
    pub fn model(&self) -> &str {
        match (&self.model, self.preset) {
            (Some(model), _) => model,
            (None, Preset::Live) => LIVE_MODEL,
            (None, Preset::Balanced | Preset::Quality) => MODEL,
        }
    }

    /// Function evaluations, 0 for the model's own default.
    pub fn steps(&self) -> usize {
        match (self.steps, self.preset) {
            (0, Preset::Live | Preset::Balanced) => 1,
            (steps, _) => steps as usize,
        }
    }

    /// Strength of the noise, negative for the model's own default. One evaluation cannot remove noise, so the fast
    /// presets start without it.
    pub fn noise(&self) -> f64 {
        match self.preset {
            Preset::Live | Preset::Balanced if self.noise < 0.0 => 0.0,
            _ => self.noise,
        }
    }

    /// What the runtime is to do with frames that become `output` large; `title` describes the stream when there is
    /// no prompt.
    pub fn options(&self, output: Size, title: Option<&str>) -> EnhanceOptions {
        let prompt = self.prompt.as_deref().filter(|p| !p.is_empty()).or(title);
        EnhanceOptions {
            target: Target::Size(output),
            steps: Some(self.steps()).filter(|steps| *steps > 0),
            noise: Some(self.noise()).filter(|noise| *noise >= 0.0),
            seed: self.seed,
            guidance_scale: Some(self.guidance_scale).filter(|scale| *scale >= 0.0),
            prompt: prompt.unwrap_or_default().to_owned(),
        }
    }

    /// The model to load for these settings.
    ///
    /// # Errors
    /// [`flashvideo::Error::Device`] for a device name that does not exist.
    pub fn request(&self) -> flashvideo::Result<ModelRequest> {
        Ok(ModelRequest {
            model: self.model().to_owned(),
            device: self.device.parse()?,
            number: self.dtype.into(),
            threads: Some(self.threads as usize).filter(|threads| *threads > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explicit_settings_win_over_the_preset() {
        let mut settings = Settings {
            preset: Preset::Live,
            ..Settings::default()
        };
        assert_eq!(
            (settings.model(), settings.steps(), settings.noise()),
            ("builtin:live", 1, 0.0)
        );
        settings.model = Some("/weights".to_owned());
        settings.steps = 3;
        settings.noise = 0.5;
        assert_eq!(
            (settings.model(), settings.steps(), settings.noise()),
            ("/weights", 3, 0.5)
        );
    }

    #[test]
    fn quality_is_left_to_the_model() {
        let settings = Settings::default();
        assert_eq!((settings.model(), settings.steps()), ("builtin", 0));
        assert!(settings.noise() < 0.0);
    }

    #[test]
    fn the_title_stands_in_for_an_empty_prompt() {
        let size = Size::new(8, 8);
        let mut settings = Settings::default();
        assert_eq!(settings.options(size, Some("a cat")).prompt, "a cat");
        settings.prompt = Some(String::new());
        assert_eq!(settings.options(size, Some("a cat")).prompt, "a cat");
        settings.prompt = Some("a dog".to_owned());
        assert_eq!(settings.options(size, Some("a cat")).prompt, "a dog");
        assert_eq!(settings.options(size, None).target, Target::Size(size));
    }
}
