//! Activations between two convolutions.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::scalar;
use super::{Conv3x3, CpuLevel, RawRow};
use crate::kernels::aligned::AlignedVec;

/// What a [`Plane`] can hold.
pub trait Cell: Copy + Default + Send + Sync + std::fmt::Debug + 'static {}

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
        bf16::from_bits(if value.is_nan() { quiet } else { rounded } as u16)
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
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

/// `rows` x `width` pixels of `channels` values (channels innermost) inside a border of one zero pixel on each side.
///
/// The border is what makes the convolution "same": it is zero from the start and never written, except that
/// [`clear_below`](Self::clear_below) renews it when fewer rows than there are hold a picture, and that
/// [`frame`](Self::frame) gives it other values.
#[derive(Debug)]
pub struct Plane<T> {
    data: AlignedVec<T>,
    rows: usize,
    width: usize,
    channels: usize,
}

impl<T: Cell> Plane<T> {
    /// A plane of zeros.
    pub fn new(rows: usize, width: usize, channels: usize) -> Self {
        Self {
            data: AlignedVec::zeroed((rows + 2) * (width + 2) * channels),
            rows,
            width,
            channels,
        }
    }

    /// Bytes of a plane of this shape.
    pub fn bytes(rows: usize, width: usize, channels: usize) -> usize {
        (rows + 2) * (width + 2) * channels * size_of::<T>()
    }

    /// Rows without the border.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Pixels in a row without the border.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Values in a pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Values from one row to the next.
    pub fn stride(&self) -> usize {
        (self.width + 2) * self.channels
    }

    /// Rows `row - 1`, `row` and `row + 1` with their borders, as one slice.
    pub(super) fn window(&self, row: usize) -> &[T] {
        &self.data[row * self.stride()..][..3 * self.stride()]
    }

    /// The rows of `range` with their borders, as one slice of `stride` values for each.
    pub fn rows_mut(&mut self, range: Range<usize>) -> &mut [T] {
        let stride = self.stride();
        &mut self.data[(range.start + 1) * stride..(range.end + 1) * stride]
    }

    /// The rows of `range` one by one, each without its border.
    pub fn par_rows_mut(
        &mut self,
        range: Range<usize>,
    ) -> impl IndexedParallelIterator<Item = &mut [T]> {
        let (stride, channels) = (self.stride(), self.channels);
        self.rows_mut(range)
            .par_chunks_exact_mut(stride)
            .map(move |row| &mut row[channels..stride - channels])
    }

    /// One row without its border.
    pub fn row(&self, row: usize) -> &[T] {
        let start = (row + 1) * self.stride() + self.channels;
        &self.data[start..][..self.width * self.channels]
    }

    /// Zeros the row below the first `rows` rows, which then is the lower border of a picture of that many rows.
    pub fn clear_below(&mut self, rows: usize) {
        let stride = self.stride();
        self.data[(rows + 1) * stride..][..stride].fill(T::default());
    }

    /// Makes every pixel of the border around the first `rows` rows `pixel`.
    pub fn frame(&mut self, rows: usize, pixel: &[T]) {
        let (stride, channels) = (self.stride(), self.channels);
        assert_eq!(pixel.len(), channels);
        let lines = &mut self.data[..(rows + 2) * stride];
        for (index, line) in lines.chunks_exact_mut(stride).enumerate() {
            if index == 0 || index == rows + 1 {
                for out in line.chunks_exact_mut(channels) {
                    out.copy_from_slice(pixel);
                }
            } else {
                line[..channels].copy_from_slice(pixel);
                line[stride - channels..].copy_from_slice(pixel);
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
