// SPDX-License-Identifier: MPL-2.0
//! Number types of activations.

use half::bf16;

use super::scalar;
use super::{Conv3x3, CpuLevel, RawRow};

/// What activations are kept as.
pub trait Cell: Copy + Default + PartialEq + Send + Sync + std::fmt::Debug + 'static {}

impl Cell for f32 {}
impl Cell for bf16 {}
/// A code of the convolutions in [`int8`](super::int8).
impl Cell for u8 {}

/// Number type of activations and weights.
pub trait Activation: Cell {
    /// Input channels that the dot product takes at once.
    const GROUP: usize;

    /// Nearest value of this type.
    fn from_f32(value: f32) -> Self;

    /// The value in f32.
    fn to_f32(self) -> f32;

    /// The fastest level at or below `level` that has a kernel for this type.
    fn supported(level: CpuLevel) -> CpuLevel;

    /// Computes one row with the kernel of the convolution's level.
    ///
    /// # Safety
    /// All pointers of `row` must be valid for what [`RawRow`] says, and the processor must have the level.
    #[doc(hidden)]
    unsafe fn run_row(conv: &Conv3x3<Self>, row: &RawRow<Self>);
}

impl Activation for f32 {
    const GROUP: usize = 1;

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    fn supported(level: CpuLevel) -> CpuLevel {
        level.min(CpuLevel::Avx512)
    }

    unsafe fn run_row(conv: &Conv3x3<Self>, row: &RawRow<Self>) {
        // SAFETY: passed on to the caller.
        unsafe {
            match conv.level() {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2 => super::avx2::row(conv, row),
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx512 => super::avx512::row(conv, row),
                _ => scalar::row(conv, row),
            }
        }
    }
}

impl Activation for bf16 {
    const GROUP: usize = 2;

    // As `bf16::from_f32`, without a branch: to the nearest, ties to even, NaN stays NaN.
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        let quiet = (bits >> 16) | 0x40;
        Self::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }

    fn supported(level: CpuLevel) -> CpuLevel {
        if level == CpuLevel::Bf16 {
            level
        } else {
            CpuLevel::Scalar
        }
    }

    unsafe fn run_row(conv: &Conv3x3<Self>, row: &RawRow<Self>) {
        // SAFETY: passed on to the caller.
        unsafe {
            match conv.level() {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Bf16 => super::bf16::row(conv, row),
                _ => scalar::row(conv, row),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_rounded_as_it_should() {
        let odd = [
            f32::NAN,
            f32::INFINITY,
            f32::MIN,
            f32::MAX,
            f32::MIN_POSITIVE,
            -0.0,
            1e-40,
        ];
        let many = (0..200_000u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)));
        let ties = (0..4096u32).map(|i| f32::from_bits((i << 16) | 0x8000));
        for value in odd.into_iter().chain(many).chain(ties) {
            let (got, want) = (<bf16 as Activation>::from_f32(value), bf16::from_f32(value));
            assert!(
                got == want || (got.is_nan() && want.is_nan()),
                "{value}: {got} {want}"
            );
        }
    }
}
