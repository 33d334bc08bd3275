// SPDX-License-Identifier: MPL-2.0
//! `flashvideo convert`: the release in fewer bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use clap::{Args, ValueEnum};
use flashvideo::checkpoint::gguf::{self, Planned};
use flashvideo::checkpoint::{Checkpoint, ModelFolder, TensorType, Weights};
use flashvideo::{Error, Result};
use indicatif::{HumanBytes, ProgressBar};
use rayon::prelude::*;

use crate::model::shapes::normalised;
use crate::model::write::{Format, ModelFile};
use crate::progress::bytes_bar;

/// Converts a model file, or all parts of a model folder, tensor by tensor.
#[derive(Args)]
#[command(
    after_help = "Example:\n  flashvideo convert flashvideo-release flashvideo-q8 --dtype q8_0"
)]
pub struct Convert {
    /// A model file or folder in any layout.
    input: PathBuf,
    /// The file or folder to write.
    output: PathBuf,
    /// Number type of the large weights. Vectors keep their type.
    #[arg(long, value_enum)]
    dtype: Target,
    /// Adds the adapters (LoRA, alpha 1) of Stage I to the weights.
    #[arg(long)]
    merge_lora: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(non_camel_case_types)]
enum Target {
    /// 16 bits, as the release computes.
    Bf16,
    /// 16 bits, finer but of smaller range.
    F16,
    /// GGUF, 8.5 bits a weight.
    #[value(name = "q8_0")]
    Q8_0,
    /// GGUF, 4.5 bits a weight where rows are multiples of 256, else 8.5.
    #[value(name = "q4_k")]
    Q4K,
}

impl Convert {
    /// Runs the command.
    pub fn run(&self) -> Result<ExitCode> {
        if !self.input.is_dir() {
            let (format, plan) = self.plan(&self.input)?;
            if self
                .output
                .extension()
                .is_none_or(|e| e != format.extension())
            {
                return Err(Error::invalid(format!(
                    "{} is going to be a {} file; let its name end in .{}",
                    self.output.display(),
                    format.extension(),
                    format.extension()
                )));
            }
            self.write(plan, format, &self.output)?;
            return Ok(ExitCode::SUCCESS);
        }
        let folder = ModelFolder::open(&self.input)?;
        fs::create_dir_all(&self.output).map_err(|e| Error::io(&self.output, e))?;
        let parts = [
            ("stage1", &folder.stage1),
            ("stage2", &folder.stage2),
            ("3d-vae", &folder.vae),
            ("t5", &folder.text_encoder),
        ];
        for (name, file) in parts {
            if let Some(file) = file {
                let (format, plan) = self.plan(file)?;
                self.write(
                    plan,
                    format,
                    &self.output.join(format!("{name}.{}", format.extension())),
                )?;
            }
        }
        if let Some(file) = &folder.tokenizer {
            let copy = self.output.join("spiece.model");
            fs::copy(file, &copy).map_err(|e| Error::io(copy, e))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn plan(&self, input: &Path) -> Result<(Format, Vec<Step>)> {
        let checkpoint = normalised(Checkpoint::open(input)?)?;
        let deepest = checkpoint
            .names()
            .filter_map(|name| checkpoint.shape(name))
            .map(<[_]>::len)
            .max();
        let mut target = self.dtype;
        let mut format = match target {
            Target::Bf16 | Target::F16 => Format::Safetensors,
            Target::Q8_0 | Target::Q4K => Format::Gguf,
        };
        if format == Format::Gguf && deepest > Some(gguf::MAX_DIMS) {
            eprintln!(
                "{}: its convolutions are neither quantised nor held by GGUF; written as bf16 safetensors",
                input.display()
            );
            (format, target) = (Format::Safetensors, Target::Bf16);
        }
        let weights = Weights::new(checkpoint, &Device::Cpu, DType::F32);
        let mut steps = Vec::new();
        for name in weights.checkpoint().names() {
            let (Some(shape), Some(stored)) = (
                weights.checkpoint().shape(name),
                weights.checkpoint().stored(name),
            ) else {
                continue;
            };
            if !stored.is_float() {
                continue;
            }
            let (mut name, mut merged) = (name.to_owned(), false);
            if self.merge_lora {
                if name.contains(".matrix_A.") || name.contains(".matrix_B.") {
                    continue;
                }
                if let Some(layer) = name.strip_suffix(".original.weight") {
                    (name, merged) = (format!("{layer}.weight"), true);
                } else if let Some(layer) = name.strip_suffix(".original.bias") {
                    steps.push(Step {
                        planned: planned(
                            format!("{layer}.bias"),
                            stored_as(target, &name, shape, stored),
                            shape,
                        ),
                        source: Source::Tensor(name),
                        weights: weights.clone(),
                    });
                    continue;
                }
            }
            steps.push(Step {
                planned: planned(name.clone(), stored_as(target, &name, shape, stored), shape),
                source: if merged {
                    Source::Layer
                } else {
                    Source::Tensor(name)
                },
                weights: weights.clone(),
            });
        }
        Ok((format, steps))
    }

    fn write(&self, steps: Vec<Step>, format: Format, output: &Path) -> Result<()> {
        let failed = |e| Error::io(output, e);
        let size = steps.iter().map(|step| step.planned.bytes() as u64).sum();
        let bar = bytes_bar(size);
        bar.set_message(
            output
                .file_stem()
                .map(|s| s.to_string_lossy().into_owned())
                .unwrap_or_default(),
        );
        let plan = steps.iter().map(|step| step.planned.clone()).collect();
        let mut file = ModelFile::create(output, format, plan).map_err(failed)?;
        for step in &steps {
            let data = step.data()?;
            file.tensor(&data).map_err(failed)?;
            bar.inc(data.len() as u64);
        }
        file.finish().map_err(failed)?;
        bar.finish_and_clear();
        say(
            &bar,
            &format!(
                "{}: {} tensors, {}",
                output.display(),
                steps.len(),
                HumanBytes(size)
            ),
        );
        Ok(())
    }
}

fn say(bar: &ProgressBar, line: &str) {
    bar.suspend(|| tell!("{line}"));
}

fn planned(name: String, stored: TensorType, shape: &[usize]) -> Planned {
    Planned {
        name,
        stored,
        shape: shape.to_vec(),
    }
}

/// One tensor of the output.
struct Step {
    planned: Planned,
    source: Source,
    weights: Weights,
}

enum Source {
    /// The tensor of this name.
    Tensor(String),
    /// The weight of a linear layer with its adapters.
    Layer,
}

impl Step {
    /// The bytes to write. A few copies of this one tensor are in memory meanwhile.
    fn data(&self) -> Result<Vec<u8>> {
        let checkpoint = self.weights.checkpoint();
        let tensor = match &self.source {
            Source::Tensor(name) => {
                if let (Some(blocks), Some(stored)) = (
                    checkpoint.blocks(name, &Device::Cpu)?,
                    checkpoint.stored(name),
                ) && stored == self.planned.stored
                {
                    return Ok(blocks.data()?.into_owned());
                }
                checkpoint.tensor(name, &Device::Cpu, DType::F32)?
            }
            Source::Layer => {
                let layer = self.planned.name.trim_end_matches(".weight");
                let (outputs, inputs) = match *self.planned.shape {
                    [outputs, inputs] => (outputs, inputs),
                    _ => {
                        return Err(Error::invalid(format!(
                            "{layer} has adapters and is no linear layer"
                        )));
                    }
                };
                let view = self.weights.pp(layer);
                let linear = view.linear(inputs, outputs)?;
                self.weights.finish()?;
                match (linear.weight(), linear.loras()) {
                    (Some(weight), _) => weight.clone(),
                    // The base is quantised already.
                    (None, loras) => {
                        let mut weight = checkpoint.tensor(
                            &format!("{layer}.original.weight"),
                            &Device::Cpu,
                            DType::F32,
                        )?;
                        for lora in loras {
                            weight = lora.merge(&weight)?;
                        }
                        weight
                    }
                }
            }
        };
        bytes(&tensor, self.planned.stored)
    }
}

/// Number type of a tensor in the output.
fn stored_as(target: Target, name: &str, shape: &[usize], stored: TensorType) -> TensorType {
    if shape.len() < 2 {
        return match stored {
            TensorType::Quantized(_) | TensorType::F64 => TensorType::F32,
            kept => kept,
        };
    }
    let plain = match target {
        Target::Bf16 => return TensorType::BF16,
        Target::F16 => return TensorType::F16,
        Target::Q8_0 | Target::Q4K => TensorType::BF16,
    };
    // Small layers that everything passes through, and adapters, are worth more than the bytes they take.
    let kept = [
        "time_embed",
        "time_size_embedding",
        "ref_step_time_embedding",
        "mixins.final_layer",
        "mixins.patch_embed",
    ];
    let small = kept.iter().any(|prefix| name.starts_with(prefix))
        || name.contains(".matrix_")
        || name.contains("relative_attention_bias");
    let row = match *shape {
        [_, row] if !small => row,
        _ => return plain,
    };
    let q4 =
        target == Target::Q4K && !name.contains("adaLN_modulations") && name != "shared.weight";
    match () {
        () if q4 && row.is_multiple_of(GgmlDType::Q4K.block_size()) => {
            TensorType::Quantized(GgmlDType::Q4K)
        }
        () if row.is_multiple_of(GgmlDType::Q8_0.block_size()) => {
            TensorType::Quantized(GgmlDType::Q8_0)
        }
        () => plain,
    }
}

fn bytes(tensor: &Tensor, stored: TensorType) -> Result<Vec<u8>> {
    let tensor = tensor.contiguous()?;
    let flat = tensor.flatten_all()?;
    Ok(match stored {
        TensorType::F32 => flat
            .to_vec1::<f32>()?
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        TensorType::F64 => flat
            .to_dtype(DType::F64)?
            .to_vec1::<f64>()?
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect(),
        TensorType::F16 => {
            let values = flat.to_dtype(DType::F16)?.to_vec1::<half::f16>()?;
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        TensorType::BF16 => {
            let values = flat.to_dtype(DType::BF16)?.to_vec1::<half::bf16>()?;
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        TensorType::Quantized(kind) => {
            // Each part is a tensor of its own: candle quantises the whole storage of a view.
            let (rows, row) = tensor.dims2()?;
            let values = flat.to_vec1::<f32>()?;
            let at_once = rows.div_ceil(rayon::current_num_threads()).max(1) * row;
            let parts = values
                .par_chunks(at_once)
                .map(|part| {
                    let part = Tensor::from_slice(part, (part.len() / row, row), &Device::Cpu)?;
                    Ok(QTensor::quantize(&part, kind)?.data()?.into_owned())
                })
                .collect::<Result<Vec<_>>>()?;
            parts.concat()
        }
        other => return Err(Error::invalid(format!("{other} is not written"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden;

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        d.max(0).unwrap().to_scalar().unwrap()
    }

    fn convert(dtype: Target, merge_lora: bool) -> (tempfile::TempDir, ModelFolder) {
        let out = tempfile::tempdir().unwrap();
        let command = Convert {
            input: golden(""),
            output: out.path().to_owned(),
            dtype,
            merge_lora,
        };
        command.run().unwrap();
        let folder = ModelFolder::open(out.path()).unwrap();
        assert_eq!(folder.layout, flashvideo::checkpoint::Layout::Converted);
        assert!(folder.tokenizer.is_some());
        (out, folder)
    }

    #[test]
    fn the_whole_folder_in_bf16() {
        let (_keep, folder) = convert(Target::Bf16, false);
        let release = ModelFolder::open(golden("")).unwrap();
        for (old, new) in [
            (
                release.open_stage1().unwrap(),
                folder.open_stage1().unwrap(),
            ),
            (
                release.open_stage2().unwrap(),
                folder.open_stage2().unwrap(),
            ),
            (release.open_vae().unwrap(), folder.open_vae().unwrap()),
            (
                release.open_text_encoder().unwrap(),
                folder.open_text_encoder().unwrap(),
            ),
        ] {
            for name in new.names() {
                let a = old.tensor(name, &Device::Cpu, DType::F32).unwrap();
                let b = new.tensor(name, &Device::Cpu, DType::F32).unwrap();
                let largest = a
                    .abs()
                    .unwrap()
                    .flatten_all()
                    .unwrap()
                    .max(0)
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap();
                assert!(difference(&a, &b) <= largest / 256.0, "{name}");
            }
            let floats = old
                .names()
                .filter(|name| old.stored(name).is_some_and(TensorType::is_float));
            assert_eq!(new.len(), floats.count());
        }
    }

    #[test]
    fn merged_adapters_equal_the_reference() {
        let (_keep, folder) = convert(Target::F16, true);
        let stage1 = folder.open_stage1().unwrap();
        assert!(
            !stage1
                .names()
                .any(|name| name.contains("matrix_") || name.contains("original"))
        );
        let reference = Checkpoint::open(golden("stage1_merged_linears.safetensors")).unwrap();
        for name in reference.names() {
            let a = reference.tensor(name, &Device::Cpu, DType::F32).unwrap();
            let b = stage1.tensor(name, &Device::Cpu, DType::F32).unwrap();
            assert!(difference(&a, &b) < 1e-3, "{name}");
        }
    }

    #[test]
    fn quantised_parts() {
        let (_keep, folder) = convert(Target::Q4K, true);
        let stage1 = folder.open_stage1().unwrap();
        let q8 = Some(TensorType::Quantized(GgmlDType::Q8_0));
        let dense = "transformer.layers.0.mlp.dense_4h_to_h.weight";
        assert_eq!(
            stage1.stored(dense),
            Some(TensorType::Quantized(GgmlDType::Q4K))
        );
        assert_eq!(
            stage1.stored("transformer.layers.0.attention.dense.weight"),
            q8
        );
        assert_eq!(stage1.stored("time_embed.0.weight"), Some(TensorType::BF16));
        let reference = ModelFolder::open(golden(""))
            .unwrap()
            .open_stage1()
            .unwrap();
        let a = reference.tensor(dense, &Device::Cpu, DType::F32).unwrap();
        let b = stage1.tensor(dense, &Device::Cpu, DType::F32).unwrap();
        assert!(difference(&a, &b) < 0.1);
        // Five dimensions: the VAE stays plain.
        assert!(folder.vae.as_ref().unwrap().ends_with("3d-vae.safetensors"));
        folder.open_vae().unwrap();
    }

    #[test]
    fn types_of_the_release() {
        let q4 = |name: &str, shape: &[usize]| {
            stored_as(Target::Q4K, name, shape, TensorType::BF16).to_string()
        };
        assert_eq!(
            q4(
                "transformer.layers.0.mlp.dense_h_to_4h.weight",
                &[12288, 3072]
            ),
            "q4_k"
        );
        assert_eq!(
            q4(
                "transformer.layers.0.mlp.dense_h_to_4h.weight",
                &[7680, 1920]
            ),
            "q8_0"
        );
        assert_eq!(
            q4(
                "mixins.adaln_layer.adaLN_modulations.0.1.weight",
                &[36864, 512]
            ),
            "q8_0"
        );
        assert_eq!(q4("shared.weight", &[32128, 4096]), "q8_0");
        assert_eq!(q4("a.matrix_A.0", &[128, 3072]), "bf16");
        assert_eq!(q4("transformer.final_layernorm.weight", &[3072]), "bf16");
    }

    #[test]
    fn the_name_must_fit_the_format() {
        let command = Convert {
            input: golden("stage2.pt"),
            output: std::env::temp_dir().join("stage2.pt"),
            dtype: Target::Q8_0,
            merge_lora: false,
        };
        assert!(command.run().unwrap_err().to_string().contains(".gguf"));
    }
}
