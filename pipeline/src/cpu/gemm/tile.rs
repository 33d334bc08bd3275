// SPDX-License-Identifier: MPL-2.0
//! The tile: what the kernels of all levels compute.

/// Columns come in multiples of this.
pub(in crate::cpu) const LANES: usize = 16;
/// Bytes that come from memory together.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 6;

/// Sums of some rows by the columns of a panel: `sums[r][c] (+)= sum over k of x[r][k] * weights[k][c]`.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Tile<T, W = T> {
    /// First value of the first row; rows are `x_stride` apart.
    pub x: *const T,
    /// Values from a row to the next.
    pub x_stride: usize,
    /// Values of a row that take part.
    pub depth: usize,
    /// `[depth / GROUP][width][GROUP]`, or what the kernels of another [`Unit`] read.
    pub weights: *const W,
    /// Rows of sums, `sums_stride` apart.
    pub sums: *mut f32,
    /// Values from a row of sums to the next.
    pub sums_stride: usize,
    /// Whether the sums go on or start from zero.
    pub add: bool,
    /// Weights that are read next and may lie far away: the tiles bring them nearer, a part each.
    pub ahead: Ahead<W>,
}

/// Weights to be brought nearer.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Ahead<T> {
    first: *const T,
    len: usize,
}

impl<T> Ahead<T> {
    /// Nothing.
    pub const NONE: Self = Self {
        first: std::ptr::null(),
        len: 0,
    };

    pub fn new(weights: &[T]) -> Self {
        Self {
            first: weights.as_ptr(),
            len: weights.len(),
        }
    }

    /// Part `index` of `count` parts.
    pub(super) fn part(self, index: usize, count: usize) -> Self {
        let share = self.len.div_ceil(count);
        let from = (index * share).min(self.len);
        Self {
            first: self.first.wrapping_add(from),
            len: share.min(self.len - from),
        }
    }

    /// Asks for what is due when a kernel reads line `index` of its own weights.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(in crate::cpu) fn fetch(&self, index: usize) {
        /// Lines of weights that a kernel reads for each cache line that it asks for: asked for all at once they would wait for each other.
        const PACE: usize = 8;
        let first = index / PACE * (CACHE_LINE / size_of::<T>());
        if index.is_multiple_of(PACE) && first < self.len {
            // SAFETY: any address may be asked for; every x86-64 processor can.
            unsafe {
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(self.first.wrapping_add(first).cast());
            }
        }
    }
}

impl<T, W: Copy> Tile<T, W> {
    /// The tile that begins `rows` rows further down.
    ///
    /// # Safety
    /// The rows must exist.
    pub(super) unsafe fn below(self, rows: usize) -> Self {
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
