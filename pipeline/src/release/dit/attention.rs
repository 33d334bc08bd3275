// SPDX-License-Identifier: MPL-2.0
//! Full attention over text and image tokens without a tokens x tokens matrix.
//!
//! On the CPU this is the kernel of [`cpu::attention`](crate::cpu::attention); on GPUs some heads and queries are
//! taken at a time, which see all keys at once.

use candle_core::{Device, Tensor};
use candle_nn::{ops, rotary_emb};
use half::bf16;

use super::adaln::LayerNorm;
use super::config::DitConfig;
use super::cpu_heads::{CpuHeads, Pushed};
use super::rope::Rope;
use crate::cpu::level::CpuLevel;
use crate::cpu::tensors::with_f32;
use crate::error::{Error, Result};
use crate::linear::Operand;
use crate::plan::operands::OperandLimit;
use crate::progress::CancelToken;

/// Queries in a block on GPUs: enough rows for a matrix product at its full speed.
const QUERIES: usize = 1024;

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
    /// On the CPU, in f32.
    F32(CpuHeads<f32>),
    /// On the CPU, in bf16.
    Bf16(CpuHeads<bf16>),
    /// Queries, keys and values in pieces `[heads, rows, dim]` along the tokens; queries are scaled.
    Device([Vec<Tensor>; 3], OperandLimit),
}

/// Number types that [`Parts`] are kept in on the CPU.
pub(super) trait Kept: Operand {
    fn parts(heads: CpuHeads<Self>) -> Parts;
    fn cpu(parts: &Parts) -> Option<&CpuHeads<Self>>;
}

impl Kept for f32 {
    fn parts(heads: CpuHeads<Self>) -> Parts {
        Parts::F32(heads)
    }

    fn cpu(parts: &Parts) -> Option<&CpuHeads<Self>> {
        match parts {
            Parts::F32(heads) => Some(heads),
            _ => None,
        }
    }
}

impl Kept for bf16 {
    fn parts(heads: CpuHeads<Self>) -> Parts {
        Parts::Bf16(heads)
    }

    fn cpu(parts: &Parts) -> Option<&CpuHeads<Self>> {
        match parts {
            Parts::Bf16(heads) => Some(heads),
            _ => None,
        }
    }
}

impl<'a> Heads<'a> {
    /// For `tokens` tokens, the first `text` of which are not rotated; on the CPU in f32.
    ///
    /// # Errors
    /// A wrong [`CPU_VARIABLE`](crate::cpu::level::CPU_VARIABLE).
    pub fn new(
        config: &DitConfig,
        norm: &'a QkNorm,
        rope: &'a Rope,
        (text, tokens): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        if let Some(limit) = OperandLimit::of(device) {
            return Self::limited(config, norm, rope, (text, tokens), limit);
        }
        let level = CpuLevel::selected()?;
        Ok(Self::cpu::<f32>(config, norm, rope, (text, tokens), level))
    }

    /// As [`new`](Self::new), for devices whose operands are limited.
    ///
    /// # Errors
    /// [`Error::Invalid`] for more tokens than these can number.
    fn limited(
        config: &DitConfig,
        norm: &'a QkNorm,
        rope: &'a Rope,
        (text, tokens): (usize, usize),
        limit: OperandLimit,
    ) -> Result<Self> {
        limit.admit(tokens * config.hidden)?;
        let parts = Parts::Device(Default::default(), limit);
        Ok(Self::with(config, norm, rope, (text, tokens), parts))
    }

    /// As [`new`](Self::new) on the CPU in `T`.
    pub fn cpu<T: Kept>(
        config: &DitConfig,
        norm: &'a QkNorm,
        rope: &'a Rope,
        (text, tokens): (usize, usize),
        level: CpuLevel,
    ) -> Self {
        let parts = T::parts(CpuHeads::new(level, tokens, config.heads, config.head_dim));
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
        if let Parts::Device(all, _) = &mut self.parts {
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
                if index == 0 {
                    x = (x / (self.dim as f64).sqrt())?;
                }
                pieces.push(x);
            }
            self.filled += count;
            Ok(())
        } else {
            with_f32(rows, |rows| self.push_rows(rows))
        }
    }

    /// As [`push`](Self::push), for heads on the CPU.
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
            Parts::Device(..) => return Err(Error::invalid("rows of the CPU for a GPU")),
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
            Parts::Device([q, k, v], _) => {
                let q = (Tensor::cat(q, 1)? * (self.dim as f64).sqrt())?;
                return Ok([q, Tensor::cat(k, 1)?, Tensor::cat(v, 1)?]);
            }
        };
        let shape = (self.heads, self.tokens, self.dim);
        let [q, k, v] = values.map(|values| Tensor::from_vec(values, shape, &Device::Cpu));
        Ok([q?, k?, v?])
    }

    /// `softmax(q k^T / sqrt(dim)) v` of all tokens, heads side by side: `[tokens, hidden]`.
    pub fn attend(self, cancel: &CancelToken) -> Result<Tensor> {
        self.complete()?;
        match self.parts {
            Parts::Device(pieces, limit) => {
                // The pieces of each are given up before the next are joined.
                let joined = pieces.map(|pieces| limit.cat(&pieces, 1));
                on_device(joined, &limit, cancel)
            }
            _ => {
                let shape = (self.tokens, self.heads * self.dim);
                let out = self.attend_cpu::<f32>(cancel)?;
                Ok(Tensor::from_vec(out, shape, &Device::Cpu)?)
            }
        }
    }

    /// As [`attend`](Self::attend), for heads that were made by [`cpu`](Self::cpu) for `T`.
    pub fn attend_cpu<T: Kept>(self, cancel: &CancelToken) -> Result<Vec<T>> {
        self.complete()?;
        T::cpu(&self.parts)
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

/// Heads and queries that are taken at a time, for `heads` heads over `tokens` tokens: so many queries of one head that
/// their scores stay small, and then as many heads.
pub(super) fn block(heads: usize, tokens: usize, limit: &OperandLimit) -> (usize, usize) {
    let queries = limit.most(tokens).min(QUERIES).min(tokens.max(1));
    (limit.most(queries * tokens).min(heads.max(1)), queries)
}

/// Attention of scaled queries, of keys and of values `[heads, tokens, dim]`: `[tokens, heads * dim]`.
fn on_device(
    qkv: [Result<Tensor>; 3],
    limit: &OperandLimit,
    cancel: &CancelToken,
) -> Result<Tensor> {
    let [q, k, v] = qkv;
    let (q, k, v) = (q?, k?.t()?, v?);
    let (heads, tokens, dim) = q.dims3()?;
    let (group, block) = block(heads, tokens, limit);
    let out = Tensor::zeros((tokens, heads * dim), q.dtype(), q.device())?;
    for first in (0..tokens).step_by(block) {
        let count = block.min(tokens - first);
        let mut groups = Vec::with_capacity(heads.div_ceil(group));
        for head in (0..heads).step_by(group) {
            cancel.check()?;
            let size = group.min(heads - head);
            let of = |x: &Tensor| x.narrow(0, head, size);
            let queries = of(&q)?.narrow(1, first, count)?.contiguous()?;
            let scores = limit.matmul(&queries, &of(&k)?)?;
            groups.push(limit.matmul(&ops::softmax_last_dim(&scores)?, &of(&v)?)?);
        }
        let rows = limit.cat(&groups, 0)?.transpose(0, 1)?.contiguous()?;
        out.slice_set(&rows.reshape((count, heads * dim))?, 0, first)?;
    }
    Ok(out)
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

    /// More tokens than fit into one block of queries or keys, and from one query of one head at a time to all at once.
    #[test]
    fn blocks_equal_the_plain_formula_and_stay_below_the_limit() {
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
        let fill = |mut heads: Heads<'_>| {
            for (first, count) in [(0, text), (text, 100), (text + 100, tokens - text - 100)] {
                let rows = rows.narrow(0, first, count).unwrap();
                heads.push(&rows).unwrap();
            }
            (
                heads.tensors().unwrap(),
                heads.attend(&CancelToken::new()).unwrap(),
            )
        };
        let (want_heads, want) = fill(new());
        // Nothing may be larger than the tokens with their features.
        for elements in [tokens * 32 + 1, 50_000, 1 << 20] {
            let limit = OperandLimit::new(elements);
            let sizes = (text, tokens);
            let heads = Heads::limited(&config, &norm, &rope, sizes, limit.clone()).unwrap();
            let (got_heads, got) = fill(heads);
            for (a, b) in got_heads.iter().zip(&want_heads) {
                assert!(difference(a, b) < 1e-5);
            }
            assert!(difference(&got, &want) < 1e-4, "{elements} elements");
            assert!(limit.operations() > 0 && limit.largest() < elements);
        }
        let few = OperandLimit::new(tokens * 32);
        assert!(Heads::limited(&config, &norm, &rope, (text, tokens), few).is_err());
    }

    #[test]
    fn blocks_of_the_released_models() {
        let gpu = OperandLimit::gpu();
        // Stage II at 1080p, one head at a time; Stage I, many.
        assert_eq!(block(30, 104_746, &gpu), (1, 1024));
        assert_eq!(block(48, 6_466, &gpu), (20, 1024));
        // More tokens than scores in a part: single queries.
        assert_eq!(block(30, 200_000_000, &gpu), (1, 1));
        assert_eq!(block(2, 5, &OperandLimit::new(12)), (1, 2));
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
