// SPDX-License-Identifier: MPL-2.0
//! `flashvideo info --synthetic`: seconds and memory of models of the true size, without their weights.

use std::fs;
use std::path::Path;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use flashvideo::checkpoint::{Checkpoint, Weights};
use flashvideo::release::dit::{Times, Transformer};
use flashvideo::release::text::{T5Encoder, TOKENS};
use flashvideo::{Error, Progress, Result, Size};
use indicatif::HumanBytes;

use super::shapes::{Kind, normalised};
use super::synthetic::write_torch;
use crate::progress::bytes_bar;

/// Latent frames of a clip of 49 frames.
const FRAMES: usize = 13;

/// Writes random weights of `kind` into `folder`, loads them, runs one block, and deletes them.
pub fn measure(kind: Kind, folder: &Path, size: Option<Size>) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
    let file = folder.join(format!("synthetic-{kind:?}-{}.pt", std::process::id()).to_lowercase());
    let outcome = measure_file(kind, &file, size);
    let removed = fs::remove_file(&file).map_err(|e| Error::io(&file, e));
    outcome.and(removed)
}

fn measure_file(kind: Kind, file: &Path, size: Option<Size>) -> Result<()> {
    let shapes = kind.shapes();
    let bytes = 2 * shapes
        .values()
        .map(|shape| shape.iter().product::<usize>())
        .sum::<usize>() as u64;
    let prefix = match kind {
        Kind::Stage1 | Kind::Stage2 => "model.diffusion_model.",
        Kind::Vae | Kind::T5 => "",
    };
    let start = Instant::now();
    let bar = bytes_bar(bytes);
    write_torch(file, prefix, &shapes, &bar).map_err(|e| Error::io(file, e))?;
    bar.finish_and_clear();
    report(
        &format!("wrote {} of {}", HumanBytes(bytes), kind.name()),
        start,
        None,
    );

    forget_peak();
    let start = Instant::now();
    let checkpoint = normalised(Checkpoint::open(file)?)?;
    let loaded = Loaded::new(kind, &checkpoint)?;
    report("loaded", start, Some(bytes));
    loaded.run(kind, &checkpoint, size, bytes)
}

fn weights(checkpoint: &Checkpoint) -> Weights {
    Weights::new(checkpoint.clone(), &Device::Cpu, DType::BF16)
}

enum Loaded {
    Transformer(Box<Transformer>),
    T5(Box<T5Encoder>),
    /// Measured for loading alone.
    Tensors(Vec<Tensor>),
}

impl Loaded {
    fn new(kind: Kind, checkpoint: &Checkpoint) -> Result<Self> {
        let weights = weights(checkpoint);
        Ok(match kind {
            Kind::Stage1 | Kind::Stage2 => {
                Self::Transformer(Box::new(Transformer::load(&weights)?))
            }
            Kind::T5 => Self::T5(Box::new(T5Encoder::load(&weights)?)),
            Kind::Vae => {
                let tensors = kind
                    .shapes()
                    .into_iter()
                    .map(|(name, shape)| weights.get(shape, &name));
                Self::Tensors(tensors.collect::<Result<_>>()?)
            }
        })
    }

    /// Runs one block, with the whole model still in memory.
    fn run(
        &self,
        kind: Kind,
        checkpoint: &Checkpoint,
        size: Option<Size>,
        bytes: u64,
    ) -> Result<()> {
        let start = Instant::now();
        match self {
            Self::Transformer(whole) => {
                let config = whole.config();
                let default = match kind {
                    Kind::Stage1 => Size::new(480, 256),
                    _ => Size::new(1920, 1072),
                };
                let size = size.unwrap_or(default);
                let shape = (FRAMES, config.in_channels, size.height / 8, size.width / 8);
                let tokens = TOKENS
                    + config
                        .grid(FRAMES, size.height / 8, size.width / 8)?
                        .tokens();
                tell!("running one block on {tokens} tokens ({size}, 49 frames)");
                let mut first = checkpoint.clone();
                first.retain(|name| layer(name).is_none_or(|index| index == 0));
                let one = Transformer::load(&weights(&first))?;
                let latent = Tensor::randn(0f32, 1.0, shape, &Device::Cpu)?;
                let text = Tensor::zeros((TOKENS, config.text_dim), DType::F32, &Device::Cpu)?;
                let times = Times {
                    timestep: 999.0,
                    reference_step: 675.0,
                };
                let start = Instant::now();
                one.sample(&latent, times, &text, &Progress::none(), None)?;
                report("embedding, one block and last layer", start, Some(bytes));
            }
            Self::T5(encoder) => {
                let ids = Tensor::zeros((1, TOKENS), DType::U32, &Device::Cpu)?;
                encoder.forward(&ids, &Progress::none())?;
                let blocks = encoder.config().layers;
                report(
                    &format!("all {blocks} blocks on {TOKENS} tokens"),
                    start,
                    Some(bytes),
                );
            }
            Self::Tensors(tensors) => tell!("{} tensors; its layers are not run", tensors.len()),
        }
        Ok(())
    }
}

/// Number of the block that the tensor `name` of a transformer belongs to.
fn layer(name: &str) -> Option<usize> {
    const LISTS: [&str; 4] = [
        "transformer.layers.",
        "mixins.adaln_layer.adaLN_modulations.",
        "mixins.adaln_layer.query_layernorm_list.",
        "mixins.adaln_layer.key_layernorm_list.",
    ];
    let rest = LISTS.iter().find_map(|list| name.strip_prefix(list))?;
    rest.split('.').next()?.parse().ok()
}

/// Starts a new measurement of the peak; where the system cannot, the old peak stays.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Prints the time since `start`, and the peak of memory beside the size of the weights.
fn report(what: &str, start: Instant, weights: Option<u64>) {
    let seconds = start.elapsed().as_secs_f64();
    let Some(weights) = weights else {
        tell!("{what} in {seconds:.1} s");
        return;
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    match peak {
        Some(kib) => tell!(
            "{what} in {seconds:.1} s, peak memory {} ({:.3} x the weights)",
            HumanBytes(kib * 1024),
            (kib * 1024) as f64 / weights as f64
        ),
        None => tell!("{what} in {seconds:.1} s, peak memory unknown on this system"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_by_name() {
        assert_eq!(
            layer("transformer.layers.12.mlp.dense_h_to_4h.bias"),
            Some(12)
        );
        assert_eq!(
            layer("mixins.adaln_layer.adaLN_modulations.3.1.original.weight"),
            Some(3)
        );
        assert_eq!(
            layer("mixins.adaln_layer.key_layernorm_list.0.weight"),
            Some(0)
        );
        assert_eq!(layer("transformer.final_layernorm.weight"), None);
        assert_eq!(layer("time_embed.0.weight"), None);
    }
}
