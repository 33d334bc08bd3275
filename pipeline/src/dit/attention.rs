//! Full attention over text and image tokens without a tokens x tokens matrix.
//!
//! On the processor this is the kernel of [`kernels::attention`](crate::kernels::attention); elsewhere queries are
//! taken in blocks that see all keys at once.

use candle_core::{D, Device, Tensor};
use candle_nn::{ops, rotary_emb};
use half::bf16;

use super::adaln::LayerNorm;
use super::config::DitConfig;
use super::processor::{Processor, Pushed};
use super::rope::Rope;
use crate::error::{Error, Result};
use crate::kernels::cpu::CpuLevel;
use crate::kernels::tensors::with_f32;
use crate::linear::Operand;
use crate::progress::CancelToken;

/// Queries in a block on other devices.
const QUERIES: usize = 256;
/// Scores that may exist at once on other devices.
const SCORES: usize = 1 << 27;

/// The norms of queries and keys, one pair for all heads of a layer.
#[derive(Debug)]
pub(super) struct QkNorm {
    pub query: LayerNorm,
    pub key: LayerNorm,
}

/// Queries, keys and values of one sample, head by head, filled with rows of the projection in order.
pub(super) struct Heads<'a> {
    norm: &'a QkNorm,
    rope: &'a Rope,
    text: usize,
    tokens: usize,
    heads: usize,
    dim: usize,
    filled: usize,
    parts: Parts,
}

/// Queries, keys and values.
pub(super) enum Parts {
    /// On the processor, in f32.
    F32(Processor<f32>),
    /// On the processor, in bf16.
    Bf16(Processor<bf16>),
    /// Queries, keys and values in pieces `[heads, rows, dim]` along the tokens.
    Device([Vec<Tensor>; 3]),
}

/// Number types that [`Parts`] are kept in on the processor.
pub(super) trait Kept: Operand {
    fn parts(processor: Processor<Self>) -> Parts;
    fn processor(parts: &Parts) -> Option<&Processor<Self>>;
}

impl Kept for f32 {
    fn parts(processor: Processor<Self>) -> Parts {
        Parts::F32(processor)
    }

    fn processor(parts: &Parts) -> Option<&Processor<Self>> {
        match parts {
            Parts::F32(processor) => Some(processor),
            _ => None,
        }
    }
}

impl Kept for bf16 {
    fn parts(processor: Processor<Self>) -> Parts {
        Parts::Bf16(processor)
    }

    fn processor(parts: &Parts) -> Option<&Processor<Self>> {
        match parts {
            Parts::Bf16(processor) => Some(processor),
            _ => None,
        }
    }
}

impl<'a> Heads<'a> {
    /// For `tokens` tokens, the first `text` of which are not rotated; on the processor in f32.
    ///
    /// # Errors
    /// A wrong [`CPU_VARIABLE`](crate::kernels::cpu::CPU_VARIABLE).
    pub fn new(
        config: &DitConfig,
        norm: &'a QkNorm,
        rope: &'a Rope,
        (text, tokens): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        if device.is_cpu() {
            let level = CpuLevel::selected()?;
            return Ok(Self::processor::<f32>(
                config,
                norm,
                rope,
                (text, tokens),
                level,
            ));
        }
        let parts = Parts::Device(Default::default());
        Ok(Self::with(config, norm, rope, (text, tokens), parts))
    }

    /// As [`new`](Self::new) on the processor in `T`.
    pub fn processor<T: Kept>(
        config: &DitConfig,
        norm: &'a QkNorm,
        rope: &'a Rope,
        (text, tokens): (usize, usize),
        level: CpuLevel,
    ) -> Self {
        let parts = T::parts(Processor::new(level, tokens, config.heads, config.head_dim));
        Self::with(config, norm, rope, (text, tokens), parts)
    }

    fn with(
        config: &DitConfig,
        norm: &'a QkNorm,
        rope: &'a Rope,
        (text, tokens): (usize, usize),
        parts: Parts,
    ) -> Self {
        Self {
            norm,
            rope,
            text,
            tokens,
            heads: config.heads,
            dim: config.head_dim,
            filled: 0,
            parts,
        }
    }

    /// Takes the next rows `[rows, 3 * hidden]`: queries, keys, values. All rows are text or all are image tokens.
    pub fn push(&mut self, rows: &Tensor) -> Result<()> {
        let (count, width) = rows.dims2()?;
        self.check(count, width)?;
        let image = self.filled.checked_sub(self.text);
        if let Parts::Device(all) = &mut self.parts {
            let all_rows = rows.reshape((count, 3, self.heads, self.dim))?;
            for (index, pieces) in all.iter_mut().enumerate() {
                let mut x = all_rows
                    .narrow(1, index, 1)?
                    .squeeze(1)?
                    .transpose(0, 1)?
                    .contiguous()?;
                let norm = [&self.norm.query, &self.norm.key];
                if let Some(norm) = norm.get(index) {
                    x = norm.forward(&x, None)?;
                    if let Some(first) = image {
                        x = rotate(&x, self.rope, first)?;
                    }
                }
                pieces.push(x);
            }
            self.filled += count;
            Ok(())
        } else {
            with_f32(rows, |rows| self.push_rows(rows))
        }
    }

    /// As [`push`](Self::push), for heads on the processor.
    pub fn push_rows(&mut self, rows: &[f32]) -> Result<()> {
        let width = 3 * self.heads * self.dim;
        let count = rows.len() / width.max(1);
        self.check(count, width)?;
        let pushed = Pushed {
            rows,
            first: self.filled,
            image: self.filled.checked_sub(self.text),
            rope: self.rope,
            query: &self.norm.query,
            key: &self.norm.key,
        };
        match &mut self.parts {
            Parts::F32(all) => all.push(&pushed)?,
            Parts::Bf16(all) => all.push(&pushed)?,
            Parts::Device(_) => return Err(Error::invalid("rows of the processor for a device")),
        }
        self.filled += count;
        Ok(())
    }

    fn check(&self, count: usize, width: usize) -> Result<()> {
        if width != 3 * self.heads * self.dim || self.filled + count > self.tokens {
            return Err(Error::invalid(format!(
                "{count} rows of {width} features after {} of {} tokens with {} heads of {}",
                self.filled, self.tokens, self.heads, self.dim
            )));
        }
        Ok(())
    }

    /// Queries, keys and values as `[heads, tokens, dim]`; copies, for inspection.
    pub fn tensors(&self) -> Result<[Tensor; 3]> {
        let values = match &self.parts {
            Parts::F32(all) => all.values(),
            Parts::Bf16(all) => all.values(),
            Parts::Device([q, k, v]) => {
                return Ok([Tensor::cat(q, 1)?, Tensor::cat(k, 1)?, Tensor::cat(v, 1)?]);
            }
        };
        let shape = (self.heads, self.tokens, self.dim);
        let [q, k, v] = values.map(|values| Tensor::from_vec(values, shape, &Device::Cpu));
        Ok([q?, k?, v?])
    }

    /// `softmax(q k^T / sqrt(dim)) v` of all tokens, heads side by side: `[tokens, hidden]`.
    pub fn attend(self, cancel: &CancelToken) -> Result<Tensor> {
        match &self.parts {
            Parts::Device([q, k, v]) => {
                self.complete()?;
                let (q, k, v) = (Tensor::cat(q, 1)?, Tensor::cat(k, 1)?, Tensor::cat(v, 1)?);
                on_device(&q, &k, &v, cancel)
            }
            _ => {
                let shape = (self.tokens, self.heads * self.dim);
                let out = self.attend_processor::<f32>(cancel)?;
                Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
            }
        }
    }

    /// As [`attend`](Self::attend), for heads that were made by [`processor`](Self::processor) for `T`.
    pub fn attend_processor<T: Kept>(self, cancel: &CancelToken) -> Result<Vec<T>> {
        self.complete()?;
        T::processor(&self.parts)
            .ok_or_else(|| {
                Error::invalid("attention in another number type than that of its heads")
            })?
            .attend(cancel)
    }

    fn complete(&self) -> Result<()> {
        if self.filled != self.tokens {
            return Err(Error::invalid(format!(
                "attention over {} tokens, only {} of which are there",
                self.tokens, self.filled
            )));
        }
        Ok(())
    }
}

/// `x` `[heads, rows, dim]`, the first of whose rows is image token `first`.
fn rotate(x: &Tensor, rope: &Rope, first: usize) -> Result<Tensor> {
    let (_, rows, dim) = x.dims3()?;
    let table = |values: &[f32]| {
        let values = &values[first * dim / 2..(first + rows) * dim / 2];
        Tensor::from_slice(values, (rows, dim / 2), x.device())?.to_dtype(x.dtype())
    };
    let turned = rotary_emb::rope_i(&x.unsqueeze(0)?, &table(rope.cos())?, &table(rope.sin())?)?;
    Ok(turned.squeeze(0)?)
}

/// Attention of `[heads, tokens, dim]` with all keys for a block of queries of all heads.
fn on_device(q: &Tensor, k: &Tensor, v: &Tensor, cancel: &CancelToken) -> Result<Tensor> {
    let (heads, tokens, dim) = q.dims3()?;
    let scale = 1.0 / (dim as f64).sqrt();
    let keys = k.t()?.contiguous()?;
    let block = (SCORES / (heads * tokens).max(1)).clamp(1, QUERIES);
    let mut blocks = Vec::with_capacity(tokens.div_ceil(block));
    for first in (0..tokens).step_by(block) {
        cancel.check()?;
        let queries = (q
            .narrow(1, first, block.min(tokens - first))?
            .contiguous()?
            * scale)?;
        let weights = ops::softmax(&queries.matmul(&keys)?, D::Minus1)?;
        blocks.push(weights.matmul(v)?);
    }
    let all = Tensor::cat(&blocks, 1)?;
    Ok(all
        .transpose(0, 1)?
        .contiguous()?
        .reshape((tokens, heads * dim))?)
}

#[cfg(test)]
mod tests {
    use super::super::config::Grid;
    use super::*;

    fn wave(shape: &[usize], frequency: f32) -> Tensor {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len)
            .map(|i| 3.0 * (i as f32 * frequency).sin())
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn config(heads: usize, head_dim: usize) -> DitConfig {
        DitConfig {
            layers: 1,
            hidden: heads * head_dim,
            heads,
            head_dim,
            mlp: 1,
            time_dim: 1,
            text_dim: 1,
            in_channels: 1,
            out_channels: 1,
            patch: 2,
            reference: false,
            rope_theta: 10_000.0,
        }
    }

    fn norm(dim: usize) -> QkNorm {
        let layer = |frequency| LayerNorm {
            weight: wave(&[dim], frequency),
            bias: wave(&[dim], frequency + 0.3),
            eps: 1e-6,
        };
        QkNorm {
            query: layer(0.5),
            key: layer(0.8),
        }
    }

    /// More tokens than fit into one block of queries or keys.
    #[test]
    fn blocks_equal_the_plain_formula() {
        let grid = Grid {
            frames: 3,
            rows: 12,
            columns: 18,
        };
        let (config, norm, text) = (config(2, 16), norm(16), 7);
        let rope = Rope::new(grid, 16, 10_000.0);
        let tokens = text + grid.tokens();
        let rows = wave(&[tokens, 96], 0.77);
        let new = || Heads::new(&config, &norm, &rope, (text, tokens), &Device::Cpu).unwrap();
        let mut processor = new();
        let mut device = Heads {
            parts: Parts::Device(Default::default()),
            ..new()
        };
        for heads in [&mut processor, &mut device] {
            for (first, count) in [(0, text), (text, 100), (text + 100, tokens - text - 100)] {
                heads.push(&rows.narrow(0, first, count).unwrap()).unwrap();
            }
        }
        for (a, b) in processor
            .tensors()
            .unwrap()
            .iter()
            .zip(&device.tensors().unwrap())
        {
            assert!(difference(a, b) < 1e-5);
        }
        let cancel = CancelToken::new();
        let got = processor.attend(&cancel).unwrap();
        let want = device.attend(&cancel).unwrap();
        assert!(difference(&got, &want) < 1e-4);
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        d.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn attention_over_missing_tokens_is_refused() {
        let grid = Grid {
            frames: 1,
            rows: 1,
            columns: 1,
        };
        let (config, norm) = (config(1, 16), norm(16));
        let rope = Rope::new(grid, 16, 10_000.0);
        let mut heads = Heads::new(&config, &norm, &rope, (1, 2), &Device::Cpu).unwrap();
        assert!(heads.push(&wave(&[3, 48], 0.1)).is_err());
        heads.push(&wave(&[1, 48], 0.1)).unwrap();
        assert!(heads.attend(&CancelToken::new()).is_err());
    }
}
