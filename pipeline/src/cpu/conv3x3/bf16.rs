// SPDX-License-Identifier: MPL-2.0
//! bf16 weights and activations with AVX-512 BF16: pairs of products summed in f32.

use std::arch::x86_64::*;

use half::bf16;

use super::{Conv3x3, LANES, RawRow, RawSink};

/// One row.
///
/// # Safety
/// As [`Activation::run_row`](super::Activation::run_row), with AVX-512F and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn row(conv: &Conv3x3<bf16>, row: &RawRow<bf16>) {
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
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn blocks<const P: usize, const N: usize>(conv: &Conv3x3<bf16>, row: &RawRow<bf16>) {
    let mut pixel = 0;
    while pixel < row.width {
        let left = row.width - pixel;
        for channel in (0..conv.outputs).step_by(LANES * N) {
            // SAFETY: the tile's pixels and channels are inside the row.
            unsafe {
                match left {
                    left if left >= P => tile::<P, N>(conv, row, pixel, channel),
                    4.. => tile::<4, N>(conv, row, pixel, channel),
                    _ => tile::<1, N>(conv, row, pixel, channel),
                }
            }
        }
        pixel += match left {
            left if left >= P => P,
            4.. => 4,
            _ => 1,
        };
    }
}

/// # Safety
/// As [`row`]; `pixel + P` must be at most the width, `channel + 16 * N` at most the outputs.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tile<const P: usize, const N: usize>(
    conv: &Conv3x3<bf16>,
    row: &RawRow<bf16>,
    pixel: usize,
    channel: usize,
) {
    // `Conv3x3` pads its inputs to an even number, so that pairs never straddle two pixels.
    let pairs = conv.inputs / 2;
    // SAFETY: the window of P pixels is inside the three lines; weights of the block are 9 * inputs * 16 * N values;
    // the sink has the tile's values; `bf16` is 16 bits, `__m512bh` any 512 bits.
    unsafe {
        let mut weights = conv.weights.as_ptr().add(channel * 9 * conv.inputs);
        let mut sums = [[_mm512_setzero_ps(); N]; P];
        for n in 0..N {
            let bias = _mm512_loadu_ps(conv.bias.as_ptr().add(channel + LANES * n));
            for sums in &mut sums {
                sums[n] = bias;
            }
        }
        for line in 0..3 {
            let x = row.x[line].add(pixel * conv.inputs).cast::<i32>();
            for k in 0..3 * pairs {
                let mut w = [_mm512_setzero_si512(); N];
                for (n, w) in w.iter_mut().enumerate() {
                    *w = _mm512_loadu_si512(weights.add(2 * LANES * n).cast());
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(x.add(p * pairs + k).read_unaligned());
                    for n in 0..N {
                        sums[n] = _mm512_dpbf16_ps(sums[n], as_bf16(x), as_bf16(w[n]));
                    }
                }
                weights = weights.add(2 * LANES * N);
            }
        }
        let at = |p: usize, n: usize| (pixel + p) * conv.outputs + channel + LANES * n;
        // One plain loop for each sink: unrolled, it leaves the sums in registers; a match inside would spill them.
        match row.sink {
            RawSink::Prelu { out, slope } => {
                for n in 0..N {
                    let slope = _mm512_loadu_ps(slope.add(channel + LANES * n));
                    for (p, sums) in sums.iter().enumerate() {
                        let negative =
                            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(sums[n], _mm512_setzero_ps());
                        let value = _mm512_mask_mul_ps(sums[n], negative, sums[n], slope);
                        store(out.add(at(p, n)), value);
                    }
                }
            }
            RawSink::Add { out, skip } => {
                for n in 0..N {
                    for (p, sums) in sums.iter().enumerate() {
                        let skip = load(skip.add(at(p, n)));
                        store(out.add(at(p, n)), _mm512_add_ps(skip, sums[n]));
                    }
                }
            }
            RawSink::Step { out, base, scale } => {
                let scale = _mm512_set1_ps(scale);
                for n in 0..N {
                    for (p, sums) in sums.iter().enumerate() {
                        let value = _mm512_mul_ps(scale, sums[n]);
                        _mm512_storeu_ps(out.add(at(p, n)), value);
                    }
                }
                // What was just stored is still in the nearest cache.
                if !base.is_null() {
                    for n in 0..N {
                        for p in 0..P {
                            let base = _mm512_loadu_ps(base.add(at(p, n)));
                            let out = out.add(at(p, n));
                            _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), base));
                        }
                    }
                }
            }
        }
    }
}

/// The same bits as 32 bf16 values.
#[target_feature(enable = "avx512f,avx512bf16")]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute(bits) }
}

/// 16 values widened to f32.
///
/// # Safety
/// `from` must be valid for 16 values, the processor must have AVX-512F.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn load(from: *const bf16) -> __m512 {
    // SAFETY: passed on to the caller.
    let bits = unsafe { _mm256_loadu_si256(from.cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
}

/// 16 values rounded to bf16.
///
/// # Safety
/// `to` must be valid for 16 values.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn store(to: *mut bf16, values: __m512) {
    // SAFETY: passed on to the caller; both vectors are 256 bits without invalid values.
    unsafe {
        _mm256_storeu_si256(
            to.cast(),
            std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values)),
        );
    }
}
