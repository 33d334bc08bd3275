// SPDX-License-Identifier: MPL-2.0
//! Text-to-video models in one file: parity with the trainer, and what can be asked of them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use flashvideo::checkpoint::gguf::{Planned, Writer};
use flashvideo::checkpoint::{Adapter, Checkpoint, GeneratorFile, TensorType, Weights};
use flashvideo::flow::dpmpp::SdeSchedule;
use flashvideo::flow::guidance::Guidance;
use flashvideo::release::dit::{Times, Transformer};
use flashvideo::release::generate::{Placement, sample};
use flashvideo::release::text::{T5Encoder, Tokenizer};
use flashvideo::release::vae::{Vae, to_bytes_range};
use flashvideo::{
    CancelToken, DeviceSpec, Error, Event, Frame, GenerateOptions, Generator, NumberType, Progress,
    Runtime, Samples, Size,
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn close(name: &str, got: &Tensor, want: &Tensor, tolerance: f32) {
    assert_eq!(got.dims(), want.dims(), "{name}");
    let difference = (got - want).unwrap().abs().unwrap().flatten_all().unwrap();
    let worst = difference.max(0).unwrap().to_scalar::<f32>().unwrap();
    assert!(worst <= tolerance, "{name}: {worst} above {tolerance}");
}

/// Compares every part of the model in `file` with what the trainer's own modules gave, as far as `answers` has it:
/// `text.ids`, `text.features`; `dit.x`, `dit.timestep`, `dit.context`, `dit.velocity`; `vae.latent`, `vae.frames`;
/// `sample.start`, `sample.noise`, `sample.latent`. The prompt is a note in the header.
fn compare(file: &GeneratorFile, answers: &Path) {
    let answers = Checkpoint::open(answers).unwrap();
    let answer = |name: &str| answers.tensor(name, &Device::Cpu, DType::F32).unwrap();
    let view = |checkpoint| Weights::new(checkpoint, &Device::Cpu, DType::F32);
    let info = file.info();
    let progress = Progress::none();

    let prompt = answers.note("prompt").expect("the prompt in the header");
    let tokenizer = Tokenizer::from_bytes(&file.tokenizer().unwrap()).unwrap();
    let ids = tokenizer.encode_padded(prompt, info.tokens).unwrap();
    let ids = Tensor::from_vec(ids, (1, info.tokens), &Device::Cpu).unwrap();
    close(
        "text.ids",
        &ids.to_dtype(DType::F32).unwrap(),
        &answer("text.ids"),
        0.0,
    );
    let text = T5Encoder::load(&view(file.text())).unwrap();
    let features = text.forward(&ids, &progress).unwrap();
    close("text.features", &features, &answer("text.features"), 1e-4);

    let dit = Transformer::load(&view(file.dit().unwrap())).unwrap();
    let timestep = answer("dit.timestep").flatten_all().unwrap();
    let times = Times::new(f64::from(timestep.to_vec1::<f32>().unwrap()[0]));
    let velocity = dit
        .forward(
            &answer("dit.x"),
            &[times],
            &answer("dit.context"),
            &progress,
        )
        .unwrap();
    close("dit.velocity", &velocity, &answer("dit.velocity"), 1e-4);

    let vae = Vae::load_with_groups(&view(file.vae()), info.vae_groups).unwrap();
    let latent = (answer("vae.latent").transpose(1, 2).unwrap() / info.latent_scale).unwrap();
    let frames = vae
        .decode(&latent.contiguous().unwrap(), &progress)
        .unwrap();
    let frames = to_bytes_range(&frames).unwrap();
    close("vae.frames", &frames, &answer("vae.frames"), 0.02);

    for (name, guidance) in [
        ("sample.latent", Guidance::Constant(info.guidance)),
        ("sample.falling", Guidance::Falling(2.0 * info.guidance)),
    ] {
        if !answers.contains(name) {
            continue;
        }
        let schedule = SdeSchedule::new(info.steps, guidance, 1.0, 1.0).unwrap();
        let noise = answer("sample.noise");
        let latent = sample(
            &dit,
            &schedule,
            &features,
            answer("sample.start"),
            |step| Ok(noise.get(step.index)?),
            &progress,
        )
        .unwrap();
        close(name, &latent, &answer(name), 5e-4);
    }
}

#[test]
fn every_part_agrees_with_the_trainer() {
    let file = GeneratorFile::open(&data("nano.safetensors")).unwrap();
    compare(&file, &data("nano-answers.safetensors"));
}

#[test]
fn the_built_in_model_agrees_with_the_trainer() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let file = GeneratorFile::open(&models.join("builtin-source.safetensors")).unwrap();
    compare(&file, &data("builtin-source-answers.safetensors"));
}

#[test]
fn adapters_agree_with_the_trainer() {
    let answers = Checkpoint::open(data("nano-answers.safetensors")).unwrap();
    let answer = |name: &str| answers.tensor(name, &Device::Cpu, DType::F32).unwrap();
    let scale: f64 = answers.note("lora_scale").unwrap().parse().unwrap();
    let adapter = Adapter::open(&data("nano-lora.safetensors"), scale).unwrap();
    let file = GeneratorFile::open(&data("nano.safetensors")).unwrap();
    let velocity = |adapters: Vec<Adapter>| {
        let weights = Weights::new(file.dit().unwrap(), &Device::Cpu, DType::F32);
        let dit = Transformer::load(&weights.with_adapters(adapters)).unwrap();
        let (x, context) = (answer("dit.x"), answer("dit.context"));
        dit.forward(&x, &[Times::new(417.0)], &context, &Progress::none())
            .unwrap()
    };
    close(
        "lora.velocity",
        &velocity(vec![adapter]),
        &answer("lora.velocity"),
        1e-4,
    );
    let off = Adapter::open(&data("nano-lora.safetensors"), 0.0).unwrap();
    close(
        "scale 0",
        &velocity(vec![off]),
        &answer("dit.velocity"),
        1e-4,
    );
}

/// On white paper even a night is bright.
#[cfg(feature = "builtin")]
#[test]
fn the_built_in_watercolour_paints_on_paper() {
    let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(1)).unwrap();
    let luma = |lora| {
        let generator =
            Generator::find("builtin", lora, &Placement::from(runtime.clone())).unwrap();
        let mut options = generator.defaults();
        options.prompt = "a red balloon above a meadow at night".to_owned();
        options.frames = 1;
        let Samples::U8(luma) = &*bytes(&clip(&generator, &options))[0] else {
            panic!("not 8 bits");
        };
        luma.iter().map(|&code| f64::from(code)).sum::<f64>() / luma.len() as f64
    };
    let (plain, painted) = (luma(None), luma(Some(("builtin:watercolour", 1.0))));
    assert!(painted > plain + 30.0, "{plain} painted {painted}");
    let error = Generator::find(
        "builtin",
        Some(("builtin:oil", 1.0)),
        &Placement::from(runtime),
    );
    assert!(error.unwrap_err().to_string().contains("builtin:oil"));
}

#[test]
fn adapters_for_another_model_are_refused() {
    let tensor = |rows, columns| Tensor::zeros((rows, columns), DType::F32, &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let layer = "transformer.layers.0.attention.dense";
    for (tensors, says) in [
        (
            vec![
                (format!("{layer}.matrix_A.0"), tensor(2, 999)),
                (format!("{layer}.matrix_B.0"), tensor(32, 2)),
            ],
            "fit no layer",
        ),
        (
            vec![
                (
                    "transformer.layers.9.attention.dense.matrix_A.0".to_owned(),
                    tensor(2, 32),
                ),
                (
                    "transformer.layers.9.attention.dense.matrix_B.0".to_owned(),
                    tensor(32, 2),
                ),
            ],
            "fit no layer",
        ),
        (
            vec![("weight".to_owned(), tensor(2, 2))],
            "no part of an adapter",
        ),
    ] {
        let path = folder.path().join("lora.safetensors");
        let map: std::collections::HashMap<_, _> = tensors.into_iter().collect();
        candle_core::safetensors::save(&map, &path).unwrap();
        let load = || {
            let adapter = Adapter::open(&path, 1.0)?;
            let file = GeneratorFile::open(&data("nano.safetensors"))?;
            let weights = Weights::new(file.dit()?, &Device::Cpu, DType::F32);
            Transformer::load(&weights.with_adapters([adapter])).map(drop)
        };
        let error = load().unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert!(matches!(error, Error::Checkpoint { path: found, .. } if found == path));
    }
    let model = Adapter::open(&data("nano.safetensors"), 1.0).unwrap_err();
    assert!(model.to_string().contains("generator"), "{model}");
    assert!(Adapter::open(&data("nano-lora.safetensors"), f64::NAN).is_err());
}

fn nano(threads: usize, lora: Option<f64>) -> Generator {
    let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(threads)).unwrap();
    let path = data("nano.safetensors");
    let adapters = data("nano-lora.safetensors");
    let lora = lora.map(|scale| (adapters.to_str().unwrap(), scale));
    Generator::find(path.to_str().unwrap(), lora, &Placement::from(runtime)).unwrap()
}

#[test]
fn a_generator_has_no_int8() {
    let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::Int8, Some(1)).unwrap();
    let path = data("nano.safetensors");
    let found = Generator::find(path.to_str().unwrap(), None, &Placement::from(runtime));
    let error = found.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    assert!(error.to_string().contains("f32, bf16 or f16"), "{error}");
}

fn clip(generator: &Generator, options: &GenerateOptions) -> Vec<Frame> {
    let frames = Mutex::new(Vec::new());
    generator
        .pictures(options, &Progress::none(), |frame| {
            frames.lock().unwrap().push(frame);
            Ok(())
        })
        .unwrap();
    frames.into_inner().unwrap()
}

fn bytes(frames: &[Frame]) -> Vec<Arc<Samples>> {
    frames.iter().flat_map(|f| f.planes().to_vec()).collect()
}

#[test]
fn a_file_knows_its_own_settings() {
    let generator = nano(1, None);
    let options = generator.defaults();
    assert_eq!(options.size, Size::new(96, 54));
    assert_eq!(
        (options.frames, options.steps, options.guidance),
        (9, 4, 3.0)
    );
    assert!(generator.has_fixed_size() && generator.info().knows(&options.prompt));
    let frames = clip(&generator, &options);
    assert_eq!(frames.len(), 9);
    assert!(frames.iter().all(|frame| frame.size() == options.size));
    // The pictures are the rounded clip.
    let tensor = generator.generate(&options, &Progress::none()).unwrap();
    let pictures = flashvideo::media::pictures::to_pictures(&tensor).unwrap();
    assert_eq!(bytes(&pictures), bytes(&frames));
}

#[test]
fn prompt_seed_and_adapters_name_a_clip_on_any_number_of_threads() {
    let (one, two) = (nano(1, None), nano(2, None));
    let options = one.defaults();
    let first = bytes(&clip(&one, &options));
    assert_eq!(first, bytes(&clip(&two, &options)));
    let other = |change: fn(&mut GenerateOptions)| {
        let mut options = options.clone();
        change(&mut options);
        bytes(&clip(&one, &options))
    };
    assert_ne!(first, other(|o| o.seed = 1));
    assert_ne!(first, other(|o| o.prompt = "a blue boat".to_owned()));
    assert_ne!(first, other(|o| o.guidance = 1.0));
    assert_eq!(other(|o| o.frames = 5).len(), 5 * 3);
    let adapted = nano(1, Some(1.0));
    assert_ne!(first, bytes(&clip(&adapted, &options)));
    assert_eq!(first, bytes(&clip(&nano(1, Some(0.0)), &options)));
}

#[test]
fn impossible_requests_are_refused() {
    let generator = nano(1, None);
    let changes: [fn(&mut GenerateOptions); 6] = [
        |o| o.frames = 8,
        |o| o.frames = 13,
        |o| o.frames = 0,
        |o| o.steps = 1,
        |o| o.size = Size::new(96, 64),
        |o| o.guidance = f64::INFINITY,
    ];
    for change in changes {
        let mut options = generator.defaults();
        change(&mut options);
        let error = generator.check(&options).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        assert!(generator.generate(&options, &Progress::none()).is_err());
    }
    assert!(generator.check(&generator.defaults()).is_ok());
    let placement = Placement::from(Runtime::cpu().unwrap());
    let error = Generator::find("no such model", None, &placement).unwrap_err();
    assert!(matches!(error, Error::ModelNotFound { .. }), "{error}");
    let lora = data("nano-lora.safetensors");
    let error = Generator::find(lora.to_str().unwrap(), None, &placement).unwrap_err();
    assert!(error.to_string().contains("\"lora\""), "{error}");
}

#[test]
fn a_generation_ends_at_any_event() {
    let generator = nano(2, None);
    let options = generator.defaults();
    let count = Arc::new(Mutex::new(0));
    let events = count.clone();
    let all = Progress::new(CancelToken::new(), move |_| *events.lock().unwrap() += 1);
    generator.pictures(&options, &all, |_| Ok(())).unwrap();
    let events = *count.lock().unwrap();
    for stop in 1..events {
        let generator = nano(2, None);
        let cancel = CancelToken::new();
        let (trigger, seen) = (cancel.clone(), Mutex::new(0));
        let progress = Progress::new(cancel, move |_: Event| {
            let mut seen = seen.lock().unwrap();
            *seen += 1;
            if *seen == stop {
                trigger.cancel();
            }
        });
        match generator.pictures(&options, &progress, |_| Ok(())) {
            Err(error) => assert!(error.is_cancelled(), "{error}"),
            // After the last frame there is nothing left to cancel.
            Ok(()) => assert!(stop + 2 >= events, "event {stop} of {events}"),
        }
    }
    let stopped = generator.pictures(&options, &Progress::none(), |_| Err(Error::Cancelled));
    assert!(stopped.unwrap_err().is_cancelled());
}

/// `checkpoint` as a GGUF file, matrices of the blocks as Q8_0, and again with what these hold in f32.
fn quantised(checkpoint: &Checkpoint) -> (Checkpoint, Checkpoint) {
    let q8_0 = TensorType::Quantized(GgmlDType::Q8_0);
    let (mut plan, mut bytes) = (Vec::new(), Vec::new());
    let mut wide = HashMap::new();
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name, &Device::Cpu, DType::F32).unwrap();
        let block = name.contains(".layers.") || name.contains("adaLN_modulations");
        let whole = tensor.rank() == 2 && tensor.dim(1).unwrap().is_multiple_of(32);
        let stored = if block && whole {
            q8_0
        } else {
            TensorType::F32
        };
        let tensor = if stored == q8_0 {
            let blocks = QTensor::quantize(&tensor, GgmlDType::Q8_0).unwrap();
            bytes.push(blocks.data().unwrap().into_owned());
            blocks.dequantize(&Device::Cpu).unwrap()
        } else {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            bytes.push(values.iter().flat_map(|v| v.to_le_bytes()).collect());
            tensor
        };
        plan.push(Planned {
            name: name.to_owned(),
            stored,
            shape: tensor.dims().to_vec(),
        });
        wide.insert(name.to_owned(), tensor);
    }
    assert!(plan.iter().filter(|tensor| tensor.stored == q8_0).count() > 4);
    let mut writer = Writer::new(Vec::new(), &[], plan).unwrap();
    for bytes in bytes {
        writer.tensor(&bytes).unwrap();
    }
    let file = Checkpoint::from_bytes("quantised.gguf", writer.finish().unwrap()).unwrap();
    (file, Checkpoint::from_tensors(wide).unwrap())
}

#[test]
fn a_transformer_of_q8_0_weights_agrees_with_the_dequantised_one() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let file = GeneratorFile::open(&models.join("builtin-source.safetensors")).unwrap();
    let (q8_0, wide) = quantised(&file.dit().unwrap());
    let answers = Checkpoint::open(data("builtin-source-answers.safetensors")).unwrap();
    let answer = |name: &str| answers.tensor(name, &Device::Cpu, DType::F32).unwrap();
    let velocity = |checkpoint: &Checkpoint, dtype: DType| {
        let weights = Weights::new(checkpoint.clone(), &Device::Cpu, dtype);
        let dit = Transformer::load(&weights).unwrap();
        let (x, context) = (answer("dit.x"), answer("dit.context"));
        dit.forward(&x, &[Times::new(417.0)], &context, &Progress::none())
            .unwrap()
    };
    let norm = |t: &Tensor| {
        let sum = t.sqr().unwrap().sum_all().unwrap();
        sum.to_scalar::<f32>().unwrap().sqrt()
    };
    let want = velocity(&wide, DType::F32);
    // Rows of 8 bits are within 0.5 % of what they were, and errors of many blocks grow.
    for (dtype, tolerance) in [(DType::F32, 0.02), (DType::BF16, 0.03)] {
        let error = norm(&(velocity(&q8_0, dtype) - &want).unwrap()) / norm(&want);
        assert!(error > 0.0 && error < tolerance, "{dtype:?}: {error}");
    }
}
