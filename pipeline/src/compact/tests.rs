#[cfg(feature = "builtin")]
mod built_in;
mod int8;

use candle_core::Device;
use safetensors::SafeTensors;

use super::strips::Strip;
use super::weights::tests::{metadata, random_tensors, small, write};
use super::*;
use crate::clip::{FrameFormat, Planes, Samples};
use crate::solver::{euler, time_grid};

const RESIDUAL: [&[u8]; 2] = [
    include_bytes!("../../tests/data/compact-residual.safetensors"),
    include_bytes!("../../tests/data/compact-residual-answers.safetensors"),
];
const CHAIN: [&[u8]; 2] = [
    include_bytes!("../../tests/data/compact-chain.safetensors"),
    include_bytes!("../../tests/data/compact-chain-answers.safetensors"),
];

fn parse(bytes: &[u8], level: CpuLevel) -> CompactModel {
    CompactModel::new(Weights::parse(bytes, Path::new("test")).unwrap(), level)
}

fn random(residual: bool, frames: usize) -> CompactModel {
    let config = small(residual, frames);
    parse(
        &write(&random_tensors(&config, 21), metadata(&config)),
        CpuLevel::detected().min(CpuLevel::Avx512),
    )
}

/// What the trainer computed, channels last.
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

    /// From `[1, c, h, w]` to `[1, h, w, c]`.
    fn latent(&self, name: &str) -> Tensor {
        let (values, shape) = self.values(name);
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensor.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
    }

    fn window(&self) -> Vec<Arc<LumaPlane>> {
        let (values, shape) = self.values("lr");
        let size = Size::new(shape[3], shape[2]);
        let planes = values.chunks(size.pixels()).map(|data| LumaPlane {
            size,
            data: data.to_vec(),
        });
        planes.map(Arc::new).collect()
    }
}

fn assert_close(got: &Tensor, want: &Tensor, tolerance: f32, what: &str) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let error = (got - want)
        .unwrap()
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap();
    let error = error.to_scalar::<f32>().unwrap();
    assert!(error <= tolerance, "{what}: error {error}");
}

/// Every function of the trainer's definition, for a model at `level`.
fn check_parity([model, answers]: [&[u8]; 2], level: CpuLevel, tolerance: f32) {
    let model = parse(model, level);
    let answers = Answers(SafeTensors::deserialize(answers).unwrap());
    let window = answers.window();
    let reference = answers.latent("reference");
    let middle = &window[window.len() / 2];
    let got = Tensor::from_vec(model.reference(middle), reference.dims(), &Device::Cpu).unwrap();
    assert_close(&got, &reference, 1e-5, "reference");
    for (expert, noise) in [("faithful", 0.0), ("detail", 1.0)] {
        let sigma = model.sigma(Some(noise));
        let x = (&reference + (answers.latent("noise") * sigma).unwrap()).unwrap();
        let condition = Condition {
            windows: vec![window.clone()],
            sigma,
            planes: true,
        };
        for t in [0.0, 0.375] {
            let at = FlowTime {
                t,
                dt: 0.5,
                index: 0,
            };
            let name = format!("{expert}.velocity.t{t:?}");
            let v = model
                .velocity(&x, at, &condition, &Progress::none())
                .unwrap();
            assert_close(&v, &answers.latent(&name), tolerance, &name);
            let stepped = model
                .advance(x.clone(), at, &condition, &Progress::none())
                .unwrap();
            assert_close(
                &stepped,
                &(&x + (v * 0.5).unwrap()).unwrap(),
                1e-5,
                "advance",
            );
        }
        for steps in [1, 4] {
            let name = format!("{expert}.sample.steps{steps}");
            let grid = time_grid(steps, SHIFT).unwrap();
            let latent = euler(
                &model,
                x.clone(),
                &grid,
                &condition,
                &Progress::none(),
                |_, x| Ok(x),
            )
            .unwrap();
            let (want, shape) = answers.values(&name);
            let mut large = vec![0.0; want.len()];
            values(&latent, |latent| {
                crate::kernels::s2d::latent_to_plane(latent, middle.size.width, &mut large);
                Ok(())
            })
            .unwrap();
            let tensor =
                |values: Vec<f32>| Tensor::from_vec(values, shape.clone(), &Device::Cpu).unwrap();
            assert_close(&tensor(large), &tensor(want), tolerance, &name);
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

fn frame(format: FrameFormat, size: Size) -> Frame {
    let planes = (0..format.plane_count()).map(|index| {
        let plane = format.plane_size(index, size);
        let value = |i: usize| {
            let (x, y) = ((i % plane.width) as f64, (i / plane.width) as f64);
            let wave = (x * 0.7 + index as f64).sin() * 0.3 + (y * 0.4).cos() * 0.2 + 0.5;
            wave * f64::from(format.max_value())
        };
        match format.depth {
            8 => Samples::U8((0..plane.pixels()).map(|i| value(i) as u8).collect()),
            _ => Samples::U16((0..plane.pixels()).map(|i| value(i) as u16).collect()),
        }
    });
    Frame::new(format, size, planes.collect()).unwrap()
}

/// Hundreds of tiny layers: waking other threads for each takes longer than the work, most of all on a busy machine.
fn one_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .build()
        .unwrap();
    pool.install(work)
}

fn enlarged(
    model: &CompactModel,
    frame: &Frame,
    output: Size,
    steps: usize,
    sigma: f64,
    count: usize,
) -> Frame {
    let request = StripRequest {
        model,
        format: frame.format(),
        input: frame.size(),
        output,
        steps,
        threads: 1,
    };
    let plan = StripPlan::of(request, count, count == 1);
    assert!(count == 1 || plan.strips() > 1);
    let grid = time_grid(steps, SHIFT).unwrap();
    let luma = Arc::new(LumaPlane::of(frame));
    let request = Enlarge {
        model,
        frame,
        window: &vec![luma; model.config().frames],
        output,
        grid: &grid,
        sigma,
        seed: 3,
        plan: &plan,
    };
    one_thread(|| enlarge(&request, &Progress::none()).unwrap().0)
}

fn largest_difference(a: &Frame, b: &Frame) -> i32 {
    let codes = |samples: &Samples| -> Vec<i32> {
        match samples {
            Samples::U8(v) => v.iter().map(|v| i32::from(*v)).collect(),
            Samples::U16(v) => v.iter().map(|v| i32::from(*v)).collect(),
        }
    };
    let planes = a.planes().iter().zip(b.planes());
    planes
        .flat_map(|(a, b)| codes(a).into_iter().zip(codes(b)))
        .map(|(a, b)| (a - b).abs())
        .max()
        .unwrap()
}

#[test]
fn buffers_are_kept_for_the_next_frame() {
    let frame = frame(FrameFormat::i420(), Size::new(6, 8));
    for steps in [1, 2, 4] {
        let model = random(true, 3);
        for _ in 0..3 {
            enlarged(&model, &frame, Size::new(24, 32), steps, 0.0, 1);
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
fn strips_equal_the_whole() {
    let model = random(true, 3);
    for format in [FrameFormat::i420(), FrameFormat::rgb()] {
        let size = Size::new(6, 40);
        let frame = frame(format, size);
        for (output, steps, sigma) in [
            (Size::new(24, 160), 1, 0.0),
            (Size::new(24, 160), 2, 0.2),
            (Size::new(19, 93), 1, 0.0),
            (Size::new(96, 640), 1, 0.2),
            (Size::new(40, 280), 1, 0.0),
        ] {
            let whole = enlarged(&model, &frame, output, steps, sigma, 1);
            for count in [2, 40] {
                let strips = enlarged(&model, &frame, output, steps, sigma, count);
                // Without a resize the very same sums are made; the resizer rounds its positions.
                let exact = output.width % (4 * size.width) == 0 && format.planes != Planes::Rgb;
                let allowed = if exact { 0 } else { 1 };
                let difference = largest_difference(&whole, &strips);
                assert!(
                    difference <= allowed,
                    "{output} in {count} strips: {difference}"
                );
            }
        }
    }
}

#[test]
fn strips_cover_every_row_once() {
    let model = random(false, 1);
    for (height, out_height) in [(1, 1), (1, 16), (7, 9), (100, 1600), (333, 1000)] {
        for count in [1, 2, 3, 50, 1000] {
            let format = FrameFormat::gray();
            let request = StripRequest {
                model: &model,
                format: &format,
                input: Size::new(8, height),
                output: Size::new(20, out_height),
                steps: 2,
                threads: 1,
            };
            let plan = StripPlan::of(request, count, count == 1);
            let mut next = 0;
            for Strip { output, input } in &plan.strips {
                assert_eq!(output.start, next);
                assert!(!input.is_empty() && input.end <= height);
                next = output.end;
            }
            assert_eq!(next, out_height, "{height} in {count}");
        }
    }
}

#[test]
fn less_memory_takes_more_strips() {
    let model = random(true, 3);
    let format = FrameFormat::i420();
    let request = StripRequest {
        model: &model,
        format: &format,
        input: Size::new(1920, 1080),
        output: Size::new(7680, 4320),
        steps: 2,
        threads: 1,
    };
    let roomy = StripPlan::new(request, u64::MAX);
    assert_eq!(roomy.strips(), 1);
    let tight = StripPlan::new(request, roomy.bytes() / 2);
    assert!(tight.strips() > 1 && tight.bytes() <= roomy.bytes() / 2);
    // The result itself has to be somewhere.
    assert!(StripPlan::new(request, 0).bytes() >= 7680 * 4320 * 3 / 2);
}

#[test]
fn codec_is_the_reference_without_a_flow() {
    let model = random(false, 1);
    let size = Size::new(9, 5);
    let target = Size::new(36, 20);
    let frames = [
        frame(FrameFormat::i420(), size),
        frame(FrameFormat::i420(), size),
    ];
    let latent = model.encode(&frames, target, &Progress::none()).unwrap();
    assert_eq!(latent.dims(), [2, 5, 9, LATENT]);
    let decoded = model
        .decode(&latent, &frames, target, &Progress::none())
        .unwrap();
    assert_eq!(decoded.len(), 2);
    assert_eq!(decoded[0].size(), target);
    // Small pixel (4, 2) is the mean of its 16 large ones, but for the sharpening of Catmull-Rom.
    let Samples::U8(large) = decoded[0].planes()[0].as_ref() else {
        panic!("8 bits")
    };
    let Samples::U8(small) = frames[0].planes()[0].as_ref() else {
        panic!("8 bits")
    };
    let sum: u32 = (0..16)
        .map(|i| u32::from(large[(8 + i / 4) * 36 + 16 + i % 4]))
        .sum();
    assert!((sum as f32 / 16.0 - f32::from(small[2 * 9 + 4])).abs() < 12.0);
    assert!(
        model
            .encode(&frames, Size::new(36, 21), &Progress::none())
            .is_err()
    );
    assert!(
        model
            .decode(&latent, &frames[..1], target, &Progress::none())
            .is_err()
    );
    assert!(model.encode(&[], target, &Progress::none()).is_err());
}

#[test]
fn a_triggered_token_stops_everything() {
    let model = random(true, 1);
    let cancel = CancelToken::new();
    cancel.cancel();
    let progress = Progress::with_cancel(cancel);
    let frames = [frame(FrameFormat::i420(), Size::new(8, 8))];
    let target = Size::new(32, 32);
    assert!(
        model
            .encode(&frames, target, &progress)
            .unwrap_err()
            .is_cancelled()
    );
    let latent = model.encode(&frames, target, &Progress::none()).unwrap();
    assert!(
        model
            .decode(&latent, &frames, target, &progress)
            .unwrap_err()
            .is_cancelled()
    );
    let condition = Condition {
        windows: vec![vec![Arc::new(LumaPlane::of(&frames[0]))]],
        sigma: 0.0,
        planes: true,
    };
    let at = FlowTime {
        t: 0.0,
        dt: 1.0,
        index: 0,
    };
    assert!(
        model
            .velocity(&latent, at, &condition, &progress)
            .unwrap_err()
            .is_cancelled()
    );
}

#[test]
fn wrong_latents_are_refused() {
    let model = random(true, 3);
    let luma = Arc::new(LumaPlane::of(&frame(FrameFormat::gray(), Size::new(4, 3))));
    let at = FlowTime {
        t: 0.0,
        dt: 1.0,
        index: 0,
    };
    let mut condition = Condition {
        windows: vec![vec![luma; 3]],
        sigma: 0.0,
        planes: true,
    };
    let zeros = |shape: (usize, usize, usize, usize), dtype| {
        Tensor::zeros(shape, dtype, &Device::Cpu).unwrap()
    };
    let velocity =
        |x: &Tensor, condition: &Condition| model.velocity(x, at, condition, &Progress::none());
    assert!(velocity(&zeros((1, 3, 4, 16), DType::F32), &condition).is_ok());
    assert!(velocity(&zeros((1, 3, 4, 16), DType::F64), &condition).is_err());
    assert!(velocity(&zeros((1, 4, 3, 16), DType::F32), &condition).is_err());
    assert!(velocity(&zeros((2, 3, 4, 16), DType::F32), &condition).is_err());
    condition.windows[0].pop();
    assert!(velocity(&zeros((1, 3, 4, 16), DType::F32), &condition).is_err());
}

#[test]
fn packed_networks_are_bounded() {
    let model = random(false, 1);
    let Engine::F32(cache) = &model.engine else {
        panic!("f32")
    };
    for index in 0..100 {
        cache.chain(&model, (f64::from(index) / 100.0, 0.0));
    }
    assert_eq!(cache.chains.lock().unwrap().len(), KEPT_CHAINS);
    let kept = cache.chain(&model, (0.99, 0.0));
    assert!(Arc::ptr_eq(&kept, &cache.chain(&model, (0.99, 0.0))));
}
