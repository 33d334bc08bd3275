// SPDX-License-Identifier: MPL-2.0
//! f32 with AVX2 and FMA: tiles of pixels by two vectors of 8 channels.

use std::arch::x86_64::*;

use super::{Conv3x3, LANES, RawRow, RawSink};

/// Channels in a vector.
const WIDTH: usize = 8;
/// Vectors in a block of [`LANES`] channels.
const N: usize = LANES / WIDTH;
/// Pixels in a tile: 6 x 2 sums, 2 weights and a broadcast fill 15 of the 16 registers.
const PIXELS: usize = 6;

/// One row.
///
/// # Safety
/// As [`Activation::run_row`](super::Activation::run_row), with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn row(conv: &Conv3x3<f32>, row: &RawRow<f32>) {
    let mut pixel = 0;
    while pixel < row.width {
        let whole = row.width - pixel >= PIXELS;
        for channel in (0..conv.outputs).step_by(LANES) {
            // SAFETY: the tile's pixels and channels are inside the row.
            unsafe {
                if whole {
                    tile::<PIXELS>(conv, row, pixel, channel);
                } else {
                    tile::<1>(conv, row, pixel, channel);
                }
            }
        }
        pixel += if whole { PIXELS } else { 1 };
    }
}

/// # Safety
/// As [`row`]; `pixel + P` must be at most the width, `channel + 16` at most the outputs.
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const P: usize>(
    conv: &Conv3x3<f32>,
    row: &RawRow<f32>,
    pixel: usize,
    channel: usize,
) {
    let inputs = conv.inputs;
    // SAFETY: the window of P pixels is inside the three lines; weights of the block are 9 * inputs * 16 values; the
    // sink has the tile's values.
    unsafe {
        let mut weights = conv.weights.as_ptr().add(channel * 9 * inputs);
        let mut sums = [[_mm256_setzero_ps(); N]; P];
        for n in 0..N {
            let bias = _mm256_loadu_ps(conv.bias.as_ptr().add(channel + WIDTH * n));
            for sums in &mut sums {
                sums[n] = bias;
            }
        }
        for line in 0..3 {
            let x = row.x[line].add(pixel * inputs);
            for k in 0..3 * inputs {
                let w = [
                    _mm256_loadu_ps(weights),
                    _mm256_loadu_ps(weights.add(WIDTH)),
                ];
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*x.add(p * inputs + k));
                    for n in 0..N {
                        sums[n] = _mm256_fmadd_ps(x, w[n], sums[n]);
                    }
                }
                weights = weights.add(LANES);
            }
        }
        let at = |p: usize, n: usize| (pixel + p) * conv.outputs + channel + WIDTH * n;
        // One plain loop for each sink: unrolled, it leaves the sums in registers; a match inside would spill them.
        match row.sink {
            RawSink::Prelu { out, slope } => {
                for n in 0..N {
                    let slope = _mm256_loadu_ps(slope.add(channel + WIDTH * n));
                    for (p, sums) in sums.iter().enumerate() {
                        let scaled = _mm256_mul_ps(sums[n], slope);
                        // The sign bit of a sum selects; -0 becomes -0 or 0, which is the same.
                        let value = _mm256_blendv_ps(sums[n], scaled, sums[n]);
                        _mm256_storeu_ps(out.add(at(p, n)), value);
                    }
                }
            }
            RawSink::Add { out, skip } => {
                for n in 0..N {
                    for (p, sums) in sums.iter().enumerate() {
                        let skip = _mm256_loadu_ps(skip.add(at(p, n)));
                        _mm256_storeu_ps(out.add(at(p, n)), _mm256_add_ps(skip, sums[n]));
                    }
                }
            }
            RawSink::Step { out, base, scale } => {
                let scale = _mm256_set1_ps(scale);
                for n in 0..N {
                    for (p, sums) in sums.iter().enumerate() {
                        let value = _mm256_mul_ps(scale, sums[n]);
                        _mm256_storeu_ps(out.add(at(p, n)), value);
                    }
                }
                // What was just stored is still in the nearest cache.
                if !base.is_null() {
                    for n in 0..N {
                        for p in 0..P {
                            let base = _mm256_loadu_ps(base.add(at(p, n)));
                            let out = out.add(at(p, n));
                            _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), base));
                        }
                    }
                }
            }
        }
    }
}
