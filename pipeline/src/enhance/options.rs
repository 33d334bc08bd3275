// SPDX-License-Identifier: MPL-2.0
//! Settings of an enhancement, and what sizes can be asked for.

use crate::error::{Error, Result};
use crate::size::Size;

/// Largest side of a result.
pub(super) const MAX_SIDE: usize = 16384;
/// Largest factor on one axis.
pub(super) const MAX_SCALE: f64 = 16.0;
/// Most function evaluations.
pub const MAX_STEPS: usize = 8;
/// How large the result is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Both sides times this factor, 1 to 16.
    Scale(f64),
    /// Exactly this size, each side at most 16 times the input's.
    ///
    /// Where a side gets smaller, or none gets larger, there is nothing for a model to add: the frame is resized
    /// without one.
    Size(Size),
}

/// Settings of one enhancement. All but `target` may change between windows.
#[derive(Clone, Debug, PartialEq)]
pub struct EnhanceOptions {
    /// Size of the result.
    pub target: Target,
    /// Function evaluations, 1 to 8; `None` takes the model's own default.
    pub steps: Option<usize>,
    /// Strength of the noise at the start of the flow, in 0..=1 where 1 is the strongest that the model was trained for.
    /// `None` takes the model's own default. 0 is the faithful, deterministic mode.
    pub noise: Option<f64>,
    /// Chooses the noise; it is fixed to the picture, not redrawn for each frame.
    pub seed: u64,
    /// Guidance scale of models that read text, 0 or more; `None` takes the model's own default.
    pub guidance_scale: Option<f64>,
    /// What the clip shows, for models that read text.
    pub prompt: String,
}

impl Default for EnhanceOptions {
    fn default() -> Self {
        Self {
            target: Target::Scale(4.0),
            steps: None,
            noise: None,
            seed: 0,
            guidance_scale: None,
            prompt: String::new(),
        }
    }
}

impl EnhanceOptions {
    /// Whether all settings but the target are possible.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(steps) = self.steps
            && !(1..=MAX_STEPS).contains(&steps)
        {
            return Err(Error::invalid(format!(
                "{steps} function evaluations; use 1 to {MAX_STEPS}, or leave the number to the model"
            )));
        }
        if let Some(noise) = self.noise
            && !(0.0..=1.0).contains(&noise)
        {
            return Err(Error::invalid(format!(
                "noise of {noise}; use 0 to 1, or leave the strength to the model"
            )));
        }
        if let Some(scale) = self.guidance_scale
            && !(scale.is_finite() && scale >= 0.0)
        {
            return Err(Error::invalid(format!(
                "guidance scale of {scale}; use 0 or more, or leave the scale to the model"
            )));
        }
        Ok(())
    }
}
