// SPDX-License-Identifier: MPL-2.0
use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::checkpoint::{LoraMode, Weights};

const HIDDEN: usize = 8;
const BLOCK: &str = "transformer.layers.0";

fn wave(rows: usize, columns: usize, frequency: f32) -> Tensor {
    let values = (0..rows * columns).map(|i| (i as f32 * frequency + 0.3).sin());
    Tensor::from_vec(values.collect(), (rows, columns), &Device::Cpu).unwrap()
}

/// A model's linear layers: name, outputs and inputs.
const LAYERS: [(&str, usize, usize); 4] = [
    (
        "transformer.layers.0.attention.query_key_value",
        3 * HIDDEN,
        HIDDEN,
    ),
    ("transformer.layers.0.attention.dense", HIDDEN, HIDDEN),
    ("mixins.adaln_layer.adaLN_modulations.0.1", 12 * HIDDEN, 4),
    ("mixins.final_layer.linear", 5, HIDDEN),
];

fn weight(layer: usize) -> Tensor {
    let (_, outputs, inputs) = LAYERS[layer];
    wave(outputs, inputs, 0.7 + layer as f32)
}

/// The weights of the model with adapters, by layer; merged ones as they are, others by what they do.
fn adapted(adapter: Adapter, mode: LoraMode) -> Result<Vec<Tensor>> {
    let tensors = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(index, (name, outputs, _))| {
            let bias = Tensor::zeros(*outputs, DType::F32, &Device::Cpu).unwrap();
            [
                (format!("{name}.weight"), weight(index)),
                (format!("{name}.bias"), bias),
            ]
        });
    let checkpoint = Checkpoint::from_tensors(tensors.collect())?;
    let weights = Weights::new(checkpoint, &Device::Cpu, DType::F32);
    let weights = weights.with_lora(mode, 1.0).with_adapters([adapter]);
    let layers = LAYERS.iter().map(|(name, outputs, inputs)| {
        let layer = weights.pp(name).linear(*inputs, *outputs)?;
        let one = Tensor::eye(*inputs, DType::F32, &Device::Cpu)?;
        Ok(layer.forward(&one)?.t()?.contiguous()?)
    });
    let layers = layers.collect::<Result<Vec<_>>>()?;
    weights.finish()?;
    Ok(layers)
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    d.max(0).unwrap().to_scalar().unwrap()
}

/// An adapter file in a folder, beside which a configuration may lie.
struct File {
    folder: tempfile::TempDir,
    tensors: HashMap<String, Tensor>,
    notes: Option<HashMap<String, String>>,
}

impl File {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            tensors: HashMap::new(),
            notes: None,
        }
    }

    /// A and B of `name` in the form of PEFT; returns `B A`.
    fn pair(&mut self, name: &str, (outputs, inputs): (usize, usize), rank: usize) -> Tensor {
        let seed = 0.1 + self.tensors.len() as f32 / 7.0;
        let (a, b) = (wave(rank, inputs, seed), wave(outputs, rank, 2.0 * seed));
        self.tensors
            .insert(format!("{name}.lora_A.weight"), a.clone());
        self.tensors
            .insert(format!("{name}.lora_B.weight"), b.clone());
        b.matmul(&a).unwrap()
    }

    fn write(&self) -> PathBuf {
        let path = self.folder.path().join("adapter_model.safetensors");
        safetensors::serialize_to_file(&self.tensors, self.notes.clone(), &path).unwrap();
        path
    }

    fn configure(&self, json: &str) {
        std::fs::write(self.folder.path().join(scale::CONFIG), json).unwrap();
    }

    fn open(&self, strength: f64) -> Result<Adapter> {
        Adapter::open(&self.write(), strength)
    }
}

#[test]
fn layers_of_diffusers_equal_the_merged_reference() {
    let mut file = File::new();
    let block = "transformer.transformer_blocks.0";
    let square = (HIDDEN, HIDDEN);
    // Of the three, the key is not adapted; ranks differ.
    let q = file.pair(&format!("{block}.attn1.to_q"), square, 2);
    let v = file.pair(&format!("{block}.attn1.to_v"), square, 3);
    let dense = file.pair(&format!("{block}.attn1.to_out.0"), square, 1);
    let norm1 = file.pair(&format!("{block}.norm1.linear"), (6 * HIDDEN, 4), 2);
    let norm2 = file.pair(&format!("{block}.norm2.linear"), (6 * HIDDEN, 4), 2);
    let last = file.pair("transformer.proj_out", (5, HIDDEN), 2);
    let zeros = Tensor::zeros(square, DType::F32, &Device::Cpu).unwrap();
    let half = |t: &Tensor, index: usize| t.narrow(0, index * 3 * HIDDEN, 3 * HIDDEN).unwrap();
    // Attention image, MLP image, attention text, MLP text.
    let modulation = [
        half(&norm1, 0),
        half(&norm2, 0),
        half(&norm1, 1),
        half(&norm2, 1),
    ];
    let changes = [
        Tensor::cat(&[q, zeros, v], 0).unwrap(),
        dense,
        Tensor::cat(&modulation, 0).unwrap(),
        last,
    ];
    // Without an alpha anywhere it is the rank.
    for (strength, mode) in [
        (1.0, LoraMode::Merge),
        (0.5, LoraMode::Merge),
        (2.0, LoraMode::Apart),
    ] {
        let got = adapted(file.open(strength).unwrap(), mode).unwrap();
        for (index, (got, change)) in got.iter().zip(&changes).enumerate() {
            let want = (weight(index) + (change * strength).unwrap()).unwrap();
            assert!(
                difference(got, &want) < 1e-5,
                "{} {mode:?}",
                LAYERS[index].0
            );
        }
    }
    // The folder stands for its only file.
    file.write();
    assert!(Adapter::open(file.folder.path(), 1.0).is_ok());
}

#[test]
fn layers_of_the_release_are_adapted_by_peft_too() {
    let mut file = File::new();
    let qkv = format!("base_model.model.{BLOCK}.attention.query_key_value");
    let change = file.pair(&qkv, (3 * HIDDEN, HIDDEN), 4);
    file.configure(
        r#"{"peft_type": "LORA", "r": 4, "lora_alpha": 6, "rank_pattern": {}, "revision": null}"#,
    );
    let got = adapted(file.open(1.0).unwrap(), LoraMode::Merge).unwrap();
    let want = (weight(0) + (change * 1.5).unwrap()).unwrap();
    assert!(difference(&got[0], &want) < 1e-5);
    assert_eq!(difference(&got[1], &weight(1)), 0.0, "other layers stay");
}

#[test]
fn alpha_is_found_wherever_it_stands() {
    let mut file = File::new();
    let layer = format!("{BLOCK}.attention.dense");
    let change = file.pair(&layer, (HIDDEN, HIDDEN), 4);
    let scale = |file: &File| {
        let got = adapted(file.open(1.0).unwrap(), LoraMode::Merge).unwrap();
        let got = (&got[1] - weight(1)).unwrap();
        // The factor that fits best.
        let sum = |t: Tensor| t.sum_all().unwrap().to_scalar::<f32>().unwrap();
        let scale = sum((&got * &change).unwrap()) / sum(change.sqr().unwrap());
        assert!(difference(&got, &(&change * f64::from(scale)).unwrap()) < 1e-5);
        scale
    };
    let close = |got: f32, want: f32| assert!((got - want).abs() < 1e-4, "{got} {want}");
    close(scale(&file), 1.0);
    let note = r#"{"transformer.r": 4, "transformer.lora_alpha": 2.0}"#;
    let key = "lora_adapter_metadata".to_owned();
    file.notes = Some(HashMap::from([(key, note.to_owned())]));
    close(scale(&file), 0.5);
    // PEFT's own file comes first, and in it what is said of single layers.
    file.configure(r#"{"lora_alpha": 8}"#);
    close(scale(&file), 2.0);
    file.configure(r#"{"lora_alpha": 8, "use_rslora": true}"#);
    close(scale(&file), 4.0);
    file.configure(
        r#"{"lora_alpha": 8, "alpha_pattern": {"attention.dense": 12, "query_key_value": 1}}"#,
    );
    close(scale(&file), 3.0);
    // A tensor of the layer is before all.
    let alpha = Tensor::new(10f32, &Device::Cpu).unwrap();
    file.tensors.insert(format!("{layer}.alpha"), alpha);
    close(scale(&file), 2.5);
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |change: &dyn Fn(&mut File)| {
        let mut file = File::new();
        file.pair(&format!("{BLOCK}.attention.dense"), (HIDDEN, HIDDEN), 2);
        change(&mut file);
        let adapter = file
            .open(1.0)
            .and_then(|adapter| adapted(adapter, LoraMode::Merge));
        adapter.unwrap_err().to_string()
    };
    let other = "transformer_blocks.9.attn1.to_q";
    let text = error(&|file| drop(file.pair(&format!("transformer.{other}"), (HIDDEN, HIDDEN), 2)));
    assert!(
        text.contains(&format!("transformer.{other}.lora_A.weight [2, 8]")),
        "{text}"
    );
    assert!(
        text.contains("no layer transformer.layers.9.attention.query_key_value"),
        "{text}"
    );
    let text = error(&|file| drop(file.pair("transformer.proj_out", (6, HIDDEN), 2)));
    assert!(
        text.contains("transformer.proj_out.lora_B.weight [6, 2]"),
        "{text}"
    );
    assert!(text.contains("8 inputs and 5 outputs"), "{text}");
    let text = error(&|file| {
        file.tensors
            .remove(&format!("{BLOCK}.attention.dense.lora_B.weight"));
    });
    assert!(
        text.contains("attention.dense.lora_A.weight has no other half"),
        "{text}"
    );
    let text = error(&|file| {
        let name = format!("{BLOCK}.attention.dense.lora_magnitude_vector");
        file.tensors.insert(name, wave(1, HIDDEN, 0.1));
    });
    assert!(
        text.contains("lora_magnitude_vector is no part of an adapter"),
        "{text}"
    );
    let text = error(&|file| file.configure(r#"{"alpha_pattern": {"attn[12].*": 4}}"#));
    assert!(text.contains("attn[12].*"), "{text}");
    let text = error(&|file| file.configure(r#"{"use_dora": true}"#));
    assert!(text.contains("DoRA"), "{text}");
    // The same layer by two names.
    let text = error(&|file| {
        drop(file.pair("transformer_blocks.0.attn1.to_out.0", (HIDDEN, HIDDEN), 2));
    });
    assert!(text.contains("the same part of"), "{text}");
}
