// SPDX-License-Identifier: MPL-2.0
//! A block on the CPU: packed products with what precedes and follows them fused, rows changed in place.

use candle_core::Tensor;

use super::adaln::{LayerNorm, Modulation, Segment};
use super::attention::{Heads, Kept};
use super::block::{Block, Tokens};
use super::config::DitConfig;
use super::cpu_heads::normalize_rows;
use super::rope::Rope;
use super::{Probe, ProbePoint};
use crate::cpu::gemm::{Finish, Number, Rows};
use crate::cpu::level::CpuLevel;
use crate::cpu::tensors::{with_f32, with_f32_mut};
use crate::error::{Error, Result};
use crate::linear::{Factor, Linear, Operand};
use crate::progress::Progress;

/// Rows of the wide intermediate values that exist at a time.
const ROWS: usize = 960;

/// A linear layer as the kernels take it.
struct Layer<T> {
    weight: Factor<T>,
    bias: Vec<f32>,
}

impl<T: Operand> Layer<T> {
    fn of(linear: &Linear, rows: usize) -> Result<Option<Self>> {
        let bias = linear.bias_values()?;
        Ok(linear
            .for_products(rows)?
            .map(|weight| Self { weight, bias }))
    }

    fn forward<O: Number>(
        &self,
        x: &[T],
        finish: Finish<'_>,
        out: &mut [O],
        progress: &Progress,
    ) -> Result<()> {
        let inputs = self.weight.inputs();
        let x = Rows::new(x, x.len() / inputs.max(1), inputs);
        let bias = (!self.bias.is_empty()).then_some(&self.bias[..]);
        self.weight
            .multiply(x, bias, finish, out, progress.cancel_token())
    }
}

/// A modulated layer norm and the gate that belongs to it, for one segment.
struct Modulated {
    factor: Vec<f32>,
    addend: Vec<f32>,
    gate: Vec<f32>,
    eps: f32,
}

impl Modulated {
    fn new(norm: &LayerNorm, modulation: &Modulation) -> Result<Self> {
        let (factor, addend) = norm.affine(Some((&modulation.shift, &modulation.scale)))?;
        let values = |tensor| with_f32(tensor, |values| Ok(values.to_vec()));
        Ok(Self {
            factor: values(&factor)?,
            addend: values(&addend)?,
            gate: values(&modulation.gate)?,
            eps: norm.eps,
        })
    }

    fn rows<T: Operand>(&self, level: CpuLevel, x: &[f32], to: &mut [T]) {
        let affine = (&self.factor[..], &self.addend[..]);
        normalize_rows(level, to, x, affine, self.eps);
    }
}

/// Carries `tokens` through `block` in the number type `T` of its products; false if there are no kernels for its
/// weights.
///
/// # Errors
/// [`Error::Cancelled`], or a failed tensor operation.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<T: Kept>(
    block: &Block,
    config: &DitConfig,
    tokens: &Tokens,
    (image, text): (&Segment, &Segment),
    rope: &Rope,
    progress: &Progress,
    probe: &mut Option<&mut Probe<'_>>,
) -> Result<bool> {
    let (all, hidden) = tokens.rows.dims2()?;
    let level = CpuLevel::selected()?;
    let norms = |norm: &LayerNorm, of: fn(&Segment) -> &Modulation| {
        Ok::<_, Error>((
            Modulated::new(norm, of(text))?,
            Modulated::new(norm, of(image))?,
        ))
    };
    let steps = tokens.steps(ROWS)?;
    let longest = steps.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let mut normed = vec![T::default(); longest * hidden];

    // Weights that are packed for this use alone are given up as soon as all rows have met them.
    let Some(qkv) = Layer::<T>::of(&block.qkv, all)? else {
        return Ok(false);
    };
    let (text_norm, image_norm) = norms(&block.norm1, |segment| &segment.attention)?;
    let mut heads = Heads::cpu::<T>(config, &block.qk_norm, rope, (tokens.text, all), level);
    with_f32(&tokens.rows, |rows| {
        let mut projected = vec![0f32; longest * 3 * hidden];
        for &(first, count) in &steps {
            let norm = if first < tokens.text {
                &text_norm
            } else {
                &image_norm
            };
            let normed = &mut normed[..count * hidden];
            norm.rows(level, &rows[first * hidden..][..count * hidden], normed);
            let projected = &mut projected[..count * 3 * hidden];
            qkv.forward(normed, Finish::Store, projected, progress)?;
            heads.push_rows(projected)?;
        }
        Ok(())
    })?;
    drop(qkv);
    block.show_heads(&heads, probe)?;
    let attended = heads.attend_cpu::<T>(progress.cancel_token())?;
    if let Some(probe) = probe {
        let wide: Vec<f32> = attended.iter().map(|value| value.to_f32()).collect();
        let shape = (all, config.heads, config.head_dim);
        let wide = Tensor::from_vec(wide, shape, tokens.rows.device())?;
        probe(ProbePoint::Attention(block.index), &wide.transpose(0, 1)?)?;
    }

    let layers = (
        Layer::<T>::of(&block.dense, all)?,
        Layer::<T>::of(&block.up, all)?,
        Layer::<T>::of(&block.down, all)?,
    );
    let (Some(dense), Some(up), Some(down)) = layers else {
        return Ok(false);
    };
    let (text_mlp, image_mlp) = norms(&block.norm2, |segment| &segment.mlp)?;
    with_f32_mut(&tokens.rows, |rows| {
        let mut wide = vec![T::default(); longest * config.mlp];
        for &(first, count) in &steps {
            let (attention, mlp) = if first < tokens.text {
                (&text_norm, &text_mlp)
            } else {
                (&image_norm, &image_mlp)
            };
            let part = first * hidden..(first + count) * hidden;
            let rows = &mut rows[part.clone()];
            dense.forward(
                &attended[part],
                Finish::AddGated(&attention.gate),
                rows,
                progress,
            )?;
            let normed = &mut normed[..count * hidden];
            mlp.rows(level, rows, normed);
            let wide = &mut wide[..count * config.mlp];
            up.forward(normed, Finish::Gelu, wide, progress)?;
            down.forward(wide, Finish::AddGated(&mlp.gate), rows, progress)?;
        }
        Ok(())
    })?;
    Ok(true)
}
