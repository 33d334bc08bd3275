// SPDX-License-Identifier: MPL-2.0
//! The sampler of Stage I: DPM-Solver++(2M) in its SDE form, on a v-predicting network.
//!
//! Lu et al., arXiv 2211.01095, with the details that the released weights were sampled with: levels are snapped to
//! the training table for the prediction but not for the step, and the multi-step memory holds the guided prediction.

use candle_core::Tensor;

use crate::error::Result;
use crate::flow::guidance::{Guidance, guide};
use crate::flow::schedule;
use crate::progress::{Event, Progress};

/// One step of the sampler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SdeStep {
    /// Number of the step, from 0.
    pub index: usize,
    /// What the network receives, 0..=999.
    pub timestep: usize,
    /// Signal level before the step.
    pub level: f32,
    /// Signal level after the step; 1 after the last.
    pub next: f32,
    /// `level` snapped to the nearest entry of the training table; this goes into the prediction.
    pub snapped: f32,
    /// Guidance scale.
    pub guidance: f64,
}

/// What a step computed; for inspection.
#[derive(Clone, Debug)]
pub struct SdeState {
    /// The step.
    pub step: SdeStep,
    /// Prediction of the clean sample without the prompt.
    pub unconditional: Tensor,
    /// Prediction of the clean sample with the prompt.
    pub conditional: Tensor,
    /// The two joined by the guidance scale.
    pub denoised: Tensor,
    /// The sample after the step.
    pub x: Tensor,
}

/// The steps of a whole sampling, noisiest first.
#[derive(Clone, Debug, PartialEq)]
pub struct SdeSchedule {
    steps: Vec<SdeStep>,
}

impl SdeSchedule {
    /// `steps` steps, which a dynamic `guidance` should have too; `shift` for the sampler's table, `training_shift` for the
    /// 1000-entry table (both 1 in the release).
    ///
    /// # Errors
    /// As [`schedule::signal_levels`].
    pub fn new(
        steps: usize,
        guidance: impl Into<Guidance>,
        shift: f64,
        training_shift: f64,
    ) -> Result<Self> {
        let guidance = guidance.into();
        let timesteps = schedule::timesteps(steps)?;
        let levels = schedule::signal_levels(steps, shift)?;
        let table = schedule::signal_levels(schedule::TRAINING_STEPS, training_shift)?;
        let following = levels.iter().rev().skip(1).copied().chain([1.0]);
        let steps = timesteps
            .iter()
            .rev()
            .zip(levels.iter().rev().zip(following))
            .enumerate();
        Ok(Self {
            steps: steps
                .map(|(index, (&timestep, (&level, next)))| SdeStep {
                    index,
                    timestep,
                    level,
                    next,
                    snapped: table
                        .get(schedule::nearest(&table, level))
                        .copied()
                        .unwrap_or(level),
                    guidance: guidance.scale(timestep),
                })
                .collect(),
        })
    }

    /// The steps, noisiest first.
    pub fn steps(&self) -> &[SdeStep] {
        &self.steps
    }
}

/// Logarithm of the signal-to-noise amplitude ratio; minus infinity at level 0.
fn log_ratio(level: f64) -> f64 {
    (level * level / (1.0 - level * level)).sqrt().ln()
}

/// Runs all steps from the gaussian `x`.
///
/// `velocity` gives the network's output without and with the prompt, in this order; `noise` the gaussian that
/// enters a step (not called for the last one); `each` sees every step's result.
///
/// # Errors
/// Those of the closures, and [`Error::Cancelled`](crate::Error::Cancelled).
pub fn sample(
    schedule: &SdeSchedule,
    mut x: Tensor,
    mut velocity: impl FnMut(&Tensor, &SdeStep) -> Result<(Tensor, Tensor)>,
    mut noise: impl FnMut(&SdeStep) -> Result<Tensor>,
    progress: &Progress,
    mut each: impl FnMut(&SdeState) -> Result<()>,
) -> Result<Tensor> {
    let count = schedule.steps.len();
    progress.emit(Event::Started {
        step: "sample",
        total: Some(count as u64),
    });
    let mut before: Option<(f64, Tensor)> = None;
    for step in &schedule.steps {
        progress.check()?;
        let (vu, vc) = velocity(&x, step)?;
        let snapped = f64::from(step.snapped);
        let spread = (1.0 - snapped * snapped).sqrt();
        let signal = (&x * snapped)?;
        let unconditional = (&signal - (vu * spread)?)?;
        let conditional = (&signal - (vc * spread)?)?;
        let denoised = guide(&unconditional, &conditional, step.guidance)?;
        x = if step.index + 1 == count {
            denoised.clone()
        } else {
            let (a, b) = (f64::from(step.level), f64::from(step.next));
            let h = log_ratio(b) - log_ratio(a);
            // At level 0 h is infinite; all factors below then take their limits.
            let keep = ((1.0 - b * b) / (1.0 - a * a)).sqrt() * (-h).exp();
            let pull = -(-2.0 * h).exp_m1() * b;
            let stir = (1.0 - b * b).sqrt() * (-(-2.0 * h).exp_m1()).sqrt();
            let target = match &before {
                None => denoised.clone(),
                Some((level, last)) => {
                    let weight = h / (2.0 * (log_ratio(a) - log_ratio(*level)));
                    ((&denoised * (1.0 + weight))? - (last * weight)?)?
                }
            };
            (((x * keep)? + (target * pull)?)? + (noise(step)? * stir)?)?
        };
        before = Some((f64::from(step.level), denoised.clone()));
        each(&SdeState {
            step: *step,
            unconditional,
            conditional,
            denoised,
            x: x.clone(),
        })?;
        progress.emit(Event::Advanced {
            step: "sample",
            done: step.index as u64 + 1,
        });
    }
    progress.emit(Event::Finished { step: "sample" });
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::guidance::DynamicGuidance;
    use crate::progress::CancelToken;
    use candle_core::{DType, Device};

    /// A network that knows the clean sample finds it exactly, whatever the noise.
    #[test]
    fn a_perfect_network_is_followed_to_the_end() {
        let device = &Device::Cpu;
        let clean = Tensor::new(&[0.5f32, -1.5, 2.0], device).unwrap();
        let schedule = SdeSchedule::new(12, DynamicGuidance::new(8.0, 12), 1.0, 1.0).unwrap();
        let start = Tensor::new(&[1f32, 1.0, -1.0], device).unwrap();
        let mut draws = 0;
        let x = sample(
            &schedule,
            start,
            |x, step| {
                // v such that level * x - sqrt(1 - level^2) * v is the clean sample.
                let a = f64::from(step.snapped);
                let v = (((x * a)? - &clean)? / (1.0 - a * a).sqrt())?;
                Ok((v.clone(), v))
            },
            |_| {
                draws += 1;
                Ok(Tensor::ones(3, DType::F32, device)?)
            },
            &Progress::none(),
            |state| {
                assert!(
                    state
                        .x
                        .to_vec1::<f32>()
                        .unwrap()
                        .iter()
                        .all(|v| v.is_finite())
                );
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(draws, 11);
        let error = (x - clean)
            .unwrap()
            .abs()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap();
        assert!(error < 1e-5, "{error}");
    }

    #[test]
    fn cancelling_stops_before_the_next_step() {
        let cancel = CancelToken::new();
        let schedule = SdeSchedule::new(4, DynamicGuidance::new(8.0, 4), 1.0, 1.0).unwrap();
        let x = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let mut calls = 0;
        let result = sample(
            &schedule,
            x.clone(),
            |x, _| {
                calls += 1;
                cancel.cancel();
                Ok((x.clone(), x.clone()))
            },
            |_| Ok(x.clone()),
            &Progress::with_cancel(cancel.clone()),
            |_| Ok(()),
        );
        assert!(result.unwrap_err().is_cancelled());
        assert_eq!(calls, 1);
    }
}
