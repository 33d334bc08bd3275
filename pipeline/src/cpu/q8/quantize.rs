// SPDX-License-Identifier: MPL-2.0
//! Rows in blocks of int8 values, quantised as they come.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::cpu::conv3x3::Activation;
use crate::cpu::gemm::Rows;
use crate::cpu::level::CpuLevel;
use crate::cpu::vector::{Work, run};

/// Values that share a scale.
pub const BLOCK: usize = 32;

/// Largest magnitude of a quantised value.
const MOST: f32 = 127.0;

/// 32 values of a row: `values[k] * scale`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Q8Block {
    /// -127 to 127.
    pub values: [i8; BLOCK],
    /// NaN when a value was not finite.
    pub scale: f32,
    /// -128 times the sum of the values: what weights with 128 added make too much, negated.
    pub offset: i32,
}

impl Q8Block {
    /// The nearest block, with the largest magnitude at 127. Magnitudes below 1.5e-36, whose scale would be subnormal, are
    /// zero.
    #[inline(always)]
    pub fn of<T: Activation>(from: &[T; BLOCK]) -> Self {
        // Adding 1.5 * 2^23 rounds to an integer (ties to even) and leaves it in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;
        // As integers, magnitudes are ordered too, and NaN, which a maximum of floats would lose, is above all.
        let mut most = 0;
        for value in from {
            most = most.max(value.to_f32().abs().to_bits());
        }
        let most = f32::from_bits(most);
        let scale = most / MOST;
        let (scale, inverse) = if !most.is_finite() {
            (f32::NAN, 0.0)
        } else if scale < f32::MIN_POSITIVE {
            (0.0, 0.0)
        } else {
            (scale, MOST / most)
        };
        let mut values = [0i8; BLOCK];
        let mut sum = 0;
        for (to, value) in values.iter_mut().zip(from) {
            *to = (value.to_f32() * inverse + ROUND).to_bits() as i8;
            sum += i32::from(*to);
        }
        Self {
            values,
            scale,
            offset: -128 * sum,
        }
    }
}

/// The first `inputs` values, a multiple of [`BLOCK`], of all rows: `[rows, inputs / BLOCK]`, on all threads.
pub(super) fn rows<T: Activation>(level: CpuLevel, x: &Rows<'_, T>, inputs: usize) -> Vec<Q8Block> {
    let width = inputs / BLOCK;
    let count = x.count() * width;
    let mut blocks = Vec::with_capacity(count);
    // Nothing is cleared first: on fresh memory that would take longer than what follows.
    blocks.spare_capacity_mut()[..count]
        .par_chunks_mut(width.max(1))
        .enumerate()
        .for_each(|(row, to)| {
            let from = x.row(row, inputs);
            run(level, Row { to, from });
        });
    // SAFETY: each chunk is a row, and `Row` writes as many blocks as there are in `from`, which are `width`.
    unsafe { blocks.set_len(count) };
    blocks
}

struct Row<'a, T> {
    to: &'a mut [MaybeUninit<Q8Block>],
    from: &'a [T],
}

impl<T: Activation> Work for Row<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (from, _) = self.from.as_chunks::<BLOCK>();
        for (to, from) in self.to.iter_mut().zip(from) {
            to.write(Q8Block::of(from));
        }
    }
}
