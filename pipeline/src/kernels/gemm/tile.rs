//! The tile: what the kernels of all levels compute.

use half::bf16;

use super::scalar;
use crate::kernels::conv3x3::Activation;
use crate::kernels::cpu::CpuLevel;

/// Columns come in multiples of this.
pub(super) const LANES: usize = 16;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 6;

/// Sums of some rows by the columns of a panel: `sums[r][c] (+)= sum over k of x[r][k] * weights[k][c]`.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Tile<T> {
    /// First value of the first row; rows are `x_stride` apart.
    pub x: *const T,
    /// Values from a row to the next.
    pub x_stride: usize,
    /// Values of a row that take part.
    pub depth: usize,
    /// `[depth / GROUP][width][GROUP]`.
    pub weights: *const T,
    /// Rows of sums, `sums_stride` apart.
    pub sums: *mut f32,
    /// Values from a row of sums to the next.
    pub sums_stride: usize,
    /// Whether the sums go on or start from zero.
    pub add: bool,
}

impl<T> Tile<T> {
    /// The tile that begins `rows` rows further down.
    ///
    /// # Safety
    /// The rows must exist.
    unsafe fn below(self, rows: usize) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                x: self.x.add(rows * self.x_stride),
                sums: self.sums.add(rows * self.sums_stride),
                ..self
            }
        }
    }
}

/// Number type of the operands of a product.
pub trait Element: Activation {
    /// Computes `rows` (1 to 6) rows by `width` columns.
    ///
    /// # Safety
    /// The pointers of `tile` must be valid for that, `depth` a multiple of [`Activation::GROUP`], `width` a multiple
    /// of 16 and at most the panel width of `level`, and the processor must have `level`.
    #[doc(hidden)]
    unsafe fn tile(level: CpuLevel, rows: usize, width: usize, tile: &Tile<Self>);
}

impl Element for f32 {
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

impl Element for bf16 {
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
/// As [`Element::tile`], for any number of rows.
#[doc(hidden)]
pub unsafe fn rows<T: Element>(level: CpuLevel, count: usize, width: usize, tile: Tile<T>) {
    for first in (0..count).step_by(TILE_ROWS) {
        // SAFETY: passed on to the caller.
        unsafe {
            T::tile(
                level,
                TILE_ROWS.min(count - first),
                width,
                &tile.below(first),
            )
        };
    }
}
