// SPDX-License-Identifier: MPL-2.0
//! The compact models in int8.

use super::super::cpu::buffers::copied;
use super::super::cpu::chain::Input;
use super::super::cpu::chain::tests::with_evaluation;
use super::super::cpu::int8::Int8Chain;
use super::super::cpu::state::State;
use super::*;
use crate::cpu::conv3x3::bands::tests::{SIZES, assert_bands_equal, layer_by_layer};
use crate::cpu::s2d::LATENT;

/// The model in int8 on any processor.
pub(super) fn rounded(model: CpuModel) -> CpuModel {
    let chain = model.int8_chain().unwrap();
    model.with_int8(chain)
}

/// A small random model whose channels are taken to lie from -2 to 2.
fn random_with_ranges(residual: bool, frames: usize) -> CpuModel {
    let config = small(residual, frames);
    let mut tensors = random_tensors(&config, 21);
    let shape = vec![config.layers + 1, 2, config.channels];
    let values = [-2.0, 2.0].map(|v| vec![v; config.channels]).concat();
    tensors.push(("ranges".into(), shape, values.repeat(config.layers + 1)));
    let level = CpuLevel::detected().min(CpuLevel::Avx512);
    rounded(parse(&write(&tensors, metadata(&config)), level))
}

#[test]
fn int8_bands_equal_layers() {
    for residual in [false, true] {
        let model = random_with_ranges(residual, 3);
        for level in [CpuLevel::Scalar, CpuLevel::detected()] {
            let chain = Int8Chain::new(model.net(), level).unwrap();
            for size in SIZES {
                with_evaluation(&chain, size, 3, |evaluation| {
                    assert_bands_equal(evaluation, size, LATENT);
                    let result = layer_by_layer(evaluation, size, LATENT);
                    assert!(result.iter().all(|v| v.is_finite()));
                });
            }
        }
    }
}

#[test]
fn int8_is_for_the_start_of_a_flow_without_noise() {
    let model = random_with_ranges(true, 1);
    let float = random(true, 1);
    let size = Size::new(8, 6);
    let luma: Vec<f32> = (0..48).map(|i| (i * 37 % 48) as f32 / 48.0).collect();
    let input = Input {
        size,
        state: State::Latent(&[0.25; 48 * LATENT]),
        frames: &[&luma],
    };
    for (t, sigma, same) in [(0.0, 0.0, false), (0.25, 0.0, true), (0.0, 0.1, true)] {
        let velocity = |model: &CpuModel| {
            let mut out = vec![0.0; 48 * LATENT];
            let (rows, cancel) = (copied(&mut out, size.height), CancelToken::new());
            model
                .step((t, sigma), 1.0, input, true, rows, &cancel)
                .unwrap();
            out
        };
        let (int8, f32) = (velocity(&model), velocity(&float));
        assert_eq!(int8 == f32, same, "t {t}, sigma {sigma}");
        for (int8, f32) in int8.iter().zip(&f32) {
            assert!((int8 - f32).abs() < 0.1, "{int8} {f32}");
        }
    }
}

#[test]
fn int8_without_ranges_is_refused() {
    let level = CpuLevel::detected();
    let cpu = Cpu { level, int8: true };
    let net = |model: CpuModel| Net::clone(model.net());
    let error = CompactModel::new(Arc::new(net(random(false, 1))), level, &cpu).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("no calibrated ranges"), "{error}");
    let ranges = net(random_with_ranges(false, 1));
    assert!(CompactModel::new(Arc::new(ranges), level, &cpu).is_ok());
    let config = small(false, 1);
    let mut tensors = random_tensors(&config, 3);
    tensors.push(("ranges".into(), vec![1, 2, 16], vec![0.0; 32]));
    let bytes = write(&tensors, metadata(&config));
    let error = Net::parse(&bytes, Path::new("model")).unwrap_err();
    let want = "ranges is [1, 2, 16], expected [3, 2, 16]";
    assert!(error.to_string().contains(want), "{error}");
}

/// 96x64 pixels of luma of a frame of examples/media/towers.mp4.
#[cfg(feature = "builtin")]
const TOWERS: &[u8] = include_bytes!("../../../tests/data/towers-96x64.gray");

#[cfg(feature = "builtin")]
#[test]
fn built_in_models_in_int8_stay_near_f32() {
    use super::built_in::samples;
    let size = Size::new(96, 64);
    let frame = Frame::new(
        FrameFormat::gray(),
        size,
        vec![Samples::U8(TOWERS.to_vec())],
    )
    .unwrap();
    for b in crate::checkpoint::builtin::ENHANCERS {
        let model = || parse(b.bytes, CpuLevel::detected().min(CpuLevel::Avx512));
        let target = Size::new(384, 256);
        let [f32, int8] =
            [model(), rounded(model())].map(|m| enlarged(&whole(m), &frame, target, 1, 0.0, 1));
        let ((f32, _), (int8, _)) = (samples(&f32, 0), samples(&int8, 0));
        let differences = f32.iter().zip(int8).map(|(a, b)| f64::from(a.abs_diff(*b)));
        let largest = differences.clone().fold(0.0, f64::max);
        let rms = (differences.map(|d| d * d).sum::<f64>() / f32.len() as f64).sqrt();
        assert!(rms < 1.0 && largest <= 8.0, "{}: {rms}, {largest}", b.name);
        assert!(rms > 0.0, "{} was not in int8", b.name);
    }
}
