// SPDX-License-Identifier: MPL-2.0
use std::sync::{Arc, Mutex};

use super::model::Model;
#[cfg(feature = "builtin")]
use super::model::in_int8;
use super::strips::plan_within;
use super::*;
use crate::compact::Job;
use crate::compact::test_model;
#[cfg(feature = "builtin")]
use crate::cpu::level::CpuLevel;
use crate::error::{Error, Result};
use crate::media::frame::FrameFormat;
use crate::plan::Budget;
use crate::progress::CancelToken;
use crate::progress::{Event, Progress};
use crate::runtime::{DeviceSpec, NumberType, Runtime};
use crate::size::Size;

fn load(model: &str) -> Result<Arc<Enhancer>> {
    Enhancer::load(
        model,
        &Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(1))?,
        &Progress::none(),
    )
}

fn small() -> (tempfile::TempDir, Arc<Enhancer>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    std::fs::write(&path, test_model(true, 3)).unwrap();
    let enhancer = load(path.to_str().unwrap()).unwrap();
    (folder, enhancer)
}

#[cfg(feature = "builtin")]
#[test]
fn built_in_models_load() {
    for name in ["builtin", "builtin:live"] {
        let enhancer = load(name).unwrap();
        assert_eq!(enhancer.name(), name);
        assert!(!enhancer.reads_text());
        assert!((1..=MAX_STEPS).contains(&enhancer.default_steps()));
        let again = load(name).unwrap();
        let (Model::Compact(first), Model::Compact(second)) = (enhancer.model(), again.model())
        else {
            panic!("{name} is not a compact model");
        };
        assert!(Arc::ptr_eq(first, second), "one copy of the weights");
    }
    assert_eq!(
        load("builtin:live").unwrap().look_ahead(),
        0,
        "live adds no frame of delay"
    );
}

#[cfg(feature = "builtin")]
#[test]
fn the_live_model_is_in_int8_where_that_is_fast_unless_told_otherwise() {
    let level = CpuLevel::selected().unwrap();
    let chosen = |model: &str, number| {
        let runtime = Runtime::new(DeviceSpec::Cpu, number, Some(1)).unwrap();
        let enhancer = Enhancer::load(model, &runtime, &Progress::none()).unwrap();
        match enhancer.model() {
            Model::Compact(model) => in_int8(model.net(), level, number),
            Model::Released(_) => unreachable!("a built-in model is a compact one"),
        }
    };
    assert_eq!(chosen("builtin:live", NumberType::Auto), level.has_vnni());
    assert!(chosen("builtin:live", NumberType::Int8));
    assert!(!chosen("builtin:live", NumberType::F32));
    assert!(!chosen("builtin", NumberType::Auto));
}

#[cfg(feature = "builtin")]
#[test]
fn one_copy_in_int8_by_name_and_by_default() {
    if !CpuLevel::selected().unwrap().has_vnni() {
        return;
    }
    let model = |number| {
        let runtime = Runtime::new(DeviceSpec::Cpu, number, Some(1)).unwrap();
        let enhancer = Enhancer::load("builtin:live", &runtime, &Progress::none()).unwrap();
        match enhancer.model() {
            Model::Compact(model) => model.clone(),
            Model::Released(_) => unreachable!("a built-in model is a compact one"),
        }
    };
    assert!(Arc::ptr_eq(
        &model(NumberType::Auto),
        &model(NumberType::Int8)
    ));
}

#[test]
fn missing_models_name_what_there_is() {
    for name in ["builtin:fast", "/no/such/file.safetensors", ""] {
        let error = load(name).unwrap_err();
        assert!(matches!(error, Error::ModelNotFound { .. }), "{error:?}");
        #[cfg(feature = "builtin")]
        assert!(
            error.to_string().contains("builtin and builtin:live"),
            "{error}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let error = load(folder.path().to_str().unwrap()).unwrap_err();
    assert!(error.to_string().contains("folder"), "{error}");
}

#[test]
fn damaged_models_are_told_from_missing_ones() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.safetensors");
    let bytes = test_model(true, 3);
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let error = load(path.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }), "{error:?}");
    assert!(error.to_string().contains("damaged.safetensors"), "{error}");
    // The same path with a whole file is read anew.
    std::fs::write(&path, &bytes).unwrap();
    assert!(load(path.to_str().unwrap()).is_ok());
}

#[test]
fn output_sizes() {
    let (_folder, enhancer) = small();
    let size = Size::new(479, 271);
    let output = |target| enhancer.output_size(size, target);
    assert_eq!(output(Target::Scale(4.0)).unwrap(), Size::new(1916, 1084));
    assert_eq!(output(Target::Scale(1.0)).unwrap(), size);
    assert_eq!(output(Target::Scale(1.5)).unwrap(), Size::new(719, 407));
    assert_eq!(output(Target::Scale(16.0)).unwrap(), Size::new(7664, 4336));
    assert_eq!(
        output(Target::Size(Size::new(1920, 1080))).unwrap(),
        Size::new(1920, 1080)
    );
    assert_eq!(
        output(Target::Size(Size::new(1, 1))).unwrap(),
        Size::new(1, 1)
    );
    for wrong in [
        Target::Scale(0.5),
        Target::Scale(16.1),
        Target::Scale(f64::NAN),
        Target::Scale(f64::INFINITY),
        Target::Size(Size::new(0, 10)),
        Target::Size(Size::new(16385, 100)),
        Target::Size(Size::new(479 * 17, 271)),
    ] {
        assert!(matches!(output(wrong), Err(Error::Invalid(_))), "{wrong:?}");
    }
    assert!(
        enhancer
            .output_size(Size::new(8192, 8192), Target::Scale(4.0))
            .is_err()
    );
    assert!(
        enhancer
            .output_size(Size::new(0, 5), Target::Scale(4.0))
            .is_err()
    );
}

#[test]
fn memory_grows_with_the_picture() {
    let (_folder, enhancer) = small();
    let needed = |width, height| {
        let size = Size::new(width, height);
        enhancer
            .memory_needed(&FrameFormat::i420(), size, Target::Scale(4.0))
            .unwrap()
    };
    assert!(needed(480, 270) >= 1920 * 1080 * 3 / 2);
    assert!(needed(960, 540) > needed(480, 270));
    assert!(needed(4096, 4096) > needed(960, 540));
}

#[test]
fn too_little_memory_is_a_warning_and_then_an_error() {
    let (_folder, enhancer) = small();
    let Model::Compact(model) = enhancer.model() else {
        panic!("a file is a compact model");
    };
    let format = FrameFormat::i420();
    let job = Job {
        format,
        input: Size::new(960, 540),
        // Not four times the input: the result of the model is resized, and so has to be in memory.
        output: Size::new(3000, 2000),
        steps: 1,
        threads: 1,
    };
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let sink = warnings.clone();
    let progress = Progress::new(CancelToken::new(), move |event| {
        sink.lock().unwrap().push(event);
    });
    let roomy = plan_within(model, &job, Budget::new(Some(64 << 30)), &progress).unwrap();
    assert!(warnings.lock().unwrap().is_empty());
    let tight = plan_within(model, &job, Budget::new(Some(roomy.bytes())), &progress).unwrap();
    assert!(tight.bytes() < roomy.bytes());
    assert!(matches!(&warnings.lock().unwrap()[..], [Event::Warning(_)]));
    let error = plan_within(model, &job, Budget::new(Some(1 << 20)), &progress).unwrap_err();
    assert!(matches!(error, Error::Memory { .. }), "{error:?}");
    assert!(
        error.to_string().contains("960x540 to 3000x2000"),
        "{error}"
    );
}
