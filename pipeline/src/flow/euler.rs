// SPDX-License-Identifier: MPL-2.0
//! The flow solver of Stage II, one for all models.
//!
//! A clip is carried along `dx/dt = v(x, t)` from the noised reference latent at t = 0 to the enhanced latent at
//! t = 1 by Euler steps on a shifted grid (FlashVideo, arXiv 2502.05179, section 3.3).

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::progress::Progress;

/// One point of the time grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowTime {
    /// Flow time in 0..=1; the evaluation happens here.
    pub t: f64,
    /// Step to the next grid point.
    pub dt: f64,
    /// Number of this evaluation, from 0.
    pub index: usize,
}

/// The velocity that carries a latent towards the enhanced clip.
pub trait VelocityField: Send + Sync {
    /// What the velocity is conditioned on: low-resolution frames, text features.
    type Condition: ?Sized + Sync;

    /// v(x, t | condition), of the shape of `x`.
    ///
    /// # Errors
    /// [`Error::Cancelled`] within 100 ms of the token being triggered, or a failed tensor operation.
    fn velocity(
        &self,
        x: &Tensor,
        at: FlowTime,
        condition: &Self::Condition,
        progress: &Progress,
    ) -> Result<Tensor>;

    /// The Euler step x + v(x, t | condition) dt. A field may compute it in one pass.
    ///
    /// # Errors
    /// As [`velocity`](Self::velocity).
    fn advance(
        &self,
        x: Tensor,
        at: FlowTime,
        condition: &Self::Condition,
        progress: &Progress,
    ) -> Result<Tensor> {
        let v = self.velocity(&x, at, condition, progress)?;
        Ok((x + (v * at.dt)?)?)
    }
}

/// The grid of `steps` evaluations with the given shift (2.5 for the release): `t = 1 - s(1-u) / (1 + (s-1)(1-u))`.
///
/// # Errors
/// [`Error::Invalid`] when `steps` is 0 or `shift` is not positive.
pub fn time_grid(steps: usize, shift: f64) -> Result<Vec<FlowTime>> {
    if steps == 0 || !shift.is_finite() || shift <= 0.0 {
        return Err(Error::invalid(format!(
            "a flow of {steps} steps with shift {shift}"
        )));
    }
    let time = |index: usize| {
        let rest = 1.0 - index as f64 / steps as f64;
        1.0 - shift * rest / (1.0 + (shift - 1.0) * rest)
    };
    Ok((0..steps)
        .map(|index| FlowTime {
            t: time(index),
            dt: time(index + 1) - time(index),
            index,
        })
        .collect())
}

/// The grid of [`time_grid`] with every operation rounded, as a script in float32 or bfloat16 computes it.
///
/// The times reach the network a thousand times as large, where a float32 has only four decimal places.
///
/// # Errors
/// As [`time_grid`].
pub fn time_grid_rounded(steps: usize, shift: f64, round: fn(f64) -> f64) -> Result<Vec<FlowTime>> {
    time_grid(steps, shift)?;
    // Like torch.linspace: in float32, and from both ends towards the middle.
    let step = 1.0 / steps as f32;
    let uniform = |index: usize| {
        if index < steps.div_ceil(2) {
            step * index as f32
        } else {
            1.0 - step * (steps - index) as f32
        }
    };
    let time = |index: usize| {
        let rest = round(1.0 - round(f64::from(uniform(index))));
        let below = round(1.0 + round((shift - 1.0) * rest));
        round(1.0 - round(round(shift * rest) / below))
    };
    Ok((0..steps)
        .map(|index| FlowTime {
            t: time(index),
            dt: round(time(index + 1) - time(index)),
            index,
        })
        .collect())
}

/// Euler steps over `grid` from `x`; calls `each` with every state x_t before its evaluation.
///
/// `each` may replace the state, which is how a window takes over the trajectory of the window before it.
///
/// # Errors
/// Those of the field, and [`Error::Cancelled`].
pub fn euler<V: VelocityField + ?Sized>(
    field: &V,
    mut x: Tensor,
    grid: &[FlowTime],
    condition: &V::Condition,
    progress: &Progress,
    mut each: impl FnMut(FlowTime, Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    for &at in grid {
        progress.check()?;
        x = each(at, x)?;
        x = field.advance(x, at, condition, progress)?;
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::schedule::{round_bf16, round_f32};
    use candle_core::Device;

    #[test]
    fn grid_of_the_release() {
        let grid = time_grid(4, 2.5).unwrap();
        let expected = [0.0, 0.117647, 0.285714, 0.545455];
        for (at, want) in grid.iter().zip(expected) {
            assert!((at.t - want).abs() < 1e-6);
        }
        let end = grid[3].t + grid[3].dt;
        assert!((end - 1.0).abs() < 1e-12);
        assert!(time_grid(0, 2.5).is_err());
    }

    #[test]
    fn rounding_stays_close() {
        for steps in 1..10 {
            let exact = time_grid(steps, 2.5).unwrap();
            let rounded = time_grid_rounded(steps, 2.5, round_f32).unwrap();
            for (a, b) in exact.iter().zip(&rounded) {
                assert!((a.t - b.t).abs() < 3e-7 && (a.dt - b.dt).abs() < 3e-7);
            }
        }
    }

    #[test]
    fn rounded_grid_of_the_release() {
        let times = |steps| {
            let grid = time_grid_rounded(steps, 2.5, round_bf16).unwrap();
            grid.iter().map(|at| at.t).collect::<Vec<_>>()
        };
        assert_eq!(times(5), [0.0, 0.09375, 0.21484375, 0.375, 0.6171875]);
        assert_eq!(
            times(6),
            [0.0, 0.078125, 0.171875, 0.28515625, 0.44921875, 0.6640625]
        );
        assert_eq!(times(7)[3..], [0.234375, 0.34375, 0.5, 0.703125]);
    }

    struct Constant;

    impl VelocityField for Constant {
        type Condition = Tensor;

        fn velocity(
            &self,
            _: &Tensor,
            _: FlowTime,
            condition: &Tensor,
            _: &Progress,
        ) -> Result<Tensor> {
            Ok(condition.clone())
        }
    }

    #[test]
    fn straight_path_is_exact_for_any_number_of_steps() {
        let x0 = Tensor::new(&[1f32, -2.0], &Device::Cpu).unwrap();
        let v = Tensor::new(&[0.5f32, 4.0], &Device::Cpu).unwrap();
        for steps in 1..=8 {
            let grid = time_grid(steps, 2.5).unwrap();
            let x1 = euler(
                &Constant,
                x0.clone(),
                &grid,
                &v,
                &Progress::none(),
                |_, x| Ok(x),
            )
            .unwrap();
            let x1 = x1.to_vec1::<f32>().unwrap();
            assert!((x1[0] - 1.5).abs() < 1e-5 && (x1[1] - 2.0).abs() < 1e-5);
        }
    }
}
