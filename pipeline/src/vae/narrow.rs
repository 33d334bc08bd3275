//! Convolutions of few channels: where a matrix product for each tap would spend its time on loading and storing sums,
//! a tile's sums stay in registers over all inputs and taps.

use crate::kernels::cpu::CpuLevel;

/// Output channels whose sums are in registers at once.
const BLOCK: usize = 4;
/// More output channels than this are left to matrix products.
pub(super) const MAX_OUTPUTS: usize = 64;
/// Values behind a tile that a kernel may read, and columns by which a row of sums may be longer than asked for.
pub(super) const SLACK: usize = 64;

/// The weights of a 3x3 convolution (times its extent in time), in the order in which the kernels read them:
/// `[outputs / 4][time][inputs][3][3][4]`.
#[derive(Debug)]
pub(super) struct Packed {
    weights: Vec<[f32; BLOCK]>,
    outputs: usize,
    level: CpuLevel,
}

/// One tile: planes of `rows + 2` rows, `pitch` values apart, `plane` values each.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub data: &'a [f32],
    pub plane: usize,
    pub pitch: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Packed {
    /// From `taps` `[time * 9, outputs, inputs]`.
    pub fn new(taps: &[f32], outputs: usize, inputs: usize, level: CpuLevel) -> Self {
        let time = taps.len() / (9 * outputs * inputs).max(1);
        let weight = |t: usize, input: usize, tap: usize, output: usize| {
            let index = ((t * 9 + tap) * outputs + output) * inputs + input;
            match output < outputs {
                true => taps.get(index).copied().unwrap_or(0.0),
                false => 0.0,
            }
        };
        let mut weights = Vec::with_capacity(outputs.div_ceil(BLOCK) * time * inputs * 9);
        for first in (0..outputs).step_by(BLOCK) {
            for t in 0..time {
                for input in 0..inputs {
                    for tap in 0..9 {
                        weights.push(std::array::from_fn(|o| weight(t, input, tap, first + o)));
                    }
                }
            }
        }
        Self {
            weights,
            outputs,
            level: level.min(CpuLevel::detected()),
        }
    }

    /// Values of the sums of one row, at least as many as the tile has columns.
    pub fn sums_pitch(columns: usize) -> usize {
        columns.next_multiple_of(SLACK)
    }

    /// The convolution of `tile`: `[outputs rounded up to 4, rows, sums_pitch]`.
    pub fn run(&self, tile: Tile<'_>, sums: &mut Vec<f32>) {
        let pitch = Self::sums_pitch(tile.columns);
        sums.clear();
        sums.resize(
            self.outputs.next_multiple_of(BLOCK) * tile.rows * pitch,
            0.0,
        );
        let taps = self.weights.len() / self.outputs.div_ceil(BLOCK).max(1);
        let planes = taps / 9;
        let needed = match planes {
            0 => 0,
            _ => (planes - 1) * tile.plane + (tile.rows + 1) * tile.pitch + pitch + 2,
        };
        assert!(tile.data.len() >= needed, "a tile without slack");
        let blocks = self.weights.chunks(taps.max(1));
        for (weights, sums) in blocks.zip(sums.chunks_mut(BLOCK * tile.rows * pitch)) {
            match self.level {
                // SAFETY: the processor has the level; `tile` was checked to hold all that is read, for columns up to
                // `pitch`, and `sums` holds BLOCK planes of rows of `pitch` values.
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx512 | CpuLevel::Bf16 => unsafe {
                    avx512::block(weights, tile, sums, pitch)
                },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                CpuLevel::Avx2 => unsafe { avx2::block(weights, tile, sums, pitch) },
                _ => scalar(weights, tile, sums, pitch),
            }
        }
    }
}

fn scalar(weights: &[[f32; BLOCK]], tile: Tile<'_>, sums: &mut [f32], pitch: usize) {
    for (plane, weights) in weights.chunks(9).enumerate() {
        for (tap, weights) in weights.iter().enumerate() {
            let first = plane * tile.plane + tap / 3 * tile.pitch + tap % 3;
            for (sums, weight) in sums.chunks_mut(tile.rows * pitch).zip(weights) {
                for (row, sums) in sums.chunks_mut(pitch).enumerate() {
                    let from = &tile.data[first + row * tile.pitch..][..tile.columns];
                    for (sum, value) in sums.iter_mut().zip(from) {
                        *sum += weight * value;
                    }
                }
            }
        }
    }
}

/// A kernel for one vector width: `V` vectors of columns by [`BLOCK`] outputs in registers.
#[cfg(target_arch = "x86_64")]
macro_rules! kernel {
    ($module:ident, $feature:literal, $lanes:literal, $vectors:literal, $zero:ident, $load:ident, $store:ident,
     $all:ident, $fma:ident) => {
        mod $module {
            use std::arch::x86_64::*;

            use super::{BLOCK, Tile};

            /// All rows and columns of one block of outputs.
            ///
            /// # Safety
            /// The processor must have the features; `tile` must hold its planes and what the last row reads for
            /// `pitch` columns; `sums` must hold [`BLOCK`] planes of rows of `pitch` values, a multiple of the columns
            /// that are computed at once.
            #[target_feature(enable = $feature)]
            pub unsafe fn block(
                weights: &[[f32; BLOCK]],
                tile: Tile<'_>,
                sums: &mut [f32],
                pitch: usize,
            ) {
                const STEP: usize = $lanes * $vectors;
                for row in 0..tile.rows {
                    let mut column = 0;
                    while column < tile.columns {
                        let from = row * tile.pitch + column;
                        let to = row * pitch + column;
                        // SAFETY: passed on to the caller; `column` + the columns of a step is at most `pitch`.
                        unsafe {
                            if tile.columns - column > STEP / 2 {
                                piece::<$vectors>(weights, tile, from, sums, to, pitch);
                                column += STEP;
                            } else {
                                piece::<{ $vectors / 2 }>(weights, tile, from, sums, to, pitch);
                                column += STEP / 2;
                            }
                        }
                    }
                }
            }

            /// # Safety
            /// As [`block`].
            #[target_feature(enable = $feature)]
            unsafe fn piece<const V: usize>(
                weights: &[[f32; BLOCK]],
                tile: Tile<'_>,
                from: usize,
                sums: &mut [f32],
                to: usize,
                pitch: usize,
            ) {
                // SAFETY: passed on to the caller.
                unsafe {
                    let mut all = [[$zero(); V]; BLOCK];
                    for (plane, weights) in weights.chunks_exact(9).enumerate() {
                        let data = tile.data.as_ptr().add(plane * tile.plane + from);
                        for dy in 0..3 {
                            let line = data.add(dy * tile.pitch);
                            for dx in 0..3 {
                                let weights = weights.get_unchecked(3 * dy + dx);
                                let mut x = [$zero(); V];
                                for (v, x) in x.iter_mut().enumerate() {
                                    *x = $load(line.add(dx + $lanes * v));
                                }
                                for (all, weight) in all.iter_mut().zip(weights) {
                                    let weight = $all(*weight);
                                    for (sum, x) in all.iter_mut().zip(x) {
                                        *sum = $fma(x, weight, *sum);
                                    }
                                }
                            }
                        }
                    }
                    let out = sums.as_mut_ptr().add(to);
                    for (output, all) in all.iter().enumerate() {
                        let out = out.add(output * tile.rows * pitch);
                        for (v, sum) in all.iter().enumerate() {
                            $store(out.add($lanes * v), *sum);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
kernel!(
    avx512,
    "avx512f",
    16,
    4,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps
);
#[cfg(target_arch = "x86_64")]
kernel!(
    avx2,
    "avx2,fma",
    8,
    2,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_levels_agree() {
        let wave = |len: usize, f: f32| (0..len).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
        for (outputs, inputs, time, rows, columns) in [
            (3, 2, 3, 2, 5),
            (16, 5, 1, 3, 33),
            (7, 4, 3, 1, 64),
            (4, 1, 3, 2, 20),
        ] {
            let taps = wave(time * 9 * outputs * inputs, 0.37);
            let (pitch, plane) = (columns + 2, (rows + 2) * (columns + 2));
            let mut data = wave(time * inputs * plane, 0.11);
            data.resize(data.len() + SLACK, f32::NAN);
            let tile = Tile {
                data: &data,
                plane,
                pitch,
                rows,
                columns,
            };
            let at = |output: usize, row: usize, column: usize| {
                let mut sum = 0.0;
                for t in 0..time {
                    for input in 0..inputs {
                        for tap in 0..9 {
                            let weight = taps[((t * 9 + tap) * outputs + output) * inputs + input];
                            let place = (t * inputs + input) * plane
                                + (row + tap / 3) * pitch
                                + column
                                + tap % 3;
                            sum += weight * data[place];
                        }
                    }
                }
                sum
            };
            for level in CpuLevel::ALL {
                let packed = Packed::new(&taps, outputs, inputs, level);
                let mut sums = Vec::new();
                packed.run(tile, &mut sums);
                let wide = Packed::sums_pitch(columns);
                for output in 0..outputs {
                    for row in 0..rows {
                        for column in 0..columns {
                            let got = sums[(output * rows + row) * wide + column];
                            let want = at(output, row, column);
                            assert!((got - want).abs() < 1e-4, "{level}: {got} for {want}");
                        }
                    }
                }
            }
        }
    }
}
