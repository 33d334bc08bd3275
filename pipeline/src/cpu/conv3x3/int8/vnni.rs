// SPDX-License-Identifier: MPL-2.0
//! AVX-512 VNNI: four products of bytes at a time, summed in i32.

use std::arch::x86_64::*;

use half::bf16;

use super::super::bf16::load;
use super::{GROUP, Int8Conv3x3, LANES, LARGEST, RawCoding, RawRow, RawSink};

/// One row.
///
/// # Safety
/// All pointers of `row` must be valid for what [`RawRow`] says, and the processor must have AVX-512F and AVX-512 VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn row(conv: &Int8Conv3x3, row: &RawRow) {
    // Pixels by vectors, as in the kernels of the other number types.
    // SAFETY: passed on to the caller.
    unsafe {
        match conv.block / LANES {
            4 => blocks::<6, 4>(conv, row),
            3 => blocks::<8, 3>(conv, row),
            2 => blocks::<12, 2>(conv, row),
            _ => blocks::<12, 1>(conv, row),
        }
    }
}

/// # Safety
/// As [`row`].
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn blocks<const P: usize, const N: usize>(conv: &Int8Conv3x3, row: &RawRow) {
    let mut pixel = 0;
    while pixel < row.width {
        let count = match row.width - pixel {
            left if left >= P => P,
            4.. => 4,
            _ => 1,
        };
        for channel in (0..conv.outputs).step_by(LANES * N) {
            // SAFETY: the tile's pixels and channels are inside the row.
            unsafe {
                match count {
                    1 => tile::<1, N>(conv, row, pixel, channel),
                    4 => tile::<4, N>(conv, row, pixel, channel),
                    _ => tile::<P, N>(conv, row, pixel, channel),
                }
            }
        }
        pixel += count;
    }
}

/// # Safety
/// As [`row`]; `pixel + P` must be at most the width, `channel + 16 * N` at most the outputs.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn tile<const P: usize, const N: usize>(
    conv: &Int8Conv3x3,
    row: &RawRow,
    pixel: usize,
    channel: usize,
) {
    // `Int8Conv3x3` pads its inputs to a multiple of four, so that groups never straddle two pixels.
    let groups = conv.inputs / GROUP;
    // SAFETY: the window of P pixels is inside the three lines; weights of the block are 9 * inputs * 16 * N values, and
    // scales and biases 16 * N; the sink has the tile's values.
    unsafe {
        let mut weights = conv.weights.as_ptr().add(channel * 9 * conv.inputs);
        let mut sums = [[_mm512_setzero_si512(); N]; P];
        for line in 0..3 {
            let x = row.x[line].add(pixel * conv.inputs).cast::<i32>();
            for k in 0..3 * groups {
                let mut w = [_mm512_setzero_si512(); N];
                for (n, w) in w.iter_mut().enumerate() {
                    *w = _mm512_loadu_si512(weights.add(GROUP * LANES * n).cast());
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(x.add(p * groups + k).read_unaligned());
                    for n in 0..N {
                        sums[n] = _mm512_dpbusd_epi32(sums[n], x, w[n]);
                    }
                }
                weights = weights.add(GROUP * LANES * N);
            }
        }
        let at = |p: usize, n: usize| (pixel + p) * conv.outputs + channel + LANES * n;
        // The loops below are too long to be unrolled, so that they take sums from memory. This copy is what they take:
        // the sums themselves stay in registers while they grow.
        let mut grown = [[_mm512_setzero_si512(); P]; N];
        for (n, grown) in grown.iter_mut().enumerate() {
            for (grown, sums) in grown.iter_mut().zip(&sums) {
                *grown = sums[n];
            }
        }
        match row.sink {
            RawSink::Prelu {
                out,
                coding,
                slope,
                stream,
            } => {
                for (n, sums) in grown.iter().enumerate() {
                    let channel = channel + LANES * n;
                    let (units, coding) =
                        (Units::load(conv, channel), Codes::load(coding, channel));
                    let slope = _mm512_loadu_ps(slope.add(channel));
                    for (p, sum) in sums.iter().enumerate() {
                        let value = units.value(*sum);
                        let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(value, _mm512_setzero_ps());
                        let value = _mm512_mask_mul_ps(value, negative, value, slope);
                        coding.store(out.add(at(p, n)), value);
                        if !stream.is_null() {
                            store(stream.add(at(p, n)), value);
                        }
                    }
                }
            }
            RawSink::Add {
                out,
                coding,
                skip,
                stream,
            } => {
                for (n, sums) in grown.iter().enumerate() {
                    let channel = channel + LANES * n;
                    let (units, coding) =
                        (Units::load(conv, channel), Codes::load(coding, channel));
                    for (p, sum) in sums.iter().enumerate() {
                        let skip = load(skip.add(at(p, n)));
                        let value = _mm512_add_ps(skip, units.value(*sum));
                        coding.store(out.add(at(p, n)), value);
                        store(stream.add(at(p, n)), value);
                    }
                }
            }
            RawSink::Step { out, base, scale } => {
                let scale = _mm512_set1_ps(scale);
                for (n, sums) in grown.iter().enumerate() {
                    let units = Units::load(conv, channel + LANES * n);
                    for (p, sum) in sums.iter().enumerate() {
                        let mut value = _mm512_mul_ps(scale, units.value(*sum));
                        if !base.is_null() {
                            value = _mm512_add_ps(value, _mm512_loadu_ps(base.add(at(p, n))));
                        }
                        _mm512_storeu_ps(out.add(at(p, n)), value);
                    }
                }
            }
        }
    }
}

/// What the sums of 16 channels stand for.
#[derive(Clone, Copy)]
struct Units {
    scale: __m512,
    bias: __m512,
}

impl Units {
    /// # Safety
    /// `conv` must have `channel + 16` outputs, the processor AVX-512F.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(conv: &Int8Conv3x3, channel: usize) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                scale: _mm512_loadu_ps(conv.scale.as_ptr().add(channel)),
                bias: _mm512_loadu_ps(conv.bias.as_ptr().add(channel)),
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn value(self, sums: __m512i) -> __m512 {
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), self.scale, self.bias)
    }
}

/// The coding of 16 channels.
#[derive(Clone, Copy)]
struct Codes {
    inverse: __m512,
    zero: __m512,
}

impl Codes {
    /// # Safety
    /// `coding` must have `channel + 16` channels, the processor AVX-512F.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(coding: RawCoding, channel: usize) -> Self {
        // SAFETY: passed on to the caller.
        unsafe {
            Self {
                inverse: _mm512_loadu_ps(coding.inverse.add(channel)),
                zero: _mm512_loadu_ps(coding.zero.add(channel)),
            }
        }
    }

    /// Stores the codes of 16 values.
    ///
    /// # Safety
    /// `to` must be valid for 16 bytes, the processor must have AVX-512F.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn store(self, to: *mut u8, values: __m512) {
        let values = _mm512_fmadd_ps(values, self.inverse, self.zero);
        // Limited as f32: what is no i32 would convert to the least one.
        let values = _mm512_max_ps(values, _mm512_setzero_ps());
        let values = _mm512_min_ps(values, _mm512_set1_ps(LARGEST));
        let codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(values));
        // SAFETY: passed on to the caller.
        unsafe { _mm_storeu_si128(to.cast(), codes) }
    }
}

/// 16 values rounded as [`super::round_bf16`] does; not every processor with VNNI has an instruction for it.
///
/// # Safety
/// `to` must be valid for 16 values, the processor must have AVX-512F.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(to: *mut bf16, values: __m512) {
    let bits = _mm512_castps_si512(values);
    let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
    let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(bits, up));
    // SAFETY: passed on to the caller.
    unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(rounded)) }
}
