// SPDX-License-Identifier: MPL-2.0
//! f32 with AVX-512F: tiles of pixels by up to four vectors of 16 channels.

use std::arch::x86_64::*;

use super::{Conv3x3, LANES, RawRow, RawSink};

/// One row.
///
/// # Safety
/// As [`Activation::run_row`](super::Activation::run_row), with AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn row(conv: &Conv3x3<f32>, row: &RawRow<f32>) {
    // Pixels by vectors: 24 sums (12 for a lone vector), the weights and a broadcast fill the 32 registers.
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
#[target_feature(enable = "avx512f")]
unsafe fn blocks<const P: usize, const N: usize>(conv: &Conv3x3<f32>, row: &RawRow<f32>) {
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
#[target_feature(enable = "avx512f")]
unsafe fn tile<const P: usize, const N: usize>(
    conv: &Conv3x3<f32>,
    row: &RawRow<f32>,
    pixel: usize,
    channel: usize,
) {
    let inputs = conv.inputs;
    // SAFETY: the window of P pixels is inside the three lines; weights of the block are 9 * inputs * 16 * N values;
    // the sink has the tile's values.
    unsafe {
        let mut weights = conv.weights.as_ptr().add(channel * 9 * inputs);
        let mut sums = [[_mm512_setzero_ps(); N]; P];
        for n in 0..N {
            let bias = _mm512_loadu_ps(conv.bias.as_ptr().add(channel + LANES * n));
            for sums in &mut sums {
                sums[n] = bias;
            }
        }
        for line in 0..3 {
            let x = row.x[line].add(pixel * inputs);
            for k in 0..3 * inputs {
                let mut w = [_mm512_setzero_ps(); N];
                for (n, w) in w.iter_mut().enumerate() {
                    *w = _mm512_loadu_ps(weights.add(LANES * n));
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*x.add(p * inputs + k));
                    for n in 0..N {
                        sums[n] = _mm512_fmadd_ps(x, w[n], sums[n]);
                    }
                }
                weights = weights.add(LANES * N);
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
                        _mm512_storeu_ps(out.add(at(p, n)), value);
                    }
                }
            }
            RawSink::Add { out, skip } => {
                for n in 0..N {
                    for (p, sums) in sums.iter().enumerate() {
                        let skip = _mm512_loadu_ps(skip.add(at(p, n)));
                        _mm512_storeu_ps(out.add(at(p, n)), _mm512_add_ps(skip, sums[n]));
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
