// SPDX-License-Identifier: MPL-2.0
use std::path::Path;

use safetensors::SafeTensors;

use super::flow::Trajectory;
use super::model::{Engine, KEPT_CHAINS};
use super::*;
use crate::compact::SHIFT;
use crate::compact::cpu::buffers::{Rows, copied};
use crate::compact::cpu::chain::Input;
use crate::compact::cpu::state::State;
use crate::compact::net::MARGIN;
use crate::compact::tests::{frame, job, one_thread, random};
use crate::cpu::reference::reference_latent;
use crate::cpu::s2d::{FACTOR, LATENT, latent_to_plane};
use crate::error::Error;
use crate::flow::euler::time_grid;
use crate::media::frame::{FrameFormat, Samples};
use crate::size::Size;

const RESIDUAL: [&[u8]; 2] = [
    include_bytes!("../../../tests/data/compact-residual.safetensors"),
    include_bytes!("../../../tests/data/compact-residual-answers.safetensors"),
];
const CHAIN: [&[u8]; 2] = [
    include_bytes!("../../../tests/data/compact-chain.safetensors"),
    include_bytes!("../../../tests/data/compact-chain-answers.safetensors"),
];

/// What the trainer computed, channels first.
struct Answers<'a>(SafeTensors<'a>);

impl Answers<'_> {
    fn values(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let view = self.0.tensor(name).unwrap();
        let bytes = view.data().as_chunks::<4>().0;
        (
            bytes.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            view.shape().to_vec(),
        )
    }

    /// From `[1, c, h, w]` to `[h, w, c]`.
    fn latent(&self, name: &str) -> Vec<f32> {
        let (values, shape) = self.values(name);
        let pixels = shape[2] * shape[3];
        let pixel = |pixel| values[pixel..].iter().step_by(pixels).copied();
        (0..pixels).flat_map(pixel).collect()
    }

    /// The luma of the frames that the network sees.
    fn window(&self) -> (Vec<Vec<f32>>, Size) {
        let (values, shape) = self.values("lr");
        let size = Size::new(shape[3], shape[2]);
        (
            values.chunks(size.pixels()).map(<[f32]>::to_vec).collect(),
            size,
        )
    }
}

fn assert_close(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= tolerance, "{what}: {got} {want}");
    }
}

/// Every function of the trainer's definition, for a model at `level`.
fn check_parity([model, answers]: [&[u8]; 2], level: CpuLevel, tolerance: f32) {
    let net = Arc::new(Net::parse(model, Path::new("test")).unwrap());
    let model = CpuModel::new(net.clone(), level);
    let answers = Answers(SafeTensors::deserialize(answers).unwrap());
    let (window, size) = answers.window();
    let window: Vec<&[f32]> = window.iter().map(|frame| &frame[..]).collect();
    let mut reference = vec![0.0; size.pixels() * LATENT];
    let middle = window[window.len() / 2];
    reference_latent(level, middle, size, 0..size.height, &mut reference);
    assert_close(&reference, &answers.latent("reference"), 1e-5, "reference");
    for (expert, noise) in [("faithful", 0.0), ("detail", 1.0)] {
        let sigma = net.sigma(Some(noise));
        let noise = answers.latent("noise").into_iter();
        let x: Vec<f32> = answers
            .latent("reference")
            .iter()
            .zip(noise)
            .map(|(x, noise)| x + noise * sigma as f32)
            .collect();
        let start = Input {
            size,
            state: State::Latent(&x),
            frames: &window,
        };
        let cancel = CancelToken::new();
        for t in [0.0, 0.375] {
            let stepped = |dt: f32| {
                let mut out = vec![0.0; x.len()];
                let rows = copied(&mut out, size.height);
                model
                    .step((t, sigma), dt, start, true, rows, &cancel)
                    .unwrap();
                out
            };
            let name = format!("{expert}.velocity.t{t:?}");
            let velocity: Vec<f32> = stepped(1.0).iter().zip(&x).map(|(to, x)| to - x).collect();
            assert_close(&velocity, &answers.latent(&name), tolerance, &name);
            let half: Vec<f32> = x.iter().zip(&velocity).map(|(x, v)| x + 0.5 * v).collect();
            assert_close(&stepped(0.5), &half, 1e-5, "half a step");
        }
        for steps in [1, 4] {
            let trajectory = Trajectory {
                model: &model,
                start,
                times: &time_grid(steps, SHIFT).unwrap(),
                sigma,
                planes: true,
            };
            let name = format!("{expert}.sample.steps{steps}");
            let (want, _) = answers.values(&name);
            let mut large = vec![0.0; want.len()];
            let put = |row: &[f32], out: &mut [f32]| latent_to_plane(row, size.width, out);
            let rows = Rows {
                rows: 0..size.height,
                out: &mut large,
                put,
            };
            trajectory.follow(rows, &cancel).unwrap();
            assert_close(&large, &want, tolerance, &name);
        }
    }
}

#[test]
fn f32_gives_the_trainers_numbers() {
    for level in [CpuLevel::Scalar, CpuLevel::Avx2, CpuLevel::Avx512] {
        if level <= CpuLevel::detected() {
            check_parity(RESIDUAL, level, 1e-4);
            check_parity(CHAIN, level, 1e-4);
        }
    }
}

#[test]
fn bf16_stays_near_the_trainers_numbers() {
    if CpuLevel::detected() == CpuLevel::Bf16 {
        check_parity(RESIDUAL, CpuLevel::Bf16, 5e-2);
        check_parity(CHAIN, CpuLevel::Bf16, 5e-2);
    }
}

fn flow(steps: usize) -> Flow {
    Flow {
        times: time_grid(steps, SHIFT).unwrap(),
        sigma: 0.0,
        seed: 0,
    }
}

#[test]
fn buffers_are_kept_for_the_next_frame() {
    let frame = frame(FrameFormat::gray(), Size::new(6, 8));
    let luma = LumaPlane::framed(&frame, MARGIN);
    for steps in [1, 2, 4] {
        let model = random(true, 3);
        let output = Size::new(6 * FACTOR, 8 * FACTOR);
        let plan = model.plan(&job(&frame, output, steps), u64::MAX);
        for _ in 0..3 {
            let mut codes = Samples::zeros(8, output.pixels());
            let out = Sink::Codes(crate::media::luma::scale(frame.format()), &mut codes);
            let (window, cancel) = ([&luma; 3], CancelToken::new());
            let flow = flow(steps);
            let run = || model.flow(&plan, &window, &flow, out, &cancel);
            assert_eq!(one_thread(run).unwrap().evaluations, steps as u64);
        }
        let Engine::F32(cache) = &model.engine else {
            panic!("f32")
        };
        assert_eq!((cache.bands.kept(), model.resizing.kept()), (1, 1));
        // One evaluation needs no states.
        assert!(steps == 1 || model.states.kept() == 1, "{steps}");
    }
}

#[test]
fn wrong_windows_are_refused() {
    let model = random(true, 3);
    let small = frame(FrameFormat::gray(), Size::new(4, 3));
    let turned = frame(FrameFormat::gray(), Size::new(3, 4));
    let plan = model.plan(&job(&small, Size::new(16, 12), 1), u64::MAX);
    let right = LumaPlane::framed(&small, MARGIN);
    let error = |window: &[&LumaPlane], flow: &Flow| {
        let mut take = |_: std::ops::Range<usize>, _: &[f32]| Ok(());
        let (out, cancel) = (Sink::Rows(&mut take), CancelToken::new());
        model.flow(&plan, window, flow, out, &cancel).err()
    };
    assert!(error(&[&right; 3], &flow(1)).is_none());
    for wrong in [
        LumaPlane::of(&small),
        LumaPlane::framed(&small, MARGIN + 1),
        LumaPlane::framed(&turned, MARGIN),
    ] {
        let error = error(&[&right, &wrong, &right], &flow(1)).unwrap();
        assert!(error.to_string().contains("expected 3 of 4x3"), "{error}");
    }
    assert!(matches!(
        error(&[&right], &flow(1)),
        Some(Error::Invalid(_))
    ));
    let none = Flow {
        times: Vec::new(),
        ..flow(1)
    };
    assert!(matches!(
        error(&[&right; 3], &none),
        Some(Error::Invalid(_))
    ));
}

#[test]
fn packed_networks_are_bounded() {
    let model = random(false, 1);
    let Engine::F32(cache) = &model.engine else {
        panic!("f32")
    };
    let chain = |t| cache.chain(model.net(), model.level(), (t, 0.0));
    for index in 0..100 {
        chain(f64::from(index) / 100.0);
    }
    assert_eq!(cache.chains.lock().unwrap().len(), KEPT_CHAINS);
    assert!(Arc::ptr_eq(&chain(0.99), &chain(0.99)));
}
