// SPDX-License-Identifier: MPL-2.0
//! Golden runs of the diffusion transformer.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use super::golden::{Check, GUIDED, Golden, NETWORK, TABLE};
use crate::checkpoint::{Checkpoint, LoraMode, ModelFolder, Weights};
use crate::error::{Error, Result};
use crate::flow::euler::{self, FlowTime, VelocityField};
use crate::flow::schedule::round_bf16;
use crate::progress::Progress;
use crate::release::dit::{ProbePoint, Times, Transformer};
use crate::release::guided::{FlowOptions, GuidedField};

/// The checkpoint of a transformer; files named for Stage I take that one, all others Stage II.
pub(super) fn checkpoint(
    golden: &Golden,
    config: &Value,
    first_stage: bool,
) -> Result<Arc<Checkpoint>> {
    let find = |folder: &ModelFolder| {
        if first_stage {
            folder.open_stage1()
        } else {
            folder.open_stage2()
        }
    };
    Ok(Arc::new(golden.checkpoint(
        config,
        find,
        Checkpoint::into_dit,
    )?))
}

/// The transformer of `checkpoint` with the settings of `config`.
pub(super) fn load(
    checkpoint: &Arc<Checkpoint>,
    config: &Value,
    lora: LoraMode,
) -> Result<Transformer> {
    let alpha = config["lora_alpha"].as_f64().unwrap_or(1.0);
    let weights = Weights::new(checkpoint.clone(), &Device::Cpu, DType::F32).with_lora(lora, alpha);
    let theta = config["rope_theta"].as_f64().unwrap_or(10_000.0);
    Ok(Transformer::load(&weights)?.with_rope_theta(theta))
}

/// Whether `golden` belongs to the first stage.
fn first_stage(golden: &Golden) -> bool {
    golden.name.contains("stage1")
        || golden.config["ckpt"]
            .as_str()
            .is_some_and(|name| name.contains("stage1"))
}

/// One network evaluation of each kind, and the values inside of one.
pub(super) fn transformer(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let checkpoint = checkpoint(golden, &golden.config, first_stage(golden))?;
    let merged = load(&checkpoint, &golden.config, LoraMode::Merge)?;
    inside(golden, check, &merged)?;
    for (name, times) in [
        ("out", "timesteps"),
        ("out_merged", "timesteps"),
        ("out_b", "timesteps_b"),
        ("out_b_merged", "timesteps_b"),
    ] {
        if golden.has(name) && golden.has(times) {
            check.tensor(golden, name, &run(golden, check, &merged, times)?, NETWORK)?;
        }
    }
    drop(merged);
    for (name, mode) in [
        ("out_unmerged", LoraMode::Apart),
        ("out_without_lora", LoraMode::Ignore),
    ] {
        if golden.has(name) {
            let model = load(&checkpoint, &golden.config, mode)?;
            check.tensor(
                golden,
                name,
                &run(golden, check, &model, "timesteps")?,
                NETWORK,
            )?;
        }
    }
    Ok(())
}

fn times(golden: &Golden, name: &str) -> Result<Vec<Times>> {
    let reference_step = golden.number_or("ref_noise_step", 675.0);
    let times = golden.values(name)?.into_iter();
    Ok(times
        .map(|timestep| Times {
            timestep,
            reference_step,
        })
        .collect())
}

fn run(golden: &Golden, check: &Check<'_>, model: &Transformer, name: &str) -> Result<Tensor> {
    let (x, context) = (golden.tensor("x")?, golden.tensor("context")?);
    model.forward(&x, &times(golden, name)?, &context, check.progress)
}

/// Intermediate values of the merged network at the first timesteps.
fn inside(golden: &Golden, check: &mut Check<'_>, model: &Transformer) -> Result<()> {
    let last = model.config().layers;
    let points = [
        ("emb_time", ProbePoint::TimeEmbedding),
        ("emb_size", ProbePoint::SizeEmbedding),
        ("emb_refstep", ProbePoint::ReferenceEmbedding),
        ("emb", ProbePoint::Embedding),
        ("block0_in", ProbePoint::Tokens(0)),
        ("block0_out", ProbePoint::Tokens(1)),
        ("blockL_out", ProbePoint::Tokens(last)),
        ("attn0_q", ProbePoint::Query(0)),
        ("attn0_k", ProbePoint::Key(0)),
        ("attn0_v", ProbePoint::Value(0)),
        ("attn0_out", ProbePoint::Attention(0)),
        ("final_ln", ProbePoint::FinalNorm),
    ];
    let mut seen: Vec<Vec<Tensor>> = vec![Vec::new(); points.len()];
    let (x, context) = (golden.tensor("x")?, golden.tensor("context")?);
    for (index, times) in times(golden, "timesteps")?.into_iter().enumerate() {
        let mut probe = |point: ProbePoint, value: &Tensor| {
            for ((name, wanted), list) in points.iter().zip(&mut seen) {
                if *wanted == point && golden.has(name) {
                    // Embeddings have a row of their own already.
                    let value = if name.starts_with("emb") {
                        value.squeeze(0)?
                    } else {
                        value.clone()
                    };
                    list.push(value);
                }
            }
            Ok(())
        };
        model.sample(
            &x.get(index)?,
            times,
            &context.get(index)?,
            check.progress,
            Some(&mut probe),
        )?;
    }
    for ((name, _), list) in points.iter().zip(&seen) {
        if !list.is_empty() {
            check.tensor(golden, name, &Tensor::stack(list, 0)?, NETWORK)?;
        }
    }
    Ok(())
}

/// Weights after merging the adapters; names are relative to the transformer.
pub(super) fn merged_linears(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let checkpoint = checkpoint(golden, &golden.config, first_stage(golden))?;
    let alpha = golden.number_or("lora_alpha", 1.0);
    let weights =
        Weights::new(checkpoint, &Device::Cpu, DType::F32).with_lora(LoraMode::Merge, alpha);
    for name in golden.names() {
        let Some(layer) = name.strip_suffix(".weight") else {
            continue;
        };
        let (outputs, inputs) = golden.raw(name)?.dims2()?;
        let linear = weights.pp(layer).linear(inputs, outputs)?;
        let absent = || Error::invalid(format!("{layer} is quantised or has no bias"));
        check.tensor(golden, name, linear.weight().ok_or_else(absent)?, NETWORK)?;
        let bias = format!("{layer}.bias");
        if golden.has(&bias) {
            check.tensor(golden, &bias, linear.bias().ok_or_else(absent)?, NETWORK)?;
        }
    }
    weights_are_there(&weights)
}

/// `finish` also lists what was not asked for; only what is missing matters here.
fn weights_are_there(weights: &Weights) -> Result<()> {
    weights.finish().map(|_| ())
}

/// The settings of a golden flow.
pub(super) fn flow_options(golden: &Golden, guidance: &str) -> Result<FlowOptions> {
    Ok(FlowOptions {
        steps: golden.count("nfe")?,
        shift: golden.number("shift")?,
        guidance: golden.number(guidance)?,
        noise_step: golden.count("noise")?,
        bf16_grid: false,
    })
}

/// The flow of Stage II, and its time grid in both precisions.
pub(super) fn flow(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let options = flow_options(golden, "cfg")?;
    let rounded = FlowOptions {
        bf16_grid: true,
        ..options
    };
    let (grid, grid_bf16) = (options.grid()?, rounded.grid()?);
    let times = |grid: &[FlowTime]| -> Vec<f64> {
        let end = grid.last().map(|at| round_bf16(at.t + at.dt));
        grid.iter().map(|at| at.t).chain(end).collect()
    };
    let evaluated: Vec<f64> = grid.iter().map(|at| at.t).collect();
    let timesteps = |options: &FlowOptions, grid: &[FlowTime]| -> Vec<f64> {
        grid.iter().map(|at| options.timestep(at.t)).collect()
    };
    for (name, values, tolerance) in [
        ("t_eval", evaluated, TABLE),
        ("t_grid", times(&grid), TABLE),
        ("t_grid_bf16", times(&grid_bf16), TABLE),
        ("idx_eval", timesteps(&options, &grid), NETWORK * 10.0),
        ("idx_bf16", timesteps(&rounded, &grid_bf16), TABLE),
        ("sqrt_alpha_bar", vec![f64::from(options.level()?)], TABLE),
    ] {
        if golden.has(name) {
            check.numbers(name, &values, &golden.values(name)?, tolerance);
        }
    }
    let checkpoint = checkpoint(golden, &golden.config, false)?;
    let model = load(&checkpoint, &golden.config, LoraMode::Merge)?;
    let start = options.start(&golden.tensor("ref_latents")?, &golden.tensor("noise")?)?;
    if golden.has("noised_start") {
        check.tensor(golden, "noised_start", &start, NETWORK)?;
    }
    let mut states = Vec::with_capacity(grid.len());
    let field = Recorder {
        field: GuidedField::new(&model, options),
        velocities: Mutex::default(),
    };
    let context = golden.tensor("cond")?;
    let end = euler::euler(&field, start, &grid, &context, check.progress, |_, x| {
        states.push(x.clone());
        Ok(x)
    })?;
    let velocities = field
        .velocities
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    for (name, values) in [("x_eval", states), ("velocity", velocities)] {
        if golden.has(name) {
            check.tensor(golden, name, &Tensor::stack(&values, 0)?, GUIDED)?;
        }
    }
    check.tensor(golden, "final", &end, GUIDED)
}

/// Keeps every velocity of a field.
struct Recorder<'a> {
    field: GuidedField<'a>,
    velocities: Mutex<Vec<Tensor>>,
}

impl VelocityField for Recorder<'_> {
    type Condition = Tensor;

    fn velocity(
        &self,
        x: &Tensor,
        at: FlowTime,
        context: &Tensor,
        progress: &Progress,
    ) -> Result<Tensor> {
        let velocity = self.field.velocity(x, at, context, progress)?;
        let mut velocities = self
            .velocities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        velocities.push(velocity.clone());
        Ok(velocity)
    }
}
