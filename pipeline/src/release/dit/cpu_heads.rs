// SPDX-License-Identifier: MPL-2.0
//! Queries, keys and values on the CPU, in the layout of the attention kernel, and the rows of layer norms.

use rayon::prelude::*;

use super::adaln::{LayerNorm, normalize};
use super::rope::Rope;
use crate::cpu::attention::{Head, attend};
use crate::cpu::elementwise::Convert;
use crate::cpu::level::CpuLevel;
use crate::cpu::tensors::with_f32;
use crate::cpu::vector::{Work, run};
use crate::error::Result;
use crate::linear::Operand;
use crate::progress::CancelToken;

/// Queries, keys and values of one sample, in `T`.
#[derive(Debug)]
pub(super) struct CpuHeads<T> {
    level: CpuLevel,
    tokens: usize,
    dim: usize,
    heads: Vec<Head<T>>,
}

/// Rows of the projection and where they belong.
pub(super) struct Pushed<'a> {
    /// `[rows, 3, heads, dim]`: queries, keys, values.
    pub rows: &'a [f32],
    /// Token of the first row.
    pub first: usize,
    /// Number of the first row among the image tokens, which are rotated.
    pub image: Option<usize>,
    pub rope: &'a Rope,
    pub query: &'a LayerNorm,
    pub key: &'a LayerNorm,
}

impl<T: Operand> CpuHeads<T> {
    pub fn new(level: CpuLevel, tokens: usize, heads: usize, dim: usize) -> Self {
        Self {
            level,
            tokens,
            dim,
            heads: (0..heads)
                .into_par_iter()
                .map(|_| Head::new(level, tokens, dim))
                .collect(),
        }
    }

    /// Normalises, rotates and stores rows.
    pub fn push(&mut self, pushed: &Pushed<'_>) -> Result<()> {
        let Pushed { query, key, .. } = pushed;
        with_f32(&query.weight, |qw| {
            with_f32(&query.bias, |qb| {
                with_f32(&key.weight, |kw| {
                    with_f32(&key.bias, |kb| {
                        let norms = [(qw, qb, query.eps), (kw, kb, key.eps)];
                        self.push_normed(pushed, norms);
                        Ok(())
                    })
                })
            })
        })
    }

    fn push_normed(&mut self, pushed: &Pushed<'_>, norms: [(&[f32], &[f32], f32); 2]) {
        let (level, dim) = (self.level, self.dim);
        let hidden = self.heads.len() * dim;
        self.heads
            .par_iter_mut()
            .enumerate()
            .for_each(|(index, head)| {
                let mut line = vec![0f32; dim];
                let mut rounded = vec![T::default(); dim];
                for (row, rows) in pushed.rows.chunks_exact(3 * hidden).enumerate() {
                    let angles = pushed.image.map(|first| pushed.rope.angles(first + row));
                    let token = pushed.first + row;
                    let part = |which: usize| &rows[which * hidden + index * dim..][..dim];
                    let mut normed = |which: usize, to: &mut [T]| {
                        let (weight, bias, eps) = norms[which];
                        let work = NormRotate {
                            line: &mut line,
                            from: part(which),
                            weight,
                            bias,
                            eps,
                            angles,
                            to,
                        };
                        run(level, work);
                    };
                    normed(0, head.query_mut(token));
                    normed(1, &mut rounded);
                    head.set_key(token, &rounded);
                    run(
                        level,
                        Convert {
                            to: &mut rounded[..],
                            from: part(2),
                        },
                    );
                    head.set_value(token, &rounded);
                }
            });
    }

    /// Queries, keys and values as `[heads, tokens, dim]`.
    pub fn values(&self) -> [Vec<f32>; 3] {
        let all = |of: &dyn Fn(&Head<T>) -> Vec<T>| -> Vec<f32> {
            self.heads.iter().flat_map(of).map(T::to_f32).collect()
        };
        [
            all(&|head| head.queries().to_vec()),
            all(&Head::keys),
            all(&Head::values),
        ]
    }

    /// `softmax(q k^T / sqrt(dim)) v`, heads side by side: `[tokens, heads * dim]`.
    pub fn attend(&self, cancel: &CancelToken) -> Result<Vec<T>> {
        let mut out = vec![T::default(); self.tokens * self.heads.len() * self.dim];
        attend(&self.heads, &mut out, cancel)?;
        Ok(out)
    }
}

/// One query or key.
struct NormRotate<'a, T> {
    line: &'a mut [f32],
    from: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    /// Cosines and sines.
    angles: Option<(&'a [f32], &'a [f32])>,
    to: &'a mut [T],
}

impl<T: Operand> Work for NormRotate<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        normalize(self.line, self.from, self.weight, self.bias, self.eps);
        if let Some(angles) = self.angles {
            Rope::turn(angles, self.line);
        }
        for (to, value) in self.to.iter_mut().zip(self.line) {
            *to = T::from_f32(*value);
        }
    }
}

/// Layer norms of `from` into `to`, rows of as many features as `factor` has, on all threads.
pub(super) fn normalize_rows<T: Operand>(
    level: CpuLevel,
    to: &mut [T],
    from: &[f32],
    (factor, addend): (&[f32], &[f32]),
    eps: f32,
) {
    let features = factor.len();
    to.par_chunks_mut(features)
        .zip(from.par_chunks(features))
        .for_each(|(to, from)| {
            let row = Row {
                to,
                from,
                factor,
                addend,
                eps,
            };
            run(level, row);
        });
}

struct Row<'a, T> {
    to: &'a mut [T],
    from: &'a [f32],
    factor: &'a [f32],
    addend: &'a [f32],
    eps: f32,
}

impl<T: Operand> Work for Row<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        normalize(self.to, self.from, self.factor, self.addend, self.eps);
    }
}
