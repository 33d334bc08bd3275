// SPDX-License-Identifier: MPL-2.0
//! `softmax(q k^T * scale) v` of one head without a tokens x tokens matrix.
//!
//! Scores of a block of queries with a block of keys never leave the second cache; a running maximum and a running
//! sum (Milakov and Gimelshein, arXiv 1805.02867; Rabe and Staats, arXiv 2112.05682) join the blocks of keys.

use rayon::prelude::*;

use super::elementwise::exp;
use super::gemm::{Ahead, Element, Packed, Tile, panel_width, rows};
use super::level::CpuLevel;
use super::shared::Shared;
use super::vector::{Work, run};
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// Queries in a block, at most.
const QUERIES: usize = 96;
/// Keys in a block: a multiple of every panel width.
const KEYS: usize = 512;
/// Sums that run side by side, so that the compiler can keep them in vector registers.
const LANES: usize = 32;

/// Queries, keys and values of one head, the latter two as weights of matrix products.
#[derive(Debug)]
pub struct Head<T> {
    tokens: usize,
    dim: usize,
    /// `[tokens, dim]`
    queries: Vec<T>,
    /// `[tokens, dim]`
    keys: Packed<T>,
    /// `[dim, tokens]`, tokens rounded up to pairs for bf16.
    values: Packed<T>,
}

impl<T: Element> Head<T> {
    /// Room for `tokens` queries, keys and values of `dim` features.
    ///
    /// # Panics
    /// When `dim` is no multiple of 16.
    pub fn new(level: CpuLevel, tokens: usize, dim: usize) -> Self {
        assert!(dim.is_multiple_of(16), "heads of {dim} features");
        Self {
            tokens,
            dim,
            queries: vec![T::default(); tokens * dim],
            keys: Packed::zeroed(level, tokens, dim),
            values: Packed::zeroed(level, dim, tokens.next_multiple_of(T::GROUP)),
        }
    }

    /// The query of a token, to be set.
    pub fn query_mut(&mut self, token: usize) -> &mut [T] {
        &mut self.queries[token * self.dim..][..self.dim]
    }

    /// Sets the key of a token.
    pub fn set_key(&mut self, token: usize, key: &[T]) {
        self.keys.set_output(token, key);
    }

    /// Sets the value of a token.
    pub fn set_value(&mut self, token: usize, value: &[T]) {
        self.values.set_input(token, value);
    }

    /// The queries as `[tokens, dim]`.
    pub fn queries(&self) -> &[T] {
        &self.queries
    }

    /// The keys as `[tokens, dim]`.
    pub fn keys(&self) -> Vec<T> {
        self.keys.unpacked()
    }

    /// The values as `[tokens, dim]`.
    pub fn values(&self) -> Vec<T> {
        let columns = self.values.unpacked();
        let stride = self.values.inputs();
        (0..self.tokens)
            .flat_map(|token| columns.iter().skip(token).step_by(stride).copied())
            .collect()
    }
}

/// `softmax(q k^T / sqrt(dim)) v` of all `heads`, side by side in `out` `[tokens, heads * dim]`, on all threads.
///
/// # Errors
/// [`Error::Invalid`] when `out` has another size, [`Error::Cancelled`].
pub fn attend<T: Element>(heads: &[Head<T>], out: &mut [T], cancel: &CancelToken) -> Result<()> {
    let Some(Head { tokens, dim, .. }) = heads.first() else {
        return cancel.check();
    };
    let (tokens, dim, hidden) = (*tokens, *dim, heads.len() * dim);
    let alike = heads
        .iter()
        .all(|head| head.tokens == tokens && head.dim == dim);
    if !alike || out.len() != tokens * hidden {
        return Err(Error::invalid(format!(
            "attention of {} heads of {dim} features over {tokens} tokens into {} values",
            heads.len(),
            out.len()
        )));
    }
    let target = Shared::new(out);
    let scale = 1.0 / (dim as f32).sqrt();
    let blocks = tokens.div_ceil(QUERIES);
    // Head by head, so that its keys and values stay in the last cache.
    let tasks = (0..heads.len() * blocks).into_par_iter().with_max_len(1);
    tasks.try_for_each_init(Scratch::default, |scratch, task| {
        cancel.check()?;
        let (index, first) = (task / blocks, task % blocks * QUERIES);
        let head = &heads[index];
        let end = (first + QUERIES).min(tokens);
        let queries = &head.queries[first * dim..end * dim];
        scratch.attend(queries, head, scale, |row, values| {
            // SAFETY: every task has tokens or a head of its own.
            let to = unsafe { target.part_mut((first + row) * hidden + index * dim, dim) };
            for (to, value) in to.iter_mut().zip(values) {
                *to = T::from_f32(*value);
            }
        });
        Ok(())
    })
}

/// Buffers of one task, kept for the next.
#[derive(Debug)]
struct Scratch<T> {
    scores: Vec<f32>,
    weights: Vec<T>,
    result: Vec<f32>,
    maxima: Vec<f32>,
    sums: Vec<f32>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            scores: Vec::new(),
            weights: Vec::new(),
            result: Vec::new(),
            maxima: Vec::new(),
            sums: Vec::new(),
        }
    }
}

impl<T: Element> Scratch<T> {
    /// Attention of `queries` `[up to QUERIES, dim]`; `store(row, values)` is called with each row of the result.
    ///
    /// # Panics
    /// When `queries` is no number of whole rows.
    fn attend(
        &mut self,
        queries: &[T],
        head: &Head<T>,
        scale: f32,
        mut store: impl FnMut(usize, &[f32]),
    ) {
        let (dim, level) = (head.dim, head.keys.level());
        assert!(queries.len().is_multiple_of(dim));
        let count = queries.len() / dim;
        self.reset(count, dim);
        for first in (0..head.tokens).step_by(KEYS) {
            let keys = KEYS.min(head.tokens - first);
            self.score(queries, head, first, keys);
            let padded = keys.next_multiple_of(T::GROUP);
            let states = self.maxima.iter_mut().zip(&mut self.sums);
            let lines = self
                .scores
                .chunks_exact(KEYS)
                .zip(self.weights.chunks_exact_mut(KEYS));
            for ((scores, weights), ((maximum, sum), result)) in
                lines.zip(states.zip(self.result.chunks_exact_mut(dim)))
            {
                weights[keys..padded].fill(T::default());
                let softmax = Softmax {
                    scores: &scores[..keys],
                    weights: &mut weights[..keys],
                    scale,
                    maximum,
                    sum,
                    result,
                };
                run(level, softmax);
            }
            for (panel, column) in (0..dim).step_by(panel_width(level)).enumerate() {
                let (lines, width) = head.values.lines(panel, first, padded);
                let tile = Tile {
                    x: self.weights.as_ptr(),
                    x_stride: KEYS,
                    depth: padded,
                    weights: lines.as_ptr(),
                    sums: self.result[column..].as_mut_ptr(),
                    sums_stride: dim,
                    add: true,
                    ahead: Ahead::NONE,
                };
                // SAFETY: `weights` has `count` rows of KEYS values, `lines` `padded` lines of `width`, and `result`
                // `count` rows of `dim` values, `width` of which are left from `column` on.
                unsafe { rows(level, count, width, tile) };
            }
        }
        for (row, (values, sum)) in self
            .result
            .chunks_exact_mut(dim)
            .zip(&self.sums)
            .enumerate()
        {
            let inverse = 1.0 / sum;
            for value in &mut *values {
                *value *= inverse;
            }
            store(row, values);
        }
    }

    fn reset(&mut self, count: usize, dim: usize) {
        self.scores.resize(count * KEYS, 0.0);
        self.weights.resize(count * KEYS, T::default());
        self.result.clear();
        self.result.resize(count * dim, 0.0);
        self.maxima.clear();
        self.maxima.resize(count, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(count, 0.0);
    }

    /// Products of the queries with `keys` keys from `first` on, in rows of KEYS.
    fn score(&mut self, queries: &[T], head: &Head<T>, first: usize, keys: usize) {
        let (dim, level) = (head.dim, head.keys.level());
        let panel = panel_width(level);
        for column in (0..keys).step_by(panel) {
            let (lines, width) = head.keys.lines((first + column) / panel, 0, dim);
            let tile = Tile {
                x: queries.as_ptr(),
                x_stride: dim,
                depth: dim,
                weights: lines.as_ptr(),
                sums: self.scores[column..].as_mut_ptr(),
                sums_stride: KEYS,
                add: false,
                ahead: Ahead::NONE,
            };
            // SAFETY: `queries` has rows of `dim` values, `lines` `dim` lines of `width`; `scores` has rows of KEYS, a
            // multiple of the panel width, so that a whole panel is left from `column` on.
            unsafe { rows(level, queries.len() / dim, width, tile) };
        }
    }
}

/// One row of scores into weights beside the running maximum; scales what there is of the result.
struct Softmax<'a, T> {
    scores: &'a [f32],
    weights: &'a mut [T],
    scale: f32,
    maximum: &'a mut f32,
    sum: &'a mut f32,
    result: &'a mut [f32],
}

impl<T: Element> Work for Softmax<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (lines, rest) = self.scores.as_chunks::<LANES>();
        let mut maxima = [f32::NEG_INFINITY; LANES];
        for line in lines {
            for (maximum, score) in maxima.iter_mut().zip(line) {
                *maximum = if *score > *maximum { *score } else { *maximum };
            }
        }
        let mut new = *self.maximum;
        for score in maxima.iter().chain(rest) {
            new = if *score > new { *score } else { new };
        }
        let shift = new * self.scale;
        let mut sums = [0f32; LANES];
        let (to, to_rest) = self.weights.as_chunks_mut::<LANES>();
        for (to, line) in to.iter_mut().zip(lines) {
            for ((to, sum), score) in to.iter_mut().zip(&mut sums).zip(line) {
                let weight = exp(score * self.scale - shift);
                *sum += weight;
                *to = T::from_f32(weight);
            }
        }
        let mut sum: f32 = sums.iter().sum();
        for (to, score) in to_rest.iter_mut().zip(rest) {
            let weight = exp(score * self.scale - shift);
            sum += weight;
            *to = T::from_f32(weight);
        }
        let shrink = exp(*self.maximum * self.scale - shift);
        *self.sum = *self.sum * shrink + sum;
        *self.maximum = new;
        for value in self.result {
            *value *= shrink;
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Queries, keys and values `[tokens, dim]`, rounded to `T`.
    fn draw<T: Element>(tokens: usize, dim: usize, size: f32) -> [Vec<T>; 3] {
        let mut rng = ChaCha8Rng::seed_from_u64((tokens * 1009 + dim) as u64);
        [size, size, 1.0].map(|size| {
            (0..tokens * dim)
                .map(|_| T::from_f32(rng.random_range(-size..=size)))
                .collect()
        })
    }

    /// The definition in f64 for query `row`.
    fn plain<T: Element>([q, k, v]: &[Vec<T>; 3], dim: usize, scale: f64, row: usize) -> Vec<f64> {
        let wide = |v: &[T]| -> Vec<f64> { v.iter().map(|v| f64::from(v.to_f32())).collect() };
        let (q, k, v) = (wide(&q[row * dim..][..dim]), wide(k), wide(v));
        let scores: Vec<f64> = k
            .chunks(dim)
            .map(|k| scale * q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>())
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut out = vec![0.0; dim];
        for (v, weight) in v.chunks(dim).zip(&weights) {
            for (out, v) in out.iter_mut().zip(v) {
                *out += v * weight / sum;
            }
        }
        out
    }

    fn check<T: Element>(level: CpuLevel, tolerance: f64) {
        let mut scratch = Scratch::default();
        for (tokens, dim, size) in [
            (1, 16, 1.0),
            (3, 64, 2.0),
            (65, 80, 1.0),
            (513, 64, 1.0),
            (700, 128, 4.0),
            (517, 16, 60.0),
        ] {
            let drawn = draw::<T>(tokens, dim, size);
            let mut head = Head::new(level, tokens, dim);
            let rows = drawn[1].chunks(dim).zip(drawn[2].chunks(dim));
            for (token, (key, value)) in rows.enumerate() {
                head.set_key(token, key);
                head.set_value(token, value);
            }
            let same = |a: &[T], b: &[T]| a.iter().zip(b).all(|(a, b)| a.to_f32() == b.to_f32());
            assert!(same(&head.keys(), &drawn[1]) && same(&head.values(), &drawn[2]));
            let scale = 1.0 / (dim as f32).sqrt();
            // Scores are rounded to 2^-24 of their terms' sum, of which there may be `dim` roundings.
            let scores = f64::from(size * size * scale) * dim as f64;
            let tolerance = tolerance + scores * 2f64.powi(-20);
            for first in (0..tokens).step_by(QUERIES) {
                let end = (first + QUERIES).min(tokens);
                let queries = &drawn[0][first * dim..end * dim];
                scratch.attend(queries, &head, scale, |row, values| {
                    if row % 23 > 0 && first + row + 1 < tokens {
                        return;
                    }
                    let want = plain(&drawn, dim, f64::from(scale), first + row);
                    for (got, want) in values.iter().zip(want) {
                        let error = (f64::from(*got) - want).abs();
                        assert!(error < tolerance, "{got} {want} {level} {tokens}x{dim}");
                    }
                });
            }
        }
    }

    #[test]
    fn f32_levels_equal_the_definition() {
        for level in CpuLevel::ALL
            .into_iter()
            .filter(|level| *level <= CpuLevel::detected())
        {
            check::<f32>(level, 2e-5);
        }
    }

    #[test]
    fn bf16_levels_equal_the_definition() {
        // Weights are rounded to 2^-9 of themselves; values are at most 1.
        for level in [CpuLevel::Scalar, CpuLevel::Bf16] {
            check::<bf16>(level, 3e-3);
        }
    }

    #[test]
    fn heads_stand_side_by_side() {
        let (tokens, dim) = (100, 16);
        let heads: Vec<Head<f32>> = (0..3)
            .map(|index| {
                let mut head = Head::new(CpuLevel::detected(), tokens, dim);
                for token in 0..tokens {
                    head.query_mut(token).fill(token as f32);
                    head.set_key(token, &[1.0; 16]);
                    head.set_value(token, &[index as f32; 16]);
                }
                head
            })
            .collect();
        let (mut out, cancel) = (vec![f32::NAN; tokens * 48], CancelToken::new());
        attend(&heads, &mut out, &cancel).unwrap();
        for row in out.chunks(48) {
            for (column, value) in row.iter().enumerate() {
                assert!((value - (column / 16) as f32).abs() < 1e-5);
            }
        }
        assert!(attend(&heads, &mut out[1..], &cancel).is_err());
        cancel.cancel();
        assert!(
            attend(&heads, &mut out, &cancel)
                .unwrap_err()
                .is_cancelled()
        );
    }

    #[test]
    fn large_scores_stay_finite() {
        let (tokens, dim) = (600, 16);
        let mut head = Head::<f32>::new(CpuLevel::detected(), tokens, dim);
        for token in 0..tokens {
            head.set_key(token, &[token as f32 - 300.0; 16]);
            head.set_value(token, &[token as f32; 16]);
        }
        Scratch::default().attend(&[40.0; 32], &head, 0.25, |_, values| {
            assert!((values[0] - 599.0).abs() < 1e-3, "{values:?}");
        });
    }
}
