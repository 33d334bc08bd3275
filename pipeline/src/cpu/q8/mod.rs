// SPDX-License-Identifier: MPL-2.0
//! Products of f32 or bf16 rows with Q8_0 weights in int8: `y = x W^T + b` without widening the weights.
//!
//! A Q8_0 block (GGUF) is 32 int8 values of a row of the weight with one f16 scale. Rows are quantised the same way as they
//! come, 32 values at a time, symmetrically and to the nearest, with an f32 scale. The dot product of two blocks is exact in
//! i32; times the scale of the weight's block it is rounded once, and one multiply-add with the scale of the row's block
//! adds it to the f32 sum. All levels do this in the same order and agree bit for bit.
//!
//! The instruction for int8 dot products (AVX-512 VNNI) wants one operand without sign. Weights are packed with 128 added,
//! and 128 times the sum of the row's block, which is the same for all columns, is what the i32 sum starts from, negated.
//!
//! The loops over rows, columns and depth are those of [`gemm`](super::gemm), whose units are blocks here.
//!
//! **Error.** Against the product of the same rows with the dequantised weight, a block of a row whose largest magnitude is
//! m contributes at most m / 254 times the sum of its weights' magnitudes, beside the rounding of f32 sums: n blocks,
//! n * 2^-24 of the sum of the magnitudes. Blocks of magnitudes below 1.5e-36 count as zero.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod pack;
mod quantize;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use super::gemm::{Finish, Number, Packed, Rows, Tile, Unit, check_sizes};
use super::level::CpuLevel;
use crate::error::Result;
use crate::progress::CancelToken;

pub use self::quantize::{BLOCK, Q8Block};

/// Bytes of a block of weights: 32 values and the scale.
const BLOCK_BYTES: usize = BLOCK + 2;
/// Values that a dot product takes at once.
const GROUP: usize = 4;
/// Such groups of a block.
const GROUPS: usize = BLOCK / GROUP;

/// A Q8_0 weight `[outputs, inputs]` in the order of the kernels, as large as in the file.
///
/// For each panel of columns and block of 32 inputs there are `[8][columns][4]` values and `[columns]` scales in f16.
#[derive(Debug)]
pub struct PackedQ8(Packed<Q8Block, u8>);

impl PackedQ8 {
    /// The level whose kernel runs.
    pub fn level(&self) -> CpuLevel {
        self.0.level()
    }

    /// Features that go in.
    pub fn inputs(&self) -> usize {
        self.0.inputs() * BLOCK
    }

    /// Features that come out.
    pub fn outputs(&self) -> usize {
        self.0.outputs()
    }

    /// `out` = `finish`(`x` W^T + `bias`), rows of `out` being [`outputs`](Self::outputs) long. A value of `x` that is not
    /// finite makes its whole row of `x` W^T NaN.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when sizes do not fit together,
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn multiply<T: Number, O: Number>(
        &self,
        x: Rows<'_, T>,
        bias: Option<&[f32]>,
        finish: Finish<'_>,
        out: &mut [O],
        cancel: &CancelToken,
    ) -> Result<()> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        check_sizes(&x, [outputs, inputs], bias, finish, out.len())?;
        cancel.check()?;
        let blocks = quantize::rows(self.level(), &x, inputs);
        let x = Rows::new(&blocks, x.count(), inputs / BLOCK);
        self.0.multiply(x, bias, finish, out, cancel)
    }
}

impl Unit for Q8Block {
    type Weight = u8;
    const WEIGHTS: usize = BLOCK_BYTES;

    unsafe fn tile(level: CpuLevel, rows: usize, width: usize, tile: &Tile<Self, u8>) {
        // SAFETY: passed on to the caller.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx512 => vnni::tile(rows, width, tile),
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2 => avx2::tile(rows, tile),
                _ => scalar::tile(rows, width, tile),
            }
        }
    }
}

/// The fastest level at or below `level` whose kernel this processor has: AVX-512 counts where it has VNNI.
fn supported(level: CpuLevel) -> CpuLevel {
    #[cfg(target_arch = "x86_64")]
    {
        if level.has_vnni() {
            return CpuLevel::Avx512;
        }
        if level.has_f16c() {
            return CpuLevel::Avx2;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = level;
    CpuLevel::Scalar
}
