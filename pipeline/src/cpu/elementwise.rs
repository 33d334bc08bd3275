// SPDX-License-Identifier: MPL-2.0
//! Scalar functions that the compiler turns into vector code when they stand in a plain loop.
//!
//! `f32::exp` calls into libm for every element, which costs more than everything around it.

use std::f32::consts::{FRAC_2_SQRT_PI, SQRT_2};

use half::bf16;
use rayon::prelude::*;

use super::conv3x3::Activation;
use super::level::CpuLevel;
use super::vector::{Work, run};

/// e^x with a relative error below 3e-7, for any x: 0 below -87, infinity never (x is capped at 88).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    // p is in 0.7..1.5, so adding n to its exponent stays inside the normal numbers.
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// x * sigmoid(x).
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU in its tanh form: `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    // (1 + tanh(u)) / 2 is sigmoid(2u).
    const TWICE_SQRT_2_OVER_PI: f32 = FRAC_2_SQRT_PI * SQRT_2;
    let u2 = TWICE_SQRT_2_OVER_PI * (x + 0.044_715 * x * x * x);
    x / (1.0 + exp(-u2))
}

/// Values that one task converts.
const PART: usize = 1 << 14;

/// `values` rounded to bf16, on all threads.
pub fn converted(level: CpuLevel, values: &[f32]) -> Vec<bf16> {
    let mut out = vec![bf16::ZERO; values.len()];
    out.par_chunks_mut(PART)
        .zip(values.par_chunks(PART))
        .for_each(|(to, from)| run(level, Convert { to, from }));
    out
}

/// Rounds `from` to the type of `to`.
pub struct Convert<'a, T> {
    /// As many values as there are in `from`.
    pub to: &'a mut [T],
    /// What is rounded.
    pub from: &'a [f32],
}

impl<T: Activation> Work for Convert<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = T::from_f32(*from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_rounding() {
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let want = f64::from(x).exp();
            let got = f64::from(exp(x));
            assert!(
                ((got - want) / want).abs() < 3e-7,
                "exp({x}) = {got}, expected {want}"
            );
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn activations_match_their_definitions() {
        for i in -2000..2000 {
            let x = f64::from(i) * 0.01;
            let silu_want = x / (1.0 + (-x).exp());
            let gelu_want = 0.5
                * x
                * (1.0
                    + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh());
            assert!((f64::from(silu(x as f32)) - silu_want).abs() < 3e-6);
            assert!((f64::from(gelu_tanh(x as f32)) - gelu_want).abs() < 3e-6);
        }
    }
}
