// SPDX-License-Identifier: MPL-2.0
//! Values of the properties, and what the presets stand for.

use flashvideo::{EnhanceOptions, Size, Target};

use super::Preset;
use crate::common::compute::{Compute, ComputeSettings};

pub(super) const DEFAULT_SCALE: f64 = 4.0;
pub(super) const MAX_SCALE: f64 = 16.0;
pub(super) const MAX_STEPS: u32 = flashvideo::enhance::MAX_STEPS as u32;
pub(super) const MAX_GUIDANCE_SCALE: f64 = 100.0;
pub(super) const MODEL: &str = "builtin";

const LIVE_MODEL: &str = "builtin:live";

/// A copy of all properties.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// As set by the user; `None` leaves the choice to the preset.
    pub model: Option<String>,
    pub scale: f64,
    /// `None` leaves the choice to preset and model.
    pub steps: Option<usize>,
    /// `None` leaves the choice to preset and model.
    pub noise: Option<f64>,
    pub seed: u64,
    pub prompt: Option<String>,
    /// `None` leaves the choice to the model.
    pub guidance_scale: Option<f64>,
    pub preset: Preset,
    pub bypass: bool,
    pub compute: ComputeSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: None,
            scale: DEFAULT_SCALE,
            steps: None,
            noise: None,
            seed: 0,
            prompt: None,
            guidance_scale: None,
            preset: Preset::default(),
            bypass: false,
            compute: ComputeSettings::default(),
        }
    }
}

/// What has to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelRequest {
    pub model: String,
    pub compute: Compute,
}

/// What cannot change while there is a stream, as it was when the element left READY.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    preset: Preset,
    /// The model, or the one that stays because this one cannot be had.
    pub request: ModelRequest,
}

impl Begun {
    /// A stream with these settings and this model.
    pub fn new(settings: &Settings, request: ModelRequest) -> Self {
        Self {
            preset: settings.preset,
            request,
        }
    }
}

impl Settings {
    /// The settings in force in a stream that has `begun`.
    pub fn during(mut self, begun: &Begun) -> Self {
        self.preset = begun.preset;
        self
    }

    /// Name or path of the model: the user's, else the preset's.
    pub fn model(&self) -> &str {
        match (&self.model, self.preset) {
            (Some(model), _) => model,
            (None, Preset::Live) => LIVE_MODEL,
            (None, Preset::Balanced | Preset::Quality) => MODEL,
        }
    }

    /// Function evaluations; `None` for the model's own default.
    pub fn steps(&self) -> Option<usize> {
        match (self.steps, self.preset) {
            (None, Preset::Live | Preset::Balanced) => Some(1),
            (steps, _) => steps,
        }
    }

    /// Strength of the noise; `None` for the model's own default. One evaluation cannot remove noise, so the fast presets
    /// start without it.
    pub fn noise(&self) -> Option<f64> {
        match (self.noise, self.preset) {
            (None, Preset::Live | Preset::Balanced) => Some(0.0),
            (noise, _) => noise,
        }
    }

    /// What the runtime is to do with frames that become `output` large; `title` describes the stream when there is
    /// no prompt.
    pub fn options(&self, output: Size, title: Option<&str>) -> EnhanceOptions {
        let prompt = self.prompt.as_deref().filter(|p| !p.is_empty()).or(title);
        EnhanceOptions {
            target: Target::Size(output),
            steps: self.steps(),
            noise: self.noise(),
            seed: self.seed,
            guidance_scale: self.guidance_scale,
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
            compute: self.compute.request()?,
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
            ("builtin:live", Some(1), Some(0.0))
        );
        settings.model = Some("/weights".to_owned());
        settings.steps = Some(3);
        settings.noise = Some(0.5);
        assert_eq!(
            (settings.model(), settings.steps(), settings.noise()),
            ("/weights", Some(3), Some(0.5))
        );
    }

    #[test]
    fn the_preset_of_a_stream_is_the_one_it_began_with() {
        let balanced = Settings {
            preset: Preset::Balanced,
            ..Settings::default()
        };
        let begun = Begun::new(&balanced, balanced.request().unwrap());
        let changed = Settings {
            preset: Preset::Quality,
            seed: 7,
            ..balanced
        };
        let during = changed.during(&begun);
        assert_eq!((during.preset, during.seed), (Preset::Balanced, 7));
        assert_eq!(during.steps(), Some(1));
    }

    #[test]
    fn quality_is_left_to_the_model() {
        let settings = Settings::default();
        assert_eq!((settings.model(), settings.steps()), ("builtin", None));
        assert_eq!(settings.noise(), None);
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
