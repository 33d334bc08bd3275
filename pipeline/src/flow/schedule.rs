// SPDX-License-Identifier: MPL-2.0
//! Noise schedules with zero terminal SNR.
//!
//! A schedule is a table of signal levels `a = sqrt(abar)`: a noised sample is `a x + sqrt(1 - a^2) z`.

use crate::error::{Error, Result};

/// Training steps of the diffusion process that all tables are taken from.
pub const TRAINING_STEPS: usize = 1000;

const BETA_START: f64 = 0.000_85;
const BETA_END: f64 = 0.012;

/// The timesteps of an `n`-step table, ascending: `n` values of 0..=999.
///
/// # Errors
/// [`Error::Invalid`] unless `n` is in 2..=1000.
pub fn timesteps(n: usize) -> Result<Vec<usize>> {
    if !(2..=TRAINING_STEPS).contains(&n) {
        return Err(Error::invalid(format!(
            "a noise schedule of {n} steps; it must have 2 to {TRAINING_STEPS}"
        )));
    }
    if n == TRAINING_STEPS {
        return Ok((0..n).collect());
    }
    let last = (TRAINING_STEPS - 1) as f64;
    // The reference takes `linspace(999, 0, n, endpoint=False)` with numpy, which is start + i * step.
    let step = -last / n as f64;
    Ok((0..n)
        .rev()
        .map(|i| (last + i as f64 * step) as usize)
        .collect())
}

/// Signal levels of an `n`-step table, ascending in timestep (cleanest first, the last one is exactly 0).
///
/// `shift` moves the signal-to-noise ratio: `abar / (shift + (1 - shift) abar)`. The rescaling to zero terminal SNR
/// (Lin et al., arXiv 2305.08891) uses the ends of this very subset, so tables of different `n` are not subsets of
/// each other. Values are float32 like the reference's, from float64 products.
///
/// # Errors
/// [`Error::Invalid`] unless `n` is in 2..=1000 and `shift` is positive.
pub fn signal_levels(n: usize, shift: f64) -> Result<Vec<f32>> {
    if !shift.is_finite() || shift <= 0.0 {
        return Err(Error::invalid(format!(
            "a signal-to-noise shift of {shift}; it must be positive"
        )));
    }
    let steps = timesteps(n)?;
    let (low, high) = (BETA_START.sqrt(), BETA_END.sqrt());
    let mut product = 1.0;
    let table: Vec<f32> = (0..TRAINING_STEPS)
        .map(|i| {
            let root = low + (high - low) * i as f64 / (TRAINING_STEPS - 1) as f64;
            product *= 1.0 - root * root;
            (product / (shift + (1.0 - shift) * product)) as f32
        })
        .collect();
    let levels: Vec<f32> = steps
        .iter()
        .filter_map(|&t| table.get(t))
        .map(|a| a.sqrt())
        .collect();
    let (Some(&first), Some(&last)) = (levels.first(), levels.last()) else {
        return Err(Error::invalid("an empty noise schedule"));
    };
    let scale = first / (first - last);
    Ok(levels.into_iter().map(|a| (a - last) * scale).collect())
}

/// Index of the entry of `table` that is nearest to `level`; the first one of equals.
pub fn nearest(table: &[f32], level: f32) -> usize {
    let mut best = (0, f32::INFINITY);
    for (index, entry) in table.iter().enumerate() {
        let distance = (level - entry).abs();
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best.0
}

/// `value` rounded to the nearest float32.
pub fn round_f32(value: f64) -> f64 {
    f64::from(value as f32)
}

/// `value` rounded to the nearest bfloat16, ties to even.
pub fn round_bf16(value: f64) -> f64 {
    // All values come from f32 arithmetic or are small integers, so the way over f32 does not round twice.
    half::bf16::from_f32(value as f32).to_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timesteps_of_the_release() {
        let ts = timesteps(51).unwrap();
        assert_eq!(ts[..3], [19, 39, 58]);
        assert_eq!(ts[49..], [979, 999]);
        assert_eq!(timesteps(50).unwrap()[..2], [19, 39]);
        assert_eq!(timesteps(1000).unwrap()[675], 675);
        assert!(timesteps(1).is_err() && timesteps(1001).is_err());
    }

    #[test]
    fn levels_of_the_release() {
        let full = signal_levels(1000, 1.0).unwrap();
        for (index, want) in [
            (0, 0.999_574_9),
            (19, 0.990_459_7),
            (675, 0.263_958_72),
            (999, 0.0),
        ] {
            assert!(
                (full[index] - want).abs() < 1e-6,
                "level {index} is {}",
                full[index]
            );
        }
        let sampler = signal_levels(51, 1.0).unwrap();
        assert!((sampler[0] - 0.991_08).abs() < 1e-5);
        assert_eq!(sampler[50], 0.0);
        assert!(signal_levels(51, 0.0).is_err());
    }

    #[test]
    fn nearest_takes_the_first_of_equals() {
        assert_eq!(nearest(&[0.0, 1.0, 2.0, 3.0], 1.5), 1);
        assert_eq!(nearest(&[3.0, 2.0, 1.0], 0.0), 2);
    }

    #[test]
    fn bf16_rounds_ties_to_even() {
        assert_eq!(round_bf16(675.0), 676.0);
        assert_eq!(round_bf16(725.0), 724.0);
        assert_eq!(round_bf16(650.0), 648.0);
        assert_eq!(round_bf16(93.75), 94.0);
    }
}
