// SPDX-License-Identifier: MPL-2.0
//! The flow of the released Stage II: where it starts and the velocity that carries it.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::flow::euler::{self, FlowTime, VelocityField};
use crate::flow::guidance::guide;
use crate::flow::schedule::{self, TRAINING_STEPS, round_bf16, round_f32};
use crate::progress::Progress;
use crate::release::dit::{Times, Transformer};

/// Settings of the flow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowOptions {
    /// Function evaluations, 4 to 6.
    pub steps: usize,
    /// Shift of the time grid, 2 to 3.5.
    pub shift: f64,
    /// Guidance scale, 10 to 13.
    pub guidance: f64,
    /// Step of the noise schedule that the reference is noised to, 650 to 750.
    pub noise_step: usize,
    /// Rounds grid, timesteps and states to bfloat16 as the released script does.
    pub bf16_grid: bool,
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self {
            steps: 5,
            shift: 2.5,
            guidance: 13.0,
            noise_step: 675,
            bf16_grid: false,
        }
    }
}

impl FlowOptions {
    /// The time grid.
    ///
    /// # Errors
    /// As [`euler::time_grid`].
    pub fn grid(&self) -> Result<Vec<FlowTime>> {
        euler::time_grid_rounded(self.steps, self.shift, self.rounding())
    }

    /// The reference computes times in the type of its latents.
    fn rounding(&self) -> fn(f64) -> f64 {
        if self.bf16_grid {
            round_bf16
        } else {
            round_f32
        }
    }

    /// What the network receives as timestep at flow time `t`.
    pub fn timestep(&self, t: f64) -> f64 {
        let round = self.rounding();
        round(1000.0 - round(1000.0 * t))
    }

    /// What the network receives as noise step of the reference.
    pub fn reference_step(&self) -> f64 {
        self.rounding()(self.noise_step as f64)
    }

    /// Signal level of the noised reference.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a noise step of 1000 or more.
    pub fn level(&self) -> Result<f32> {
        let table = schedule::signal_levels(TRAINING_STEPS, 1.0)?;
        table.get(self.noise_step).copied().ok_or_else(|| {
            Error::invalid(format!(
                "a noise step of {}; it must be below {TRAINING_STEPS}",
                self.noise_step
            ))
        })
    }

    /// Where the flow starts: the reference latent with `noise` of the same shape.
    ///
    /// # Errors
    /// As [`level`](Self::level), or a failed tensor operation.
    pub fn start(&self, reference: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let level = f64::from(self.level()?);
        let x = ((reference * level)? + (noise * (1.0 - level * level).sqrt())?)?;
        Ok(if self.bf16_grid {
            x.to_dtype(DType::BF16)?
        } else {
            x
        })
    }
}

/// The guided velocity of a transformer; the condition is the prompt's features `[1, length, width]`.
pub struct GuidedField<'a> {
    dit: &'a Transformer,
    options: FlowOptions,
}

impl<'a> GuidedField<'a> {
    /// The velocity of `dit`.
    pub fn new(dit: &'a Transformer, options: FlowOptions) -> Self {
        Self { dit, options }
    }
}

impl VelocityField for GuidedField<'_> {
    type Condition = Tensor;

    fn velocity(
        &self,
        x: &Tensor,
        at: FlowTime,
        context: &Tensor,
        progress: &Progress,
    ) -> Result<Tensor> {
        let times = Times {
            timestep: self.options.timestep(at.t),
            reference_step: self.options.reference_step(),
        };
        let scale = self.options.guidance;
        let (without, with) = self.dit.both(x, times, context, scale, progress)?;
        guide(
            &without.to_dtype(x.dtype())?,
            &with.to_dtype(x.dtype())?,
            scale,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn rounded_timesteps_of_the_release() {
        let options = FlowOptions {
            bf16_grid: true,
            ..FlowOptions::default()
        };
        let timesteps: Vec<f64> = options
            .grid()
            .unwrap()
            .iter()
            .map(|at| options.timestep(at.t))
            .collect();
        assert_eq!(timesteps, [1000.0, 904.0, 784.0, 624.0, 384.0]);
        assert_eq!(options.reference_step(), 676.0);
        let exact = FlowOptions::default();
        assert!((exact.timestep(exact.grid().unwrap()[1].t) - 909.0909).abs() < 1e-3);
    }

    #[test]
    fn the_start_has_the_level_of_its_noise_step() {
        let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
        let value = |reference: f64, noise: f64| {
            let start = FlowOptions::default()
                .start(&(&one * reference).unwrap(), &(&one * noise).unwrap());
            start.unwrap().to_vec1::<f32>().unwrap()[0]
        };
        assert!((value(1.0, 0.0) - 0.263_958_72).abs() < 1e-6);
        assert!(
            (value(3.0, 4.0).powi(2) - (3.0f32 * 0.263_958_72 + 4.0 * 0.964_533_9).powi(2)).abs()
                < 1e-4
        );
        let beyond = FlowOptions {
            noise_step: 1000,
            ..FlowOptions::default()
        };
        assert!(beyond.level().is_err());
    }
}
