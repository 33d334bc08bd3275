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

    fn plane<T: Activation>(&self, values: &[f32], channels: usize, padded: usize) -> Plane<T> {
        let mut plane = Plane::new(self.rows, self.width, padded);
        let stride = plane.stride();
        let rows = plane.rows_mut(0..self.rows);
        for y in 0..self.rows {
            for x in 0..self.width {
                for c in 0..channels {
                    rows[y * stride + (x + 1) * padded + c] =
                        T::from_f32(values[(y * self.width + x) * channels + c]);
                }
            }
        }
        plane
    }

    /// Largest error of the three sinks, relative to 1 + the value.
    fn check<T: Activation>(&self, level: CpuLevel, tolerance: f32) {
        let cancel = CancelToken::new();
        let conv = Conv3x3::<T>::new(level, &self.weight, &self.bias, self.inputs);
        let padded = Conv3x3::<T>::padded_inputs(self.inputs);
        let from = self.plane::<T>(&self.picture, self.inputs, padded);
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
        let values = |plane: &Plane<T>| -> Vec<f32> {
            (0..self.rows)
                .flat_map(|y| plane.row(y).iter().map(|v| v.to_f32()).collect::<Vec<_>>())
                .collect()
        };

        let mut to = Plane::<T>::new(self.rows, self.width, self.outputs);
        conv.prelu(&from, &self.slope, &mut to, 0..self.rows, &cancel)
            .unwrap();
        let want = sums.iter().enumerate().map(|(i, &s)| {
            if s < 0.0 {
                s * self.slope[i % self.outputs]
            } else {
                s
            }
        });
        compare("prelu", values(&to), want.collect());

        let mut to = self.plane::<T>(&self.base, self.outputs, self.outputs);
        conv.add(&from, &mut to, 0..self.rows, &cancel).unwrap();
        compare(
            "add",
            values(&to),
            sums.iter().zip(&self.base).map(|(s, b)| s + b).collect(),
        );
        let border = to.window(0)[..to.stride()]
            .iter()
            .chain(&to.window(self.rows - 1)[2 * to.stride()..]);
        assert!(
            border.into_iter().all(|v| v.to_f32() == 0.0),
            "the border was written"
        );

        for base in [None, Some(&self.base[..])] {
            let mut out = vec![f32::NAN; sums.len()];
            conv.step(&from, 0..self.rows, base, 0.5, &mut out, &cancel)
                .unwrap();
            let want = sums
                .iter()
                .enumerate()
                .map(|(i, s)| base.map_or(0.0, |b| b[i]) + 0.5 * s);
            compare("step", out, want.collect());
        }
    }
}

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
fn a_triggered_token_stops_the_layer() {
    let case = Case::new(4, 8, 16, 16);
    let conv = Conv3x3::<f32>::new(CpuLevel::detected(), &case.weight, &case.bias, 16);
    let from = case.plane::<f32>(&case.picture, 16, 16);
    let mut to = Plane::<f32>::new(4, 8, 16);
    let cancel = CancelToken::new();
    cancel.cancel();
    assert!(
        conv.add(&from, &mut to, 0..4, &cancel)
            .unwrap_err()
            .is_cancelled()
    );
    assert!((0..4).all(|y| to.row(y).iter().all(|v| *v == 0.0)));
}

#[test]
fn rows_outside_the_range_stay() {
    let case = Case::new(6, 5, 16, 16);
    let conv = Conv3x3::<f32>::new(CpuLevel::detected(), &case.weight, &case.bias, 16);
    let from = case.plane::<f32>(&case.picture, 16, 16);
    let mut to = Plane::<f32>::new(6, 5, 16);
    conv.prelu(&from, &case.slope, &mut to, 2..4, &CancelToken::new())
        .unwrap();
    for y in [0, 1, 4, 5] {
        assert!(to.row(y).iter().all(|v| *v == 0.0), "row {y}");
    }
    assert!(to.row(2).iter().any(|v| *v != 0.0));
}
