// SPDX-License-Identifier: MPL-2.0
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::cpu::elementwise::gelu_tanh;
use crate::cpu::level::CpuLevel;

/// The levels of this processor.
pub(in crate::cpu) fn levels() -> impl Iterator<Item = CpuLevel> {
    CpuLevel::ALL
        .into_iter()
        .filter(|level| *level <= CpuLevel::detected())
}

/// Random numbers.
pub(in crate::cpu) fn draw<T: Element>(rng: &mut ChaCha8Rng, len: usize, size: f32) -> Vec<T> {
    (0..len)
        .map(|_| T::from_f32(rng.random_range(-size..=size)))
        .collect()
}

/// `x W^T` in f64, and for each value the sum of the products' magnitudes, which bounds its rounding errors.
fn plain<T: Element>(x: Rows<'_, T>, weight: &[T], inputs: usize) -> Vec<(f64, f64)> {
    let mut out = Vec::new();
    for row in 0..x.count {
        let x = &x.data[row * x.stride..][..inputs];
        for weight in weight.chunks(inputs) {
            let products = x
                .iter()
                .zip(weight)
                .map(|(x, w)| f64::from(x.to_f32()) * f64::from(w.to_f32()));
            out.push(products.fold((0.0, 0.0), |(sum, all), p| (sum + p, all + p.abs())));
        }
    }
    out
}

/// Products are exact in f64; sums of n terms in any order of f32 are within n * 2^-24 of the sum of magnitudes.
fn check<T: Element>(level: CpuLevel) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let sizes = [
        (1, 2, 1),
        (1, 64, 64),
        (5, 30, 17),
        (6, 16, 48),
        (7, 1030, 65),
        (13, 96, 130),
        (241, 34, 20),
        (500, 6, 1100),
    ];
    for (count, inputs, outputs) in sizes {
        // Rows further apart than they are long, and windows that overlap.
        for stride in [inputs, inputs + 3, 2] {
            for size in [1.0, 1e-18, 1e15] {
                let data = draw::<T>(&mut rng, (count - 1) * stride + inputs, size);
                let weight = draw::<T>(&mut rng, outputs * inputs, 1.0);
                let bias = draw::<f32>(&mut rng, outputs, size);
                let x = Rows::new(&data, count, stride);
                let packed = Packed::new(level, &weight, outputs, inputs);
                let mut out = vec![f32::NAN; count * outputs];
                let cancel = CancelToken::new();
                packed
                    .multiply(x, Some(&bias), Finish::Store, &mut out, &cancel)
                    .unwrap();
                for (index, (got, (sum, all))) in
                    out.iter().zip(plain(x, &weight, inputs)).enumerate()
                {
                    let bias = f64::from(bias[index % outputs]);
                    let bound = (inputs + 2) as f64 * 2f64.powi(-24) * (all + bias.abs());
                    let error = (f64::from(*got) - sum - bias).abs();
                    // bf16 dot products flush subnormal numbers, which only the smallest inputs make.
                    assert!(
                        error <= bound + 1e-36,
                        "{level} {count}x{inputs}x{outputs}: {error} beyond {bound}"
                    );
                }
            }
        }
    }
}

#[test]
fn f32_levels_equal_the_definition() {
    levels().for_each(check::<f32>);
}

#[test]
fn bf16_levels_equal_the_definition() {
    check::<bf16>(CpuLevel::Scalar);
    check::<bf16>(CpuLevel::detected());
}

#[test]
fn finishes_equal_their_formulas_in_both_number_types() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let (count, inputs, outputs) = (9, 20, 75);
    let x = draw::<f32>(&mut rng, count * inputs, 2.0);
    let weight = draw::<f32>(&mut rng, outputs * inputs, 1.0);
    let [bias, gate] = [1.0, 3.0].map(|size| draw::<f32>(&mut rng, outputs, size));
    let base = draw::<f32>(&mut rng, count * outputs, 1.0);
    let rows = Rows::new(&x, count, inputs);
    let sums = plain(rows, &weight, inputs);
    for level in levels() {
        let packed = Packed::new(level, &weight, outputs, inputs);
        for finish in [Finish::Store, Finish::Gelu, Finish::AddGated(&gate)] {
            let want = |index: usize| {
                let sum = sums[index].0 as f32 + bias[index % outputs];
                match finish {
                    Finish::Store => sum,
                    Finish::Gelu => gelu_tanh(sum),
                    Finish::AddGated(gate) => base[index] + gate[index % outputs] * sum,
                }
            };
            let cancel = CancelToken::new();
            let mut out = base.clone();
            packed
                .multiply(rows, Some(&bias), finish, &mut out, &cancel)
                .unwrap();
            let mut half: Vec<bf16> = base.iter().copied().map(bf16::from_f32).collect();
            packed
                .multiply(rows, Some(&bias), finish, &mut half, &cancel)
                .unwrap();
            for (index, (out, half)) in out.iter().zip(&half).enumerate() {
                let want = want(index);
                assert!(
                    (out - want).abs() < 1e-4,
                    "{level} {finish:?}: {out} {want}"
                );
                let error = (half.to_f32() - want).abs();
                // The base is rounded too.
                assert!(
                    error < 0.01 * (1.0 + want.abs()),
                    "{level} {finish:?}: {half} {want}"
                );
            }
        }
    }
}

#[test]
fn infinities_and_nan_arrive() {
    for level in levels() {
        let packed = Packed::<f32>::new(level, &[1.0, 0.0, 0.0, 1.0], 2, 2);
        let x = [f32::INFINITY, 1.0, f32::NAN, 1.0, 3.0, f32::MAX];
        let mut out = [0f32; 6];
        let rows = Rows::new(&x, 3, 2);
        packed
            .multiply(rows, None, Finish::Store, &mut out, &CancelToken::new())
            .unwrap();
        assert!(
            out[0] == f32::INFINITY && out[1].is_nan() && out[2].is_nan(),
            "{out:?}"
        );
        assert_eq!(out[4..], [3.0, f32::MAX]);
    }
}

#[test]
fn packing_loses_nothing() {
    for level in CpuLevel::ALL {
        for (outputs, inputs) in [(1, 2), (16, 4), (70, 6), (130, 10)] {
            let weight: Vec<f32> = (0..outputs * inputs).map(|v| v as f32).collect();
            let packed = Packed::new(level, &weight, outputs, inputs);
            assert_eq!(packed.unpacked(), weight);
            let mut by_input = Packed::zeroed(level, outputs, inputs);
            for input in 0..inputs {
                let column: Vec<f32> = weight.iter().skip(input).step_by(inputs).copied().collect();
                by_input.set_input(input, &column);
            }
            assert_eq!(by_input.unpacked(), weight);
        }
    }
}

#[test]
fn wrong_sizes_and_a_triggered_token_are_errors() {
    let packed = Packed::<f32>::new(CpuLevel::detected(), &[1.0; 12], 3, 4);
    let run = |x: Rows<'_, f32>, out: &mut [f32], bias: Option<&[f32]>, cancel: &CancelToken| {
        packed.multiply(x, bias, Finish::Store, out, cancel)
    };
    let (x, go) = ([1.0; 8], CancelToken::new());
    assert!(run(Rows::new(&x, 2, 4), &mut [0.0; 6], None, &go).is_ok());
    assert!(run(Rows::new(&x, 2, 5), &mut [0.0; 6], None, &go).is_err());
    assert!(run(Rows::new(&x, 2, 4), &mut [0.0; 5], None, &go).is_err());
    assert!(run(Rows::new(&x, 2, 4), &mut [0.0; 6], Some(&[0.0; 2]), &go).is_err());
    let stop = CancelToken::new();
    stop.cancel();
    let stopped = run(Rows::new(&x, 2, 4), &mut [0.0; 6], None, &stop);
    assert!(stopped.unwrap_err().is_cancelled());
}
