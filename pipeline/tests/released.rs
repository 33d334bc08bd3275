// SPDX-License-Identifier: MPL-2.0
//! The released models from prompt and from frames, on the tiny checkpoints of the golden set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use flashvideo::release::enhance::{ReleasedEnhancer, ReleasedOptions};
use flashvideo::release::generate::{GenerateOptions, Generator, Placement};
use flashvideo::release::vae::Tiling;
use flashvideo::{
    CancelToken, DeviceSpec, EnhanceOptions, EnhanceStream, Enhancer, Frame, FrameFormat,
    NumberType, Progress, Runtime, Samples, Size, Target,
};

/// A model folder like the release's: the golden set without its golden values.
fn model() -> tempfile::TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("t5")).unwrap();
    for name in [
        "stage1.pt",
        "stage2.pt",
        "3d-vae.pt",
        "t5/config.json",
        "t5/model.safetensors",
        "t5/spiece.model",
    ] {
        std::fs::copy(golden.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn placement() -> Placement {
    Placement::from(Runtime::cpu().unwrap())
}

#[test]
fn a_prompt_and_a_seed_name_a_clip() {
    let folder = model();
    let options = |seed| GenerateOptions {
        prompt: "a red fox".to_owned(),
        seed,
        steps: 3,
        size: Size::new(32, 16),
        frames: 5,
        ..GenerateOptions::default()
    };
    let generator = Generator::open(folder.path(), &placement(), false).unwrap();
    let clip = |generator: &Generator, seed| {
        let frames = generator
            .generate(&options(seed), &Progress::none())
            .unwrap();
        assert_eq!(frames.dims(), [5, 16, 32, 3]);
        frames.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let first = clip(&generator, 1);
    assert!(first.iter().all(|v| (0.0..=255.0).contains(v)));
    assert_ne!(first, clip(&generator, 2));
    generator.unload();
    let one_thread = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(1)).unwrap();
    let frugal = Generator::open(folder.path(), &Placement::from(one_thread), true).unwrap();
    assert_eq!(first, clip(&frugal, 1), "the number of threads shows");
}

#[test]
fn a_cancelled_generation_ends() {
    let folder = model();
    let generator = Generator::open(folder.path(), &placement(), false).unwrap();
    let cancel = CancelToken::new();
    let trigger = cancel.clone();
    let progress = Progress::new(cancel, move |event| {
        if matches!(event, flashvideo::Event::Advanced { step: "sample", .. }) {
            trigger.cancel();
        }
    });
    let options = GenerateOptions {
        size: Size::new(32, 16),
        frames: 5,
        ..GenerateOptions::default()
    };
    let error = generator.generate(&options, &progress).unwrap_err();
    assert!(error.is_cancelled(), "{error}");
}

#[test]
fn any_size_and_length_come_back_as_asked_for() {
    let folder = model();
    let enhancer = ReleasedEnhancer::open(folder.path(), &placement(), true).unwrap();
    let clip = slopes(3, 10, 14);
    let mut options = ReleasedOptions {
        prompt: String::new(),
        size: Size::new(42, 30),
        seed: 0,
        flow: flashvideo::release::guided::FlowOptions {
            steps: 1,
            ..Default::default()
        },
        tile: flashvideo::release::tiles::TRAINED_SIDE,
        encode: Tiling::default(),
        decode: Tiling::columns(2),
        keep_colours: false,
    };
    let enhanced = enhancer
        .enhance(&clip, &options, &Progress::none())
        .unwrap();
    assert_eq!(enhanced.dims(), [3, 30, 42, 3]);
    let kept = ReleasedOptions {
        keep_colours: true,
        ..options.clone()
    };
    let kept = enhancer.enhance(&clip, &kept, &Progress::none()).unwrap();
    assert_eq!(kept.dims(), [3, 30, 42, 3]);
    let mean = |frames: &Tensor, index| {
        let frame = frames.get(index).unwrap().mean_all().unwrap();
        frame.to_scalar::<f32>().unwrap()
    };
    for index in 0..3 {
        let want = mean(&clip, index);
        let (kept, plain) = (mean(&kept, index), mean(&enhanced, index));
        // The network of this checkpoint is a random one: it makes busy mid-grey of dark frames, and black cuts some of it off.
        assert!(
            (kept - want).abs() < 0.5 * (plain - want).abs(),
            "frame {index}: {kept} with its colours kept, {plain} without, the input {want}"
        );
    }
    options.decode = Tiling::columns(0);
    assert!(
        enhancer
            .enhance(&clip, &options, &Progress::none())
            .is_err()
    );
}

/// Dark slopes `[frames, height, width, 3]`, brighter from frame to frame.
fn slopes(frames: usize, height: usize, width: usize) -> Tensor {
    let value = |at: usize| {
        let (channel, x) = (at % 3, at / 3 % width);
        let (y, frame) = (at / 3 / width % height, at / 3 / width / height);
        (20 + 20 * frame + 10 * channel + 3 * x + 2 * y) as f32
    };
    let values = (0..frames * height * width * 3).map(value);
    Tensor::from_iter(values, &Device::Cpu)
        .and_then(|clip| clip.reshape((frames, height, width, 3)))
        .unwrap()
}

fn load(folder: &Path) -> Arc<Enhancer> {
    let name = folder.to_str().unwrap();
    Enhancer::load(name, &Runtime::cpu().unwrap(), &Progress::none()).unwrap()
}

/// A gradient that moves; bright in the second scene.
fn frame(index: usize, bright: bool) -> Frame {
    let size = Size::new(20, 16);
    let value = |at: usize| {
        let level = (at % 20 * 3 + at / 20 * 2 + index) as u8;
        if bright {
            160 + level / 2
        } else {
            20 + level / 2
        }
    };
    let planes = vec![
        Samples::U8((0..size.pixels()).map(value).collect()),
        Samples::U8(vec![120; 80]),
        Samples::U8(vec![135; 80]),
    ];
    Frame::new(FrameFormat::i420(), size, planes).unwrap()
}

fn stream(enhancer: &Arc<Enhancer>) -> EnhanceStream<usize> {
    let options = EnhanceOptions {
        target: Target::Scale(2.0),
        steps: Some(1),
        ..EnhanceOptions::default()
    };
    let size = Size::new(20, 16);
    let progress = Progress::none();
    EnhanceStream::new(
        enhancer.clone(),
        FrameFormat::i420(),
        size,
        options,
        progress,
    )
    .unwrap()
}

fn run(enhancer: &Arc<Enhancer>, frames: impl Iterator<Item = Frame>) -> Vec<Frame> {
    let mut stream = stream(enhancer);
    let mut out = Vec::new();
    let mut count = 0;
    for (index, frame) in frames.enumerate() {
        out.extend(stream.push(frame, index).unwrap());
        count += 1;
    }
    out.extend(stream.drain().unwrap());
    assert_eq!(out.len(), count);
    assert!(
        out.iter()
            .enumerate()
            .all(|(index, (_, token))| index == *token)
    );
    out.into_iter().map(|(frame, _)| frame).collect()
}

fn same(a: &Frame, b: &Frame) -> bool {
    a.planes().iter().zip(b.planes()).all(|(a, b)| a == b)
}

#[test]
fn windows_continue_each_other() {
    let folder = model();
    let enhancer = load(folder.path());
    assert!(enhancer.reads_text() && enhancer.look_ahead() == 48);
    let long = run(&enhancer, (0..56).map(|index| frame(index, false)));
    assert!(long.iter().all(|frame| frame.size() == Size::new(40, 32)));
    // What follows does not change a finished window.
    let window = run(&enhancer, (0..49).map(|index| frame(index, false)));
    assert!(long.iter().zip(&window).all(|(a, b)| same(a, b)));
}

#[test]
fn scenes_do_not_touch() {
    let folder = model();
    let enhancer = load(folder.path());
    let both = run(&enhancer, (0..7).map(|index| frame(index, index >= 4)));
    let first = run(&enhancer, (0..4).map(|index| frame(index, false)));
    assert!(both.iter().zip(&first).all(|(a, b)| same(a, b)));
}

#[test]
fn a_folder_without_a_model_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().to_owned();
    let error = Enhancer::load(
        path.to_str().unwrap(),
        &Runtime::cpu().unwrap(),
        &Progress::none(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("flashvideo fetch"), "{error}");
}
