// SPDX-License-Identifier: MPL-2.0
use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::cpu::gemm::tests::{draw, levels};

/// A Q8_0 weight as it lies in a file, and its values.
struct Weight {
    outputs: usize,
    inputs: usize,
    bytes: Vec<u8>,
    values: Vec<f64>,
}

impl Weight {
    /// A weight whose values and scales are given one after another.
    fn new(
        [outputs, inputs]: [usize; 2],
        mut value: impl FnMut() -> i8,
        mut scale: impl FnMut() -> f32,
    ) -> Self {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for _ in 0..outputs * inputs / BLOCK {
            let scale = f16::from_f32(scale());
            bytes.extend(scale.to_le_bytes());
            for _ in 0..BLOCK {
                let value = value();
                bytes.push(value as u8);
                values.push(f64::from(value) * scale.to_f64());
            }
        }
        Self {
            outputs,
            inputs,
            bytes,
            values,
        }
    }

    /// Any values, -128 included, which files may have.
    fn random(rng: &mut ChaCha8Rng, shape: [usize; 2]) -> Self {
        let mut other = rng.clone();
        Self::new(shape, || rng.random(), || other.random_range(-0.01..0.01))
    }

    fn packed(&self, level: CpuLevel) -> PackedQ8 {
        PackedQ8::new(level, &self.bytes, self.outputs, self.inputs).unwrap()
    }

    /// The product in f64, output by output.
    fn times(&self, x: &[f32]) -> Vec<Sum> {
        self.values
            .chunks(self.inputs)
            .map(|weights| Sum::of(x, weights))
            .collect()
    }
}

/// What one value of a result should be.
#[derive(Default)]
struct Sum {
    /// The sum, the row being quantised.
    quantised: f64,
    /// The sum of the products' magnitudes.
    magnitude: f64,
    /// The sum without quantisation.
    plain: f64,
    /// What quantising the row may change.
    change: f64,
}

impl Sum {
    fn of(x: &[f32], weights: &[f64]) -> Self {
        let mut all = Self::default();
        let blocks = x.as_chunks::<BLOCK>().0.iter();
        for (x, weights) in blocks.zip(weights.chunks(BLOCK)) {
            let block = Q8Block::of(x);
            let most = x.iter().fold(0f64, |most, x| most.max(f64::from(x.abs())));
            for ((q, x), weight) in block.values.iter().zip(x).zip(weights) {
                let value = f64::from(*q) * f64::from(block.scale);
                all.quantised += value * weight;
                all.magnitude += (value * weight).abs();
                all.plain += f64::from(*x) * weight;
                // Half a step, a little more for the roundings of the step itself, and what is too small for a scale.
                all.change += (most / 254.0 * 1.0001 + 1.5e-36) * weight.abs();
            }
        }
        all
    }

    /// Each block is rounded when it meets the weight's scale and when it is added, the result once with its bias.
    fn check(&self, got: f32, bias: f32, blocks: usize, what: &str) {
        let bias = f64::from(bias);
        let rounding = (blocks + 2) as f64 * 2f64.powi(-24) * (self.magnitude + bias.abs()) + 1e-40;
        let error = (f64::from(got) - self.quantised - bias).abs();
        assert!(error <= rounding, "{what}: {error} beyond {rounding}");
        let error = (f64::from(got) - self.plain - bias).abs();
        let bound = rounding + self.change;
        assert!(error <= bound, "{what}: {error} beyond {bound}");
    }
}

fn product(packed: &PackedQ8, x: Rows<'_, f32>, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.count() * packed.outputs()];
    packed
        .multiply(x, bias, Finish::Store, &mut out, &CancelToken::new())
        .unwrap();
    out
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Checks all levels against the definition, and that they agree to the last bit.
fn check(weight: &Weight, x: Rows<'_, f32>, bias: &[f32]) {
    let (outputs, inputs) = (weight.outputs, weight.inputs);
    let plain = product(&weight.packed(CpuLevel::Scalar), x, Some(bias));
    let what = format!("{} rows, [{outputs}, {inputs}]", x.count());
    for (row, got) in plain.chunks(outputs).enumerate() {
        let sums = weight.times(x.row(row, inputs));
        for ((sum, got), bias) in sums.iter().zip(got).zip(bias) {
            sum.check(*got, *bias, inputs / BLOCK, &what);
        }
    }
    for level in levels() {
        let got = product(&weight.packed(level), x, Some(bias));
        assert_eq!(bits(&got), bits(&plain), "{level} {what}");
    }
}

#[test]
fn q8_levels_equal_the_definition_and_each_other() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let counts = (1..=13).map(|count| (count, 64, 35));
    let sizes = [
        (1, 32, 1),
        (2, 32, 64),
        (5, 96, 17),
        (7, 64, 47),
        (6, 3264, 48),
        (13, 1664, 130),
        (241, 32, 20),
        (490, 64, 600),
    ];
    for (count, inputs, outputs) in counts.chain(sizes) {
        let weight = Weight::random(&mut rng, [outputs, inputs]);
        // Rows further apart than they are long, and windows that overlap.
        for stride in [inputs, inputs + 3, 2] {
            for size in [1.0, 1e-30, 1e15] {
                let data = draw::<f32>(&mut rng, (count - 1) * stride + inputs, size);
                let bias = draw::<f32>(&mut rng, outputs, size);
                check(&weight, Rows::new(&data, count, stride), &bias);
            }
        }
    }
}

#[test]
fn q8_extremes_stay_within_the_bound() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let (count, inputs, outputs) = (7, 96, 21);
    let shape = [outputs, inputs];
    let zero = vec![0.0; outputs];
    for (value, scale) in [
        (127, 65504.0),
        (-128, 65504.0),
        (-127, 1.0),
        (-128, 6e-8),
        (0, 1.0),
        (1, 0.0),
    ] {
        let weight = Weight::new(shape, || value, || scale);
        for size in [1.0, 1e-36, 1e-44, 1e28] {
            // All of one sign, where sums are largest, and both in turn, where they cancel.
            for turn in [1.0, -1.0] {
                let data: Vec<f32> = (0..count * inputs)
                    .map(|k| if k % 2 == 0 { size } else { size * turn })
                    .collect();
                check(&weight, Rows::new(&data, count, inputs), &zero);
            }
        }
    }
    // The largest numbers, with weights that keep sums finite.
    let weight = Weight::new(shape, || 100, || 1e-5);
    let data = draw::<f32>(&mut rng, count * inputs, f32::MAX / 2.0);
    check(&weight, Rows::new(&data, count, inputs), &zero);
    // The sums of a block cancel, the blocks after it are small.
    let mut data = draw::<f32>(&mut rng, count * inputs, 1.0);
    for row in data.chunks_mut(inputs) {
        for (index, value) in row.iter_mut().take(BLOCK).enumerate() {
            *value = if index % 2 == 0 { 1e6 } else { -1e6 };
        }
    }
    let weight = Weight::new(shape, || 127, || 0.5);
    check(&weight, Rows::new(&data, count, inputs), &zero);
}

#[test]
fn q8_zero_rows_give_the_bias() {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let weight = Weight::random(&mut rng, [33, 64]);
    let bias = draw::<f32>(&mut rng, 33, 1.0);
    for level in levels() {
        let got = product(
            &weight.packed(level),
            Rows::new(&[0.0; 128], 2, 64),
            Some(&bias),
        );
        assert_eq!(got, [&bias[..], &bias[..]].concat(), "{level}");
    }
}

#[test]
fn q8_rows_that_are_not_finite_give_nan_and_no_other_row_does() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let (inputs, outputs) = (96, 50);
    let weight = Weight::random(&mut rng, [outputs, inputs]);
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut data = draw::<f32>(&mut rng, 8 * inputs, 1.0);
        for (row, place) in [(1, 0), (4, 50), (6, 95)] {
            data[row * inputs + place] = bad;
        }
        for level in levels() {
            let got = product(&weight.packed(level), Rows::new(&data, 8, inputs), None);
            for (row, got) in got.chunks(outputs).enumerate() {
                let lost = [1, 4, 6].contains(&row);
                assert!(got.iter().all(|value| value.is_nan() == lost), "{level}");
            }
        }
    }
}

#[test]
fn q8_finishes_and_bf16_rows_agree_at_every_level() {
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let (count, inputs, outputs) = (9, 64, 75);
    let weight = Weight::random(&mut rng, [outputs, inputs]);
    let half = draw::<bf16>(&mut rng, count * inputs, 2.0);
    let wide: Vec<f32> = half.iter().map(|value| value.to_f32()).collect();
    let [bias, gate] = [1.0, 3.0].map(|size| draw::<f32>(&mut rng, outputs, size));
    let base = draw::<f32>(&mut rng, count * outputs, 1.0);
    let cancel = CancelToken::new();
    for finish in [Finish::Store, Finish::Gelu, Finish::AddGated(&gate)] {
        let run = |level: CpuLevel| {
            let packed = weight.packed(level);
            let (mut out, mut other) = (base.clone(), base.clone());
            let rows = Rows::new(&wide, count, inputs);
            let bias = Some(&bias[..]);
            packed
                .multiply(rows, bias, finish, &mut out, &cancel)
                .unwrap();
            let rows = Rows::new(&half, count, inputs);
            packed
                .multiply(rows, bias, finish, &mut other, &cancel)
                .unwrap();
            assert_eq!(bits(&out), bits(&other), "{level} {finish:?}");
            let mut rounded: Vec<bf16> = base.iter().copied().map(bf16::from_f32).collect();
            packed
                .multiply(rows, bias, finish, &mut rounded, &cancel)
                .unwrap();
            for (rounded, out) in rounded.iter().zip(&out) {
                // What a gated sum is added to is rounded too.
                assert!((rounded.to_f32() - out).abs() < 0.01 * (1.0 + out.abs()));
            }
            out
        };
        let scalar = run(CpuLevel::Scalar);
        for level in levels() {
            assert_eq!(bits(&run(level)), bits(&scalar), "{level} {finish:?}");
        }
    }
}

#[test]
fn q8_blocks_are_the_nearest() {
    let mut rng = ChaCha8Rng::seed_from_u64(16);
    for size in [1.0, 1e-35, 1e-3, 1e20, f32::MAX / 2.0] {
        let from: [f32; BLOCK] = draw::<f32>(&mut rng, BLOCK, size).try_into().unwrap();
        let block = Q8Block::of(&from);
        let most = from.iter().fold(0f32, |most, value| most.max(value.abs()));
        assert_eq!(block.scale, most / 127.0);
        assert_eq!(
            block.values.iter().map(|q| q.unsigned_abs()).max(),
            Some(127)
        );
        let sum: i32 = block.values.iter().map(|q| i32::from(*q)).sum();
        assert_eq!(block.offset, -128 * sum);
        for (q, value) in block.values.iter().zip(from) {
            let steps = f64::from(value) / f64::from(block.scale);
            assert!((f64::from(*q) - steps).abs() < 0.500_1, "{q} {steps}");
        }
    }
    assert_eq!(Q8Block::of(&[0f32; BLOCK]), Q8Block::default());
    assert_eq!(Q8Block::of(&[-1e-37f32; BLOCK]), Q8Block::default());
    assert_eq!(Q8Block::of(&[-2f32; BLOCK]).values, [-127; BLOCK]);
}

#[test]
fn q8_weights_are_as_large_as_in_the_file() {
    let weight = Weight::new([64, 96], || 1, || 1.0);
    for level in levels() {
        let packed = weight.packed(level);
        let (lines, width) = packed.0.lines(0, 0, 3);
        let panels = 64 / width;
        assert_eq!(lines.len() * panels, weight.bytes.len(), "{level}");
    }
}

#[test]
fn q8_without_vnni_takes_a_kernel_that_the_processor_has() {
    for level in CpuLevel::ALL {
        let taken = supported(level);
        assert!(taken <= level && taken <= CpuLevel::detected());
        assert!(taken != CpuLevel::Bf16);
    }
    assert_eq!(supported(CpuLevel::Scalar), CpuLevel::Scalar);
}

#[test]
fn q8_wrong_sizes_and_a_triggered_token_are_errors() {
    let level = CpuLevel::detected();
    let bytes = vec![0; 3 * 2 * BLOCK_BYTES];
    assert!(PackedQ8::new(level, &bytes, 3, 64).is_ok());
    for (bytes, outputs, inputs) in [
        (&bytes[1..], 3, 64),
        (&bytes[..], 2, 64),
        (&bytes[..], 3, 65),
        (&bytes[..], usize::MAX, 64),
    ] {
        assert!(PackedQ8::new(level, bytes, outputs, inputs).is_err());
    }
    let packed = PackedQ8::new(level, &bytes, 3, 64).unwrap();
    let run = |x: Rows<'_, f32>, out: &mut [f32], bias: Option<&[f32]>, cancel: &CancelToken| {
        packed.multiply(x, bias, Finish::Store, out, cancel)
    };
    let (x, go) = ([1.0; 128], CancelToken::new());
    assert!(run(Rows::new(&x, 2, 64), &mut [0.0; 6], None, &go).is_ok());
    let error = run(Rows::new(&x, 2, 65), &mut [0.0; 6], None, &go).unwrap_err();
    assert!(error.to_string().contains("[3, 64]"), "{error}");
    assert!(run(Rows::new(&x, 2, 64), &mut [0.0; 5], None, &go).is_err());
    assert!(run(Rows::new(&x, 2, 64), &mut [0.0; 6], Some(&[0.0; 2]), &go).is_err());
    let gated = Finish::AddGated(&[0.0; 2]);
    let rows = Rows::new(&x, 2, 64);
    assert!(
        packed
            .multiply(rows, None, gated, &mut [0f32; 6], &go)
            .is_err()
    );
    let stop = CancelToken::new();
    stop.cancel();
    let stopped = run(Rows::new(&x, 2, 64), &mut [0.0; 6], None, &stop);
    assert!(stopped.unwrap_err().is_cancelled());
    // Nothing to do is done.
    assert!(run(Rows::new(&[], 0, 64), &mut [], None, &go).is_ok());
    let none = PackedQ8::new(level, &[], 0, 64).unwrap();
    assert!(
        none.multiply(
            Rows::new(&x, 2, 64),
            None,
            Finish::Store,
            &mut [0f32; 0],
            &go
        )
        .is_ok()
    );
    let empty = PackedQ8::new(level, &[], 2, 0).unwrap();
    let mut out = [1f32; 4];
    let rows = Rows::new(&x, 2, 0);
    empty
        .multiply(rows, None, Finish::Store, &mut out, &go)
        .unwrap();
    assert_eq!(out, [0.0; 4]);
}
