// SPDX-License-Identifier: MPL-2.0
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Random layer and picture, and the answer by the definition: six loops in f64.
struct Case {
    rows: usize,
    width: usize,
    inputs: usize,
    outputs: usize,
    picture: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    slope: Vec<f32>,
    base: Vec<f32>,
}

impl Case {
    fn new(rows: usize, width: usize, inputs: usize, outputs: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(
            (rows * 1_000_003 + width * 1009 + inputs * 31 + outputs) as u64,
        );
        // Multiples of 1/16 are exact in bf16, so that both number types see the same layer.
        let mut draw = |len: usize| -> Vec<f32> {
            (0..len)
                .map(|_| rng.random_range(-16..=16) as f32 / 16.0)
                .collect()
        };
        Self {
            rows,
            width,
            inputs,
            outputs,
            picture: draw(rows * width * inputs),
            weight: draw(outputs * inputs * 9),
            bias: draw(outputs),
            slope: draw(outputs),
            base: draw(rows * width * outputs),
        }
    }

    fn sums(&self) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.rows * self.width * self.outputs);
        for y in 0..self.rows as isize {
            for x in 0..self.width as isize {
                for o in 0..self.outputs {
                    let mut sum = f64::from(self.bias[o]);
                    for i in 0..self.inputs {
                        for tap in 0..9isize {
                            let (sy, sx) = (y + tap / 3 - 1, x + tap % 3 - 1);
                            if (0..self.rows as isize).contains(&sy)
                                && (0..self.width as isize).contains(&sx)
                            {
                                let pixel =
                                    (sy as usize * self.width + sx as usize) * self.inputs + i;
                                let weight = self.weight[(o * self.inputs + i) * 9 + tap as usize];
                                sum += f64::from(self.picture[pixel]) * f64::from(weight);
                            }
                        }
                    }
                    out.push(sum as f32);
                }
            }
        }
        out
    }

    /// The rows with zeros around them.
    fn lines<T: Activation>(&self, padded: usize) -> Vec<Vec<T>> {
        let zero = T::from_f32(0.0);
        let mut lines = vec![vec![zero; (self.width + 2) * padded]; self.rows + 2];
        for y in 0..self.rows {
            for x in 0..self.width {
                for c in 0..self.inputs {
                    let value = self.picture[(y * self.width + x) * self.inputs + c];
                    lines[y + 1][(x + 1) * padded + c] = T::from_f32(value);
                }
            }
        }
        lines
    }

    /// Largest error of the three sinks, relative to 1 + the value.
    fn check<T: Activation>(&self, level: CpuLevel, tolerance: f32) {
        let conv = Conv3x3::<T>::new(level, &self.weight, &self.bias, self.inputs);
        let lines = self.lines::<T>(Conv3x3::<T>::padded_inputs(self.inputs));
        let row = self.width * self.outputs;
        let windows = || lines.windows(3).map(|w| [&w[0][..], &w[1], &w[2]]);
        let sums = self.sums();
        let compare = |what: &str, got: Vec<f32>, want: Vec<f32>| {
            for (index, (got, want)) in got.iter().zip(&want).enumerate() {
                let error = (got - want).abs() / (1.0 + want.abs());
                assert!(
                    error <= tolerance,
                    "{what} at {index}: {got}, expected {want} ({level}, {}x{}, {} to {} channels)",
                    self.width,
                    self.rows,
                    self.inputs,
                    self.outputs
                );
            }
        };
        // Each row by itself, for exactly as many values as it has.
        let each = |work: &RowOf<'_, T>| -> Vec<f32> {
            let rows = windows().enumerate().map(|(y, window)| {
                let mut out = vec![T::default(); row];
                work(window, y * row, &mut out);
                out
            });
            rows.flatten().map(|v| v.to_f32()).collect()
        };

        let got = each(&|window, _, out| conv.prelu(window, &self.slope, out));
        let want = sums.iter().enumerate().map(|(i, &s)| {
            if s < 0.0 {
                s * self.slope[i % self.outputs]
            } else {
                s
            }
        });
        compare("prelu", got, want.collect());

        let skip: Vec<T> = self.base.iter().map(|v| T::from_f32(*v)).collect();
        let got = each(&|window, at, out| conv.add(window, &skip[at..][..row], out));
        let want = sums.iter().zip(&self.base).map(|(s, b)| s + b);
        compare("add", got, want.collect());

        for base in [None, Some(&self.base[..])] {
            let mut out = vec![f32::NAN; sums.len()];
            for (y, (window, out)) in windows().zip(out.chunks_mut(row)).enumerate() {
                let base = base.map(|base| &base[y * row..][..row]);
                conv.step(window, base, 0.5, out);
            }
            let want = sums
                .iter()
                .enumerate()
                .map(|(i, s)| base.map_or(0.0, |b| b[i]) + 0.5 * s);
            compare("step", out, want.collect());
        }
    }
}

/// Computes the row of a window, whose values begin at an index of the picture's.
type RowOf<'a, T> = dyn Fn(Window<'_, T>, usize, &mut [T]) + 'a;

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, width) in [(1, 1), (1, 7), (5, 1), (3, 17), (4, 12), (2, 31)] {
        for (inputs, outputs) in [(17, 32), (19, 64), (64, 16), (16, 48), (32, 32), (16, 80)] {
            cases.push(Case::new(rows, width, inputs, outputs));
        }
    }
    cases
}

#[test]
fn f32_levels_equal_the_definition() {
    for level in CpuLevel::ALL
        .into_iter()
        .filter(|level| *level <= CpuLevel::detected())
    {
        for case in cases() {
            case.check::<f32>(level, 2e-5);
        }
    }
}

#[test]
fn bf16_levels_equal_the_definition() {
    // Only the result is rounded (2^-9 relative): sums are f32.
    for level in [CpuLevel::Scalar, CpuLevel::Bf16] {
        for case in cases() {
            case.check::<bf16>(level, 4e-3);
        }
    }
}

#[test]
#[should_panic]
fn lines_of_another_width_are_refused() {
    let case = Case::new(1, 8, 16, 16);
    let conv = Conv3x3::<f32>::new(CpuLevel::detected(), &case.weight, &case.bias, 16);
    let line = vec![0.0; 10 * 16];
    conv.prelu([&line, &line, &line[16..]], &case.slope, &mut [0.0; 8 * 16]);
}
