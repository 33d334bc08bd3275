// SPDX-License-Identifier: MPL-2.0
//! A block at work: modulated attention and MLP over all tokens, a few rows at a time.

use candle_core::{DType, Device, Tensor};
use half::bf16;
use rayon::prelude::*;

use super::adaln::{self, Segment};
use super::attention::Heads;
use super::block::{Block, Tokens};
use super::config::DitConfig;
use super::fused;
use super::rope::Rope;
use super::{Probe, ProbePoint};
use crate::cpu::elementwise::gelu_tanh;
use crate::cpu::tensors::with_f32;
use crate::error::Result;
use crate::linear::Linear;
use crate::plan::operands::OperandLimit;
use crate::progress::Progress;

/// Operations in a step between two looks at the cancel token, for one thread.
const STEP_OPERATIONS: usize = 5_000_000_000;

impl Block {
    /// Carries `tokens` through the block; `embedding` is `[1, time_dim]`.
    pub fn forward(
        &self,
        config: &DitConfig,
        tokens: &Tokens,
        embedding: &Tensor,
        rope: &Rope,
        progress: &Progress,
        probe: &mut Option<&mut Probe<'_>>,
    ) -> Result<()> {
        progress.check()?;
        let (image, text) = adaln::modulations(&self.modulation, embedding)?;
        let segment = |first: usize| if first < tokens.text { &text } else { &image };
        let device = tokens.rows.device();
        if device.is_cpu() {
            let segments = (&image, &text);
            let done = if self.takes_bf16() {
                fused::forward::<bf16>(self, config, tokens, segments, rope, progress, probe)?
            } else {
                fused::forward::<f32>(self, config, tokens, segments, rope, progress, probe)?
            };
            if done {
                return Ok(());
            }
        }
        let dtype = tokens.rows.dtype();
        let steps = tokens.steps(rows_in_step(config, device))?;

        let qkv = widened(&self.qkv, dtype, &steps)?;
        let all = tokens.rows.dim(0)?;
        let mut heads = Heads::new(config, &self.qk_norm, rope, (tokens.text, all), device)?;
        for &(first, count) in &steps {
            progress.check()?;
            let Segment { attention, .. } = segment(first);
            let x = tokens.rows.narrow(0, first, count)?;
            let x = self
                .norm1
                .forward(&x, Some((&attention.shift, &attention.scale)))?;
            heads.push(&qkv.forward(&x)?)?;
        }
        drop(qkv);
        self.show_heads(&heads, probe)?;
        let attended = heads.attend(progress.cancel_token())?;
        if let Some(probe) = probe {
            let by_head = attended
                .reshape((all, config.heads, config.head_dim))?
                .transpose(0, 1)?;
            probe(ProbePoint::Attention(self.index), &by_head)?;
        }

        let dense = widened(&self.dense, dtype, &steps)?;
        let up = widened(&self.up, dtype, &steps)?;
        let down = widened(&self.down, dtype, &steps)?;
        for &(first, count) in &steps {
            let Segment { attention, mlp } = segment(first);
            progress.check()?;
            let y = dense.forward(&attended.narrow(0, first, count)?)?;
            let x = tokens.rows.narrow(0, first, count)?;
            let x = adaln::add_gated(&x, &attention.gate, &y)?;
            let y = self.norm2.forward(&x, Some((&mlp.shift, &mlp.scale)))?;
            let y = up.forward(&y)?;
            progress.check()?;
            let y = down.forward(&gelu(y)?)?;
            tokens
                .rows
                .slice_set(&adaln::add_gated(&x, &mlp.gate, &y)?, 0, first)?;
        }
        Ok(())
    }
}

/// Rows that pass through the widest layers in well under 100 ms; on GPUs, whose results are small operands.
fn rows_in_step(config: &DitConfig, device: &Device) -> usize {
    let widest = config.widest();
    if let Some(limit) = OperandLimit::of(device) {
        return limit.most(widest);
    }
    let operations = 2 * config.hidden * widest;
    (STEP_OPERATIONS * rayon::current_num_threads() / operations.max(1)).clamp(64, 4096)
}

/// `linear` in the type of the activations when it is used many times, else as it is: a layer that is stored in fewer
/// bits is converted once for all rows, and only one layer at a time.
fn widened(linear: &Linear, dtype: DType, steps: &[(usize, usize)]) -> Result<Linear> {
    match linear.weight() {
        Some(weight) if weight.dtype() != dtype && steps.len() > 2 => {
            Ok(Linear::new(weight.to_dtype(dtype)?, linear.bias().cloned())
                .with_loras(linear.loras().to_vec()))
        }
        _ => Ok(linear.clone()),
    }
}

/// GELU in its tanh form.
fn gelu(x: Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return Ok(x.gelu()?);
    }
    let mut result = vec![0f32; x.elem_count()];
    with_f32(&x, |x| {
        result
            .par_chunks_mut(4096)
            .zip(x.par_chunks(4096))
            .for_each(|(to, from)| {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = gelu_tanh(*from);
                }
            });
        Ok(())
    })?;
    Ok(Tensor::from_vec(result, x.shape(), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_widened_only_for_many_steps() {
        let weight = Tensor::ones((2, 2), DType::BF16, &Device::Cpu).unwrap();
        let linear = Linear::new(weight, None);
        let dtype = |steps: &[(usize, usize)]| {
            let linear = widened(&linear, DType::F32, steps).unwrap();
            linear.weight().unwrap().dtype()
        };
        assert_eq!(dtype(&[(0, 1), (1, 1)]), DType::BF16);
        assert_eq!(dtype(&[(0, 1), (1, 1), (2, 1)]), DType::F32);
    }
}
