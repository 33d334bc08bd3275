// SPDX-License-Identifier: MPL-2.0
//! Model files of every format against the golden checkpoints, and damaged ones of every kind.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Shape, Tensor};
use flashvideo::checkpoint::gguf::{Planned, Writer};
use flashvideo::checkpoint::{Checkpoint, Layout, LoraMode, ModelFolder, TensorType, Weights};
use flashvideo::flow::noise::{NoiseSource, Use};
use proptest::prelude::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}

/// Standard normal values, the same in every run.
fn normal(seed: u64, shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let values = NoiseSource::new(seed).frame(Use::Start, 0, shape.elem_count());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a.to_dtype(DType::F32).unwrap() - b.to_dtype(DType::F32).unwrap()).unwrap();
    difference
        .abs()
        .unwrap()
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap()
        .to_scalar()
        .unwrap()
}

#[test]
fn release_files_have_all_keys() {
    let keys = std::fs::read(golden("checkpoint_keys.json")).unwrap();
    let keys: HashMap<String, BTreeMap<String, Vec<usize>>> =
        serde_json::from_slice(&keys).unwrap();
    for (part, file, stored) in [
        ("stage1", "stage1.pt", TensorType::BF16),
        ("stage2", "stage2.pt", TensorType::F32),
        ("vae", "3d-vae.pt", TensorType::F16),
    ] {
        let checkpoint = Checkpoint::open(golden(file)).unwrap();
        let mut of_type = 0;
        for (name, shape) in &keys[part] {
            assert_eq!(checkpoint.shape(name), Some(&shape[..]), "{file} {name}");
            of_type += usize::from(checkpoint.stored(name) == Some(stored));
            let tensor = checkpoint.tensor(name, &Device::Cpu, DType::F32).unwrap();
            let sum: f32 = tensor.sum_all().unwrap().to_scalar().unwrap();
            assert!(sum.is_finite(), "{file} {name}");
        }
        assert!(
            of_type > keys[part].len() / 2,
            "{file} has {of_type} tensors of {stored}"
        );
    }
}

/// `tests/data/legacy.pt` is from `torch.save(.., _use_new_zipfile_serialization=False)`, as PyTorch before 1.6 wrote
/// its files: `{'module': {..}, 'step': 7}`, where the first two tensors are views of one storage.
#[test]
fn files_from_before_torch_1_6() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/legacy.pt");
    let checkpoint = Checkpoint::open(&path).unwrap();
    let values = |name: &str| {
        let name = format!("model.diffusion_model.{name}");
        let tensor = checkpoint.tensor(&name, &Device::Cpu, DType::F32).unwrap();
        let shape = tensor.dims().to_vec();
        (
            shape,
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        )
    };
    assert_eq!(checkpoint.len(), 4);
    let rows = (vec![2, 4], (4..12).map(|v| v as f32).collect());
    assert_eq!(values("rows"), rows);
    let turned = (0..12).map(|i| (i % 3 * 4 + i / 3) as f32).collect();
    assert_eq!(values("turned"), (vec![4, 3], turned));
    assert_eq!(values("half"), (vec![2], vec![0.5, -2.0]));
    assert_eq!(values("brain"), (vec![2, 1], vec![1.5, -3.0]));
    assert_eq!(
        checkpoint.stored("model.diffusion_model.brain"),
        Some(TensorType::BF16)
    );

    // Cut off anywhere it is an error that names the file.
    let whole = std::fs::read(&path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.pt");
    for length in 0..whole.len() {
        std::fs::write(&cut, &whole[..length]).unwrap();
        let error = Checkpoint::open(&cut).err().map(|error| error.to_string());
        assert!(
            error.is_some_and(|error| error.contains("cut.pt")),
            "cut to {length} bytes"
        );
    }
}

#[test]
fn adapters_merge_to_the_reference() {
    let merged = Checkpoint::open(golden("stage1_merged_linears.safetensors")).unwrap();
    let checkpoint = Checkpoint::open(golden("stage1.pt"))
        .unwrap()
        .into_dit()
        .unwrap();
    let weights = Weights::new(checkpoint.clone(), &Device::Cpu, DType::F32);
    let apart = Weights::new(checkpoint, &Device::Cpu, DType::F32).with_lora(LoraMode::Apart, 1.0);
    let mut layers = 0;
    for name in merged
        .names()
        .filter_map(|name| name.strip_suffix(".weight"))
    {
        let expected = merged
            .tensor(&format!("{name}.weight"), &Device::Cpu, DType::F32)
            .unwrap();
        let bias = merged
            .tensor(&format!("{name}.bias"), &Device::Cpu, DType::F32)
            .unwrap();
        let (outputs, inputs) = expected.dims2().unwrap();
        let layer = weights.pp(name).linear(inputs, outputs).unwrap();
        assert!(
            difference(layer.weight().unwrap(), &expected) < 1e-6,
            "{name}"
        );
        assert!(difference(layer.bias().unwrap(), &bias) < 1e-6, "{name}");

        let x = normal(1, (2, 5, inputs));
        let beside = apart.pp(name).linear(inputs, outputs).unwrap();
        assert!(beside.loras().len() == 1 && layer.loras().is_empty());
        let (a, b) = (layer.forward(&x).unwrap(), beside.forward(&x).unwrap());
        assert_eq!(a.dims(), [2, 5, outputs]);
        assert!(difference(&a, &b) < 1e-4, "{name}");
        // The adapters matter: without them the result is another.
        let without = Weights::new(apart.checkpoint().clone(), &Device::Cpu, DType::F32)
            .with_lora(LoraMode::Ignore, 1.0)
            .pp(name)
            .linear(inputs, outputs)
            .unwrap();
        assert!(
            difference(&a, &without.forward(&x).unwrap()) > 1e-3,
            "{name}"
        );
        layers += 1;
    }
    assert_eq!(layers, 6);
}

#[test]
fn a_merged_file_has_plain_names() {
    let merged = Checkpoint::open(golden("stage1_merged_linears.safetensors")).unwrap();
    let weights = Weights::new(merged, &Device::Cpu, DType::BF16);
    let layer = weights
        .pp("transformer.layers.0.attention.dense")
        .linear(64, 64)
        .unwrap();
    assert_eq!(layer.weight().unwrap().dtype(), DType::BF16);
    let x = Tensor::ones((1, 64), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(layer.forward(&x).unwrap().dtype(), DType::F32);
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let tensors = HashMap::from([
        ("a.weight".to_owned(), tensor(&[3, 4])),
        ("a.bias".to_owned(), tensor(&[3])),
        ("c.weight".to_owned(), tensor(&[4])),
        ("stray".to_owned(), tensor(&[7])),
    ]);
    let weights = Weights::new(
        Checkpoint::from_tensors(tensors).unwrap(),
        &Device::Cpu,
        DType::F32,
    );
    weights.pp("a").linear(4, 3).unwrap();
    let absent = weights.pp("b").linear(1 << 20, 1 << 20).unwrap();
    assert_eq!(absent.outputs(), 1 << 20);
    weights.pp("c").layer_norm(5, 1e-5).unwrap();
    let problem = weights.finish().unwrap_err().to_string();
    for part in [
        "4 of the 6 tensors",
        "b.weight: expected [1048576, 1048576], found nothing",
        "b.bias: expected [1048576], found nothing",
        "c.weight: expected [5], found [4]",
        "c.bias: expected [5], found nothing",
        "stray: not expected, found [7]",
    ] {
        assert!(problem.contains(part), "\"{part}\" is not in: {problem}");
    }
}

#[test]
fn superfluous_tensors_are_named() {
    let checkpoint = Checkpoint::open(golden("stage2.pt"))
        .unwrap()
        .into_dit()
        .unwrap();
    let weights = Weights::new(checkpoint, &Device::Cpu, DType::F32);
    weights
        .pp("transformer.final_layernorm")
        .layer_norm(48, 1e-5)
        .unwrap();
    let extra = weights.finish().unwrap();
    assert!(extra.contains(&"time_embed.0.weight".to_owned()));
    assert!(
        !extra
            .iter()
            .any(|name| name.contains("final_layernorm") || name.contains("position_embeddings"))
    );
}

#[test]
fn folders_are_recognised() {
    let folder = ModelFolder::open(golden("")).unwrap();
    assert_eq!(folder.layout, Layout::Release);
    assert!(folder.stage1.is_some() && folder.stage2.is_some() && folder.vae.is_some());
    assert!(
        folder
            .open_text_encoder()
            .unwrap()
            .contains("shared.weight")
    );
    assert!(
        folder
            .open_stage1()
            .unwrap()
            .contains("time_embed.0.weight")
    );
    assert!(
        folder
            .open_vae()
            .unwrap()
            .contains("decoder.conv_out.conv.weight")
    );

    let empty = tempfile::tempdir().unwrap();
    let problem = ModelFolder::open(empty.path()).unwrap_err().to_string();
    assert!(problem.contains("flashvideo fetch"), "{problem}");
    std::fs::copy(golden("stage2.pt"), empty.path().join("stage2.pt")).unwrap();
    let folder = ModelFolder::open(empty.path()).unwrap();
    let problem = folder.open_stage1().unwrap_err().to_string();
    assert!(
        problem.contains("Stage I is not in this folder"),
        "{problem}"
    );
}

#[test]
fn shards_are_joined_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let tensor = Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap();
    for (file, name) in [("m-1.safetensors", "a"), ("m-2.safetensors", "b")] {
        candle_core::safetensors::save(
            &HashMap::from([(name.to_owned(), tensor.clone())]),
            path(file),
        )
        .unwrap();
    }
    let write = |map: &str| {
        std::fs::write(
            path("m.safetensors.index.json"),
            format!("{{\"weight_map\":{map}}}"),
        )
        .unwrap();
    };
    write(r#"{"a":"m-1.safetensors","b":"m-2.safetensors"}"#);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    let b = checkpoint.tensor("b", &Device::Cpu, DType::F32).unwrap();
    assert_eq!(b.to_vec1::<f32>().unwrap(), [1.0, 2.0]);

    write(r#"{"a":"m-2.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"}"#);
    let problem = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(
        problem.contains("a: expected in m-2") && problem.contains("c: expected in m-1"),
        "{problem}"
    );
    for map in [
        r#"{"a":"../m-1.safetensors"}"#,
        r#"{"a":"/etc/passwd"}"#,
        r#"{"a":"m.safetensors.index.json"}"#,
    ] {
        write(map);
        assert!(Checkpoint::open(folder.path()).is_err(), "{map}");
    }
}

/// A GGUF file with a quantised and a plain tensor, and what is in them.
fn gguf() -> (Vec<u8>, Tensor, Tensor) {
    let plain = normal(2, (3, 5));
    let matrix = normal(3, (4, 64));
    let blocks = QTensor::quantize(&matrix, GgmlDType::Q8_0).unwrap();
    let plan = [
        ("plain", TensorType::F32, vec![3, 5]),
        (
            "matrix.weight",
            TensorType::Quantized(GgmlDType::Q8_0),
            vec![4, 64],
        ),
    ]
    .map(|(name, stored, shape)| Planned {
        name: name.to_owned(),
        stored,
        shape,
    });
    let mut writer = Writer::new(
        Vec::new(),
        &[("general.architecture", "flashvideo")],
        plan.into(),
    )
    .unwrap();
    let values = plain.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    writer.tensor(&bytes).unwrap();
    writer.tensor(&blocks.data().unwrap()).unwrap();
    (writer.finish().unwrap(), plain, matrix)
}

#[test]
fn gguf_round_trip() {
    let (bytes, plain, matrix) = gguf();
    let mut cursor = std::io::Cursor::new(&bytes);
    let content = candle_core::quantized::gguf_file::Content::read(&mut cursor).unwrap();
    assert_eq!(content.tensor_infos.len(), 2, "another reader agrees");

    let checkpoint = Checkpoint::from_bytes("test.gguf", bytes).unwrap();
    assert_eq!(checkpoint.shape("plain"), Some(&[3, 5][..]));
    let read = checkpoint
        .tensor("plain", &Device::Cpu, DType::F32)
        .unwrap();
    assert_eq!(difference(&read, &plain), 0.0);
    let read = checkpoint
        .tensor("matrix.weight", &Device::Cpu, DType::F32)
        .unwrap();
    assert!(difference(&read, &matrix) < 0.02);

    let weights = Weights::new(checkpoint, &Device::Cpu, DType::F32);
    let layer = weights.pp("matrix").linear_no_bias(64, 4).unwrap();
    assert!(layer.weight().is_none() && layer.inputs() == 64 && layer.outputs() == 4);
    let x = normal(4, (2, 3, 64));
    let exact = x
        .reshape((6, 64))
        .unwrap()
        .matmul(&read.t().unwrap())
        .unwrap()
        .reshape((2, 3, 4))
        .unwrap();
    assert!(difference(&layer.forward(&x).unwrap(), &exact) < 0.2);
    assert_eq!(
        layer
            .forward(&x.to_dtype(DType::BF16).unwrap())
            .unwrap()
            .dtype(),
        DType::BF16
    );
}

#[test]
fn a_writer_keeps_to_its_plan() {
    let plan = vec![Planned {
        name: "a".to_owned(),
        stored: TensorType::F32,
        shape: vec![2],
    }];
    let mut writer = Writer::new(Vec::new(), &[], plan.clone()).unwrap();
    assert!(writer.tensor(&[0; 7]).is_err());
    assert!(
        Writer::new(Vec::new(), &[], plan)
            .unwrap()
            .finish()
            .is_err()
    );
    let deep = Planned {
        name: "deep".to_owned(),
        stored: TensorType::F32,
        shape: vec![1; 5],
    };
    assert!(Writer::new(Vec::new(), &[], vec![deep]).is_err());
}

static FILES: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let read = |name: &str| std::fs::read(golden(name)).unwrap();
    [
        read("stage1.pt"),
        read("stage2.pt"),
        read("sampler2_dpmpp2m_sde.safetensors"),
        gguf().0,
    ]
});

/// Opens `bytes` and, when that works, reads every tensor. Nothing may crash, whatever they are.
fn exercise(bytes: Vec<u8>) {
    let length = bytes.len();
    let Ok(checkpoint) = Checkpoint::from_bytes("damaged", bytes) else {
        return;
    };
    for name in checkpoint.names() {
        let elements: usize = checkpoint.shape(name).unwrap().iter().product();
        assert!(
            elements <= 4 * length,
            "{name} wants {elements} elements of a file of {length} bytes"
        );
        let _ = checkpoint.tensor(name, &Device::Cpu, DType::F32);
        let _ = checkpoint.blocks(name, &Device::Cpu);
    }
    let _ = checkpoint
        .clone()
        .into_dit()
        .map(Checkpoint::into_vae)
        .map(Checkpoint::into_t5);
}

#[test]
fn truncated_files_are_errors() {
    for file in &*FILES {
        for part in 0..97 {
            // Behind the last tensor of a GGUF file are up to 31 bytes of padding.
            let cut = file[..(file.len() - 32) * part / 97].to_vec();
            assert!(Checkpoint::from_bytes("cut", cut).is_err(), "{part}/97");
        }
    }
}

#[test]
fn other_files_are_told_apart() {
    for bytes in [
        &b"<!DOCTYPE html><title>Sign in</title>"[..],
        b"PK\x03\x04",
        b"GGUF",
        b"\x80\x02",
        b"version https://git-lfs",
    ] {
        let problem = Checkpoint::from_bytes("page.pt", bytes.to_vec())
            .unwrap_err()
            .to_string();
        assert!(problem.starts_with("page.pt: "), "{problem}");
    }
    let problem = Checkpoint::open("/nonexistent/stage1.pt")
        .unwrap_err()
        .to_string();
    assert!(problem.contains("/nonexistent/stage1.pt"), "{problem}");
}

#[test]
fn pickles_that_call_are_refused() {
    let mut pickle =
        b"\x80\x02}X\x06\x00\x00\x00modulecposix\nsystem\nX\x04\x00\x00\x00true\x85Rs.".to_vec();
    pickle.resize(64, b'.');
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("archive/data.pkl", stored).unwrap();
    std::io::Write::write_all(&mut zip, &pickle).unwrap();
    let bytes = zip.finish().unwrap().into_inner();
    let problem = Checkpoint::from_bytes("evil.pt", bytes)
        .unwrap_err()
        .to_string();
    assert!(
        problem.contains("posix.system") && problem.contains("refused"),
        "{problem}"
    );
}

proptest! {
    #[test]
    fn damaged_files_never_crash(
        file in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        region in 0usize..3,
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut bytes = FILES[file].clone();
        // Two thirds of the cases change what is parsed rather than numbers: the pickle or the header at the front, or
        // the directory of a zip archive at the end.
        let region = match region {
            0 => 0..bytes.len(),
            1 => 0..bytes.len().min(4096),
            _ => bytes.len().saturating_sub(4096)..bytes.len(),
        };
        for (at, value) in changes {
            bytes[region.start + at.index(region.len())] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(bytes);
    }

    #[test]
    fn noise_behind_a_magic_never_crashes(
        magic in prop::sample::select(vec![&b"PK\x03\x04"[..], b"GGUF\x03\0\0\0", b"\x40\0\0\0\0\0\0\0{"]),
        noise in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        exercise([magic, &noise].concat());
    }
}
