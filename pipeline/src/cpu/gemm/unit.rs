// SPDX-License-Identifier: MPL-2.0
//! Number types and the kernel that each level has for them.

use half::bf16;

use super::scalar;
use super::tile::{TILE_ROWS, Tile};
use crate::cpu::conv3x3::Activation;
use crate::cpu::level::CpuLevel;

/// What the rows of a product are made of: numbers, or blocks of quantised numbers.
pub trait Unit: Copy + Send + Sync + 'static {
    /// What the packed weights are made of.
    type Weight: Copy + Default + Send + Sync + 'static;

    /// Weights of a column that one unit of a row meets.
    const WEIGHTS: usize;

    /// Computes `rows` (1 to 6) rows by `width` columns.
    ///
    /// # Safety
    /// The pointers of `tile` must be valid for that, `depth` a multiple of [`Activation::GROUP`] where units are numbers,
    /// `width` a multiple of 16 and at most the panel width of `level`, and the processor must have `level`.
    #[doc(hidden)]
    unsafe fn tile(level: CpuLevel, rows: usize, width: usize, tile: &Tile<Self, Self::Weight>);
}

/// Number type of both operands of a product.
pub trait Element: Activation + Unit<Weight = Self> {}
impl Element for f32 {}
impl Element for bf16 {}

impl Unit for f32 {
    type Weight = Self;
    const WEIGHTS: usize = 1;

    unsafe fn tile(level: CpuLevel, rows: usize, width: usize, tile: &Tile<Self>) {
        // SAFETY: passed on to the caller.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2 => super::avx2::tile(rows, tile),
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx512 => super::avx512::tile(rows, width, tile),
                _ => scalar::tile(rows, width, tile),
            }
        }
    }
}

impl Unit for bf16 {
    type Weight = Self;
    const WEIGHTS: usize = 1;

    unsafe fn tile(level: CpuLevel, rows: usize, width: usize, tile: &Tile<Self>) {
        // SAFETY: passed on to the caller.
        unsafe {
            match level {
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Bf16 => super::bf16::tile(rows, width, tile),
                _ => scalar::tile(rows, width, tile),
            }
        }
    }
}

/// Computes `count` rows by `width` columns, tile by tile.
///
/// # Safety
/// As [`Unit::tile`], for any number of rows.
#[doc(hidden)]
pub unsafe fn rows<T: Unit>(level: CpuLevel, count: usize, width: usize, tile: Tile<T, T::Weight>) {
    let tiles = count.div_ceil(TILE_ROWS);
    for index in 0..tiles {
        let first = index * TILE_ROWS;
        // SAFETY: passed on to the caller.
        unsafe {
            let mut part = tile.below(first);
            part.ahead = tile.ahead.part(index, tiles);
            T::tile(level, TILE_ROWS.min(count - first), width, &part);
        }
    }
}
