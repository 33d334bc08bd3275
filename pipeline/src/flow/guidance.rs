// SPDX-License-Identifier: MPL-2.0
//! Classifier-free guidance: fixed, falling and dynamic.

use candle_core::Tensor;

use crate::error::Result;

/// The guidance scale of Stage I, which changes from step to step.
///
/// The reference means a cosine ramp over the steps but feeds the 0..999 timestep where the step number was meant, so
/// that the scale jumps about in `1..=1 + strength`. The released weights were used that way; this does the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicGuidance {
    /// Strength; 6 to 8 for the release.
    pub strength: f64,
    /// Exponent of the ramp; 5 for the release.
    pub exponent: f64,
    /// Number of sampling steps.
    pub steps: usize,
}

impl DynamicGuidance {
    /// The release's ramp for `steps` steps.
    pub fn new(strength: f64, steps: usize) -> Self {
        Self {
            strength,
            exponent: 5.0,
            steps,
        }
    }

    /// The scale at `timestep` (0..=999), in float64: the argument of the cosine reaches millions.
    pub fn scale(&self, timestep: usize) -> f64 {
        let n = self.steps as f64;
        let base = (n - timestep as f64) / n;
        let ramp = if self.exponent.fract() == 0.0 && self.exponent.abs() < 64.0 {
            base.powi(self.exponent as i32)
        } else {
            base.powf(self.exponent)
        };
        1.0 + self.strength * (1.0 - (ramp * std::f64::consts::PI).cos()) / 2.0
    }
}

/// How the guidance scale follows from the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Guidance {
    /// The same scale at every step.
    Constant(f64),
    /// The strength at first, half of it below the timestep [`HALVED`](Self::HALVED), and the prompt's output alone below
    /// [`ALONE`](Self::ALONE).
    ///
    /// Guidance decides what is shown and where while there is little but noise; later it only makes things larger and
    /// shapes coarser than the network would (Kynkäänniemi et al., arXiv 2404.07724). A step with the scale 1 needs one
    /// evaluation of the network instead of two.
    Falling(f64),
    /// The release's ramp.
    Dynamic(DynamicGuidance),
}

impl Guidance {
    /// Below this timestep the scale of [`Falling`](Self::Falling) is half of the strength.
    pub const HALVED: usize = 700;
    /// Below this timestep the scale of [`Falling`](Self::Falling) is at most 1.
    pub const ALONE: usize = 300;

    /// The scale at `timestep` (0..=999).
    pub fn scale(&self, timestep: usize) -> f64 {
        match self {
            Self::Constant(scale) => *scale,
            Self::Falling(scale) if timestep >= Self::HALVED => *scale,
            Self::Falling(scale) if timestep >= Self::ALONE => scale.min((scale / 2.0).max(1.0)),
            Self::Falling(scale) => scale.min(1.0),
            Self::Dynamic(guidance) => guidance.scale(timestep),
        }
    }
}

impl From<DynamicGuidance> for Guidance {
    fn from(guidance: DynamicGuidance) -> Self {
        Self::Dynamic(guidance)
    }
}

/// `unconditional + scale * (conditional - unconditional)`.
///
/// # Errors
/// A failed tensor operation: the two must have one shape.
pub fn guide(unconditional: &Tensor, conditional: &Tensor, scale: f64) -> Result<Tensor> {
    Ok((unconditional + ((conditional - unconditional)? * scale)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn first_scales_of_the_release() {
        let guidance = DynamicGuidance::new(8.0, 51);
        for (timestep, want) in [
            (999, 8.287_003),
            (979, 4.004_147),
            (959, 2.404_340),
            (940, 5.046_174),
        ] {
            assert!(
                (guidance.scale(timestep) - want).abs() < 1e-5,
                "scale at {timestep}"
            );
        }
    }

    #[test]
    fn a_constant_scale_is_the_same_everywhere() {
        let constant = Guidance::Constant(5.0);
        assert!([0, 500, 999].iter().all(|&t| constant.scale(t) == 5.0));
        let dynamic = DynamicGuidance::new(8.0, 51);
        assert_eq!(Guidance::from(dynamic).scale(940), dynamic.scale(940));
    }

    #[test]
    fn a_falling_scale_ends_at_one_and_never_rises() {
        let scales =
            |strength| [999, 700, 699, 300, 299, 0].map(|t| Guidance::Falling(strength).scale(t));
        assert_eq!(scales(6.0), [6.0, 6.0, 3.0, 3.0, 1.0, 1.0]);
        assert_eq!(scales(1.5), [1.5, 1.5, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(scales(0.0), [0.0; 6]);
    }

    #[test]
    fn guide_at_its_ends() {
        let device = &Device::Cpu;
        let (u, c) = (
            Tensor::new(&[1f32], device).unwrap(),
            Tensor::new(&[3f32], device).unwrap(),
        );
        for (scale, want) in [(0.0, 1f32), (1.0, 3.0), (13.0, 27.0)] {
            assert_eq!(
                guide(&u, &c, scale).unwrap().to_vec1::<f32>().unwrap(),
                [want]
            );
        }
    }
}
