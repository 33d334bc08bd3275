// SPDX-License-Identifier: MPL-2.0
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// A layer and a picture in codes.
struct Case {
    rows: usize,
    width: usize,
    weight: Vec<f32>,
    bias: Vec<f32>,
    slope: Vec<f32>,
    from: Coding,
    to: Coding,
    picture: Vec<u8>,
    stream: Vec<f32>,
}

/// All that a layer can give.
#[derive(Debug, Default, PartialEq)]
struct Results {
    prelu: Vec<u8>,
    prelu_stream: Vec<bf16>,
    add: Vec<u8>,
    add_stream: Vec<bf16>,
    steps: [Vec<f32>; 2],
}

impl Case {
    fn new(rows: usize, width: usize, inputs: usize, outputs: usize) -> Self {
        let seed = (rows * 1_000_003 + width * 1009 + inputs * 31 + outputs) as u64;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |len: usize, size: f32| -> Vec<f32> {
            (0..len).map(|_| rng.random_range(-size..=size)).collect()
        };
        let weight = draw(outputs * inputs * 9, 0.2);
        let [low, high] = [(); 2].map(|()| draw(inputs, 2.0));
        let [out_low, out_high] = [(); 2].map(|()| draw(outputs, 3.0));
        let abs = |values: &[f32]| values.iter().map(|v| v.abs()).collect::<Vec<_>>();
        let negative = |values: &[f32]| values.iter().map(|v| -v.abs()).collect::<Vec<_>>();
        Self {
            rows,
            width,
            weight,
            bias: draw(outputs, 1.0),
            slope: draw(outputs, 1.0),
            from: Coding::for_ranges(&negative(&low), &abs(&high)),
            to: Coding::for_ranges(&negative(&out_low), &abs(&out_high)),
            stream: draw(rows * width * outputs, 4.0),
            picture: (0..rows * width * inputs).map(|_| rng.random()).collect(),
        }
    }

    /// The rows with the zero points around them.
    fn lines(&self) -> Vec<Vec<u8>> {
        let inputs = self.from.channels();
        let padded = Int8Conv3x3::padded_inputs(inputs);
        // Garbage in the channels beyond the inputs: it must not matter.
        let mut border = self.from.border();
        border.resize(padded, 99);
        let mut lines = vec![border.repeat(self.width + 2); self.rows + 2];
        for (line, codes) in lines[1..]
            .iter_mut()
            .zip(self.picture.chunks(self.width * inputs))
        {
            let pixels = line[padded..].chunks_mut(padded);
            for (out, codes) in pixels.zip(codes.chunks(inputs)) {
                out[..inputs].copy_from_slice(codes);
                out[inputs..].fill(77);
            }
        }
        lines
    }

    fn run(&self, level: CpuLevel) -> Results {
        let conv = Int8Conv3x3::new(level, &self.weight, &self.bias, &self.from);
        let (lines, row) = (self.lines(), self.width * self.bias.len());
        let mut results = Results::default();
        let skips: Vec<bf16> = self.stream.iter().map(|v| bf16::from_f32(*v)).collect();
        for (y, window) in lines.windows(3).enumerate() {
            let window = [&window[0][..], &window[1], &window[2]];
            let (slope, to) = (&self.slope, &self.to);
            let (mut alone, mut codes) = (vec![0; row], vec![0; row]);
            let mut stream = vec![bf16::ZERO; row];
            conv.prelu(window, slope, to, &mut alone, None);
            conv.prelu(window, slope, to, &mut codes, Some(&mut stream));
            assert_eq!(codes, alone);
            results.prelu.extend(&codes);
            results.prelu_stream.extend(&stream);
            conv.add(
                window,
                &skips[y * row..][..row],
                to,
                &mut codes,
                &mut stream,
            );
            results.add.extend(&codes);
            results.add_stream.extend(&stream);
            let base = &self.stream[y * row..][..row];
            for (base, steps) in [None, Some(base)].into_iter().zip(&mut results.steps) {
                let mut out = vec![f32::NAN; row];
                conv.step(window, base, 0.5, &mut out);
                steps.extend(out);
            }
        }
        results
    }

    /// The convolution of what the codes stand for, in f64 with weights that are not rounded.
    fn exact(&self) -> Vec<f64> {
        let (inputs, rows, width) = (
            self.from.channels(),
            self.rows as isize,
            self.width as isize,
        );
        let mut out = Vec::new();
        for (y, x) in (0..rows).flat_map(|y| (0..width).map(move |x| (y, x))) {
            for (weight, bias) in self.weight.chunks(inputs * 9).zip(&self.bias) {
                let mut sum = f64::from(*bias);
                for tap in 0..9isize {
                    let (y, x) = (y + tap / 3 - 1, x + tap % 3 - 1);
                    if !(0..rows).contains(&y) || !(0..width).contains(&x) {
                        continue;
                    }
                    let codes = &self.picture[(y * width + x) as usize * inputs..][..inputs];
                    for (i, code) in codes.iter().enumerate() {
                        let value = (f32::from(*code) - self.from.zero[i]) * self.from.step[i];
                        sum += f64::from(weight[i * 9 + tap as usize]) * f64::from(value);
                    }
                }
                out.push(sum);
            }
        }
        out
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
fn levels_equal_the_reference_bit_for_bit() {
    for case in cases() {
        let want = case.run(CpuLevel::Scalar);
        for level in CpuLevel::ALL {
            assert_eq!(case.run(level), want, "{level}");
        }
    }
}

#[test]
fn extremes_saturate_alike() {
    let layers: [&dyn Fn(&mut Case); 6] = [
        &|case| case.picture.fill(255),
        &|case| case.picture.fill(0),
        &|case| case.weight.fill(1e30),
        &|case| case.weight.fill(0.0),
        &|case| {
            case.picture.fill(255);
            case.weight.iter_mut().for_each(|w| *w = w.signum() * 1e9);
        },
        &|case| {
            // All sums as large as they get, and outputs that hardly reach beyond zero.
            case.picture.fill(255);
            case.weight.fill(-1.0);
            case.slope.fill(0.0);
            case.to = Coding::for_ranges(&vec![0.0; 64], &vec![0.0; 64]);
        },
    ];
    for (index, change) in layers.into_iter().enumerate() {
        let mut case = Case::new(3, 13, 64, 64);
        change(&mut case);
        let want = case.run(CpuLevel::Scalar);
        for level in CpuLevel::ALL {
            assert_eq!(case.run(level), want, "{index}, {level}");
        }
        if index == 2 {
            assert!(want.add.iter().all(|code| *code == 0 || *code == 255));
        }
    }
}

#[test]
fn it_is_the_convolution() {
    for case in cases() {
        let got = &case.run(CpuLevel::detected()).steps[0];
        // Each weight is off by half a unit at most, and each input has codes up to 255.
        let widest = case.from.step.iter().fold(0f32, |m, step| m.max(*step));
        let unit = 0.2 * widest / LARGEST_WEIGHT;
        let taps = 9 * case.from.channels();
        let bound = f64::from(unit / 2.0 * LARGEST) * taps as f64 + 1e-4;
        for (got, want) in got.iter().zip(case.exact()) {
            let error = (2.0 * f64::from(*got) - want).abs();
            assert!(error <= bound, "{got}, half of {want}, bound {bound}");
        }
    }
}

#[test]
fn codings_hold_their_ranges() {
    let coding = Coding::for_ranges(&[-1.0, 0.5, -3.0, 0.0], &[3.0, 2.0, -1.0, 0.0]);
    assert_eq!(coding.border(), [64, 0, 255, 0]);
    assert!((coding.step[1] - 2.0 / 255.0).abs() < 1e-9);
    assert!((coding.step[2] - 3.0 / 255.0).abs() < 1e-9);
    assert!(coding.inverse.iter().all(|v| v.is_finite()));
    assert_eq!(Coding::uniform(2, 1.0 / 127.5, 127.5).border(), [128, 128]);
}
