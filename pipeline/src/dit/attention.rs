//! Full attention over text and image tokens without a tokens x tokens matrix.
//!
//! Queries are taken in blocks. On the processor keys are too, with a running softmax (Milakov and Gimelshein,
//! arXiv 1805.02867), so that scores never leave the cache; elsewhere a block of queries sees all keys at once.

use candle_core::{D, Device, Tensor};
use candle_nn::{ops, rotary_emb};
use rayon::prelude::*;

use super::adaln::{LayerNorm, lanes, normalize};
use super::config::DitConfig;
use super::rope::Rope;
use crate::error::{Error, Result};
use crate::kernels::elementwise::exp;
use crate::kernels::matmul::{Matrix, matmul};
use crate::kernels::tensors::with_f32;
use crate::progress::CancelToken;

/// Queries in a block.
const QUERIES: usize = 256;
/// Keys in a block, on the processor.
const KEYS: usize = 512;
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

enum Parts {
    /// Queries, keys and values, each `[heads, tokens, dim]`.
    Processor([Vec<f32>; 3]),
    /// The same in pieces `[heads, rows, dim]` along the tokens.
    Device([Vec<Tensor>; 3]),
}

impl<'a> Heads<'a> {
    /// For `tokens` tokens, the first `text` of which are not rotated.
    pub fn new(
        config: &DitConfig,
        norm: &'a QkNorm,
        rope: &'a Rope,
        (text, tokens): (usize, usize),
        device: &Device,
    ) -> Self {
        let size = tokens * config.hidden;
        let parts = if device.is_cpu() {
            Parts::Processor([vec![0.0; size], vec![0.0; size], vec![0.0; size]])
        } else {
            Parts::Device(Default::default())
        };
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
        if width != 3 * self.heads * self.dim || self.filled + count > self.tokens {
            return Err(Error::invalid(format!(
                "{count} rows of {width} features after {} of {} tokens with {} heads of {}",
                self.filled, self.tokens, self.heads, self.dim
            )));
        }
        match &mut self.parts {
            Parts::Processor(all) => {
                let place = Place {
                    first: self.filled,
                    image: self.filled.checked_sub(self.text),
                    tokens: self.tokens,
                    dim: self.dim,
                    width,
                    rope: self.rope,
                };
                let [queries, keys, values] = all;
                let hidden = self.heads * self.dim;
                with_f32(rows, |rows| {
                    place.normed(queries, rows, &self.norm.query)?;
                    place.normed(keys, rows.get(hidden..).unwrap_or_default(), &self.norm.key)?;
                    place.plain(values, rows.get(2 * hidden..).unwrap_or_default());
                    Ok(())
                })?;
            }
            Parts::Device(all) => {
                let image = self.filled.checked_sub(self.text);
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
            }
        }
        self.filled += count;
        Ok(())
    }

    /// Queries, keys and values as `[heads, tokens, dim]`; copies, for inspection.
    pub fn tensors(&self) -> Result<[Tensor; 3]> {
        let shape = (self.heads, self.tokens, self.dim);
        match &self.parts {
            Parts::Processor([q, k, v]) => Ok([
                Tensor::from_slice(q, shape, &Device::Cpu)?,
                Tensor::from_slice(k, shape, &Device::Cpu)?,
                Tensor::from_slice(v, shape, &Device::Cpu)?,
            ]),
            Parts::Device([q, k, v]) => {
                Ok([Tensor::cat(q, 1)?, Tensor::cat(k, 1)?, Tensor::cat(v, 1)?])
            }
        }
    }

    /// `softmax(q k^T / sqrt(dim)) v` of all tokens, heads side by side: `[tokens, hidden]`.
    pub fn attend(self, cancel: &CancelToken) -> Result<Tensor> {
        if self.filled != self.tokens {
            return Err(Error::invalid(format!(
                "attention over {} tokens, only {} of which are there",
                self.tokens, self.filled
            )));
        }
        match self.parts {
            Parts::Processor(parts) => {
                let hidden = self.heads * self.dim;
                let out = on_processor(&parts, self.tokens, self.dim, hidden, cancel)?;
                Ok(Tensor::from_vec(out, (self.tokens, hidden), &Device::Cpu)?)
            }
            Parts::Device([q, k, v]) => {
                let (q, k, v) = (
                    Tensor::cat(&q, 1)?,
                    Tensor::cat(&k, 1)?,
                    Tensor::cat(&v, 1)?,
                );
                on_device(&q, &k, &v, cancel)
            }
        }
    }
}

/// Where rows go and which positions they have.
struct Place<'a> {
    first: usize,
    /// Number of the first row among the image tokens.
    image: Option<usize>,
    tokens: usize,
    dim: usize,
    width: usize,
    rope: &'a Rope,
}

impl Place<'_> {
    fn normed(&self, to: &mut [f32], rows: &[f32], norm: &LayerNorm) -> Result<()> {
        with_f32(&norm.weight, |weight| {
            with_f32(&norm.bias, |bias| {
                self.each(to, rows, |row, to, from| {
                    normalize(to, from, weight, bias, norm.eps);
                    if let Some(first) = self.image {
                        self.rope.rotate(first + row, to);
                    }
                });
                Ok(())
            })
        })
    }

    fn plain(&self, to: &mut [f32], rows: &[f32]) {
        self.each(to, rows, |_, to, from| to.copy_from_slice(from));
    }

    /// Calls `work(row, to, from)` for every row of every head.
    fn each(&self, to: &mut [f32], rows: &[f32], work: impl Fn(usize, &mut [f32], &[f32]) + Sync) {
        to.par_chunks_mut(self.tokens * self.dim)
            .enumerate()
            .for_each(|(head, to)| {
                let to = to.chunks_mut(self.dim).skip(self.first);
                for ((row, from), to) in rows.chunks(self.width).enumerate().zip(to) {
                    if let Some(from) = from.get(head * self.dim..(head + 1) * self.dim) {
                        work(row, to, from);
                    }
                }
            });
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

fn on_processor(
    [queries, keys, values]: &[Vec<f32>; 3],
    tokens: usize,
    dim: usize,
    hidden: usize,
    cancel: &CancelToken,
) -> Result<Vec<f32>> {
    let mut out = vec![0f32; tokens * hidden];
    // Small clips are cut finer, so that every thread has work; long ones so that a task ends soon.
    let block = tokens
        .div_ceil(2 * rayon::current_num_threads())
        .clamp(16, QUERIES);
    let block = if tokens > 32_768 {
        block.min(64)
    } else {
        block
    };
    out.par_chunks_mut(block * hidden)
        .enumerate()
        .try_for_each_init(Scratch::default, |scratch, (index, out)| {
            let heads = queries
                .chunks(tokens * dim)
                .zip(keys.chunks(tokens * dim).zip(values.chunks(tokens * dim)));
            for (head, (queries, (keys, values))) in heads.enumerate() {
                cancel.check()?;
                let first = index * block * dim;
                let count = out.len() / hidden * dim;
                scratch.attend(&queries[first..first + count], keys, values, dim);
                for (to, (row, sum)) in out
                    .chunks_mut(hidden)
                    .zip(scratch.result.chunks(dim).zip(&scratch.sums))
                {
                    let to = &mut to[head * dim..(head + 1) * dim];
                    for (to, value) in to.iter_mut().zip(row) {
                        *to = value / sum;
                    }
                }
            }
            Ok::<_, Error>(())
        })?;
    Ok(out)
}

/// Buffers of one task.
#[derive(Default)]
struct Scratch {
    scores: Vec<f32>,
    result: Vec<f32>,
    maxima: Vec<f32>,
    sums: Vec<f32>,
}

impl Scratch {
    /// One head: leaves the weighted sums of `values` in `result` and what they must be divided by in `sums`.
    fn attend(&mut self, queries: &[f32], keys: &[f32], values: &[f32], dim: usize) {
        let rows = queries.len() / dim;
        let scale = 1.0 / (dim as f32).sqrt();
        self.result.clear();
        self.result.resize(rows * dim, 0.0);
        self.maxima.clear();
        self.maxima.resize(rows, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(rows, 0.0);
        for (keys, values) in keys.chunks(KEYS * dim).zip(values.chunks(KEYS * dim)) {
            let count = keys.len() / dim;
            self.scores.resize(rows * count, 0.0);
            matmul(
                &mut self.scores,
                count,
                false,
                scale,
                Matrix::new(queries, (rows, dim), (dim, 1)),
                Matrix::new(keys, (count, dim), (dim, 1)).t(),
            );
            let states = self.maxima.iter_mut().zip(&mut self.sums);
            let results = self.result.chunks_mut(dim);
            for ((scores, (maximum, sum)), result) in
                self.scores.chunks_mut(count).zip(states).zip(results)
            {
                let new = maximum.max(largest(scores));
                let shrink = exp(*maximum - new);
                for score in scores.iter_mut() {
                    *score = exp(*score - new);
                }
                *sum = *sum * shrink + lanes(scores, |v| v);
                *maximum = new;
                for value in result {
                    *value *= shrink;
                }
            }
            matmul(
                &mut self.result,
                dim,
                true,
                1.0,
                Matrix::new(&self.scores, (rows, count), (count, 1)),
                Matrix::new(values, (count, dim), (dim, 1)),
            );
        }
    }
}

fn largest(values: &[f32]) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (maximum, value) in maxima.iter_mut().zip(eight) {
            *maximum = if *value > *maximum { *value } else { *maximum };
        }
    }
    maxima
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
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
        let new = || Heads::new(&config, &norm, &rope, (text, tokens), &Device::Cpu);
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
    fn large_scores_stay_finite() {
        let mut scratch = Scratch::default();
        let queries = vec![40.0; 2 * 16];
        let keys: Vec<f32> = (0..600 * 16).map(|i| (i / 16) as f32 - 300.0).collect();
        let values: Vec<f32> = (0..600 * 16).map(|i| (i / 16) as f32).collect();
        scratch.attend(&queries, &keys, &values, 16);
        let top = scratch.result[0] / scratch.sums[0];
        assert!((top - 599.0).abs() < 1e-3, "{top}");
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
        let mut heads = Heads::new(&config, &norm, &rope, (1, 2), &Device::Cpu);
        assert!(heads.push(&wave(&[3, 48], 0.1)).is_err());
        heads.push(&wave(&[1, 48], 0.1)).unwrap();
        assert!(heads.attend(&CancelToken::new()).is_err());
    }
}
