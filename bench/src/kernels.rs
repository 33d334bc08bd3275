// SPDX-License-Identifier: MPL-2.0
//! Cases that are one kernel.

use flashvideo::cpu::attention::{Head, attend};
use flashvideo::cpu::conv3d::{Clip, Conv3d};
use flashvideo::cpu::gemm::{Finish, Packed, Rows};
use flashvideo::linear::Operand;
use flashvideo::{CancelToken, Result};
use half::bf16;
use rayon::prelude::*;

use crate::case::{Case, Subject, part};
use crate::data::{level, numbers, probe, values};

/// Matrix products.
pub fn gemms() -> Vec<Case> {
    vec![
        gemm::<f32>("gemm_f32_vs_torch", "f32"),
        gemm::<bf16>("gemm_bf16_vs_torch", "bf16"),
    ]
}

/// Attention over short and long sequences.
pub fn attentions() -> Vec<Case> {
    let lengths = [
        ("attention_4096_vs_torch", 4096),
        ("attention_8192_vs_torch", 8192),
    ];
    let case = |(name, tokens)| {
        let rivals = ["f32", "bf16"].map(|kind| format!("attention {kind} {tokens}"));
        let reference = Some(rivals[0].clone());
        // The first rival's errors stand beside ours.
        let rivals = [rivals[1].clone(), rivals[0].clone()];
        let ours = move || Ok(Attention::<bf16>::new(tokens));
        Case {
            name,
            parts: vec![part(ours, &rivals, reference, 5)],
        }
    };
    lengths.into_iter().map(case).collect()
}

/// Causal convolutions.
pub fn conv3ds() -> Vec<Case> {
    vec![
        conv3d::<f32>("conv3d_vs_torch_f32", "f32"),
        conv3d::<bf16>("conv3d_vs_torch_bf16", "bf16"),
    ]
}

fn gemm<T: Operand>(name: &'static str, kind: &'static str) -> Case {
    let parts = [(1920, 7680), (1920, 5760), (7680, 1920)].map(|(inputs, outputs)| {
        let case = |kind: &str, way: &str| format!("gemm {kind} 2048 {inputs} {outputs} {way}");
        let rivals = [case(kind, "linear"), case(kind, "out")];
        let ours = move || Ok(Gemm::<T>::new(2048, inputs, outputs));
        part(ours, &rivals, Some(case("f32", "linear")), 9)
    });
    Case {
        name,
        parts: parts.into(),
    }
}

struct Gemm<T> {
    rows: usize,
    x: Vec<T>,
    weight: Packed<T>,
    bias: Vec<f32>,
    out: Vec<T>,
}

impl<T: Operand> Gemm<T> {
    fn new(rows: usize, inputs: usize, outputs: usize) -> Self {
        let size = (inputs as f32).powf(-0.5);
        let weight = numbers::<T>(2, outputs * inputs, size);
        Self {
            rows,
            x: numbers(1, rows * inputs, 1.0),
            weight: Packed::new(level::<T>(), &weight, outputs, inputs),
            bias: values(3, outputs, 1.0),
            out: vec![T::default(); rows * outputs],
        }
    }
}

impl<T: Operand> Subject for Gemm<T> {
    fn run(&mut self) -> Result<()> {
        let x = Rows::new(&self.x, self.rows, self.weight.inputs());
        let out = &mut self.out[..];
        self.weight
            .multiply(x, Some(&self.bias), Finish::Store, out, &CancelToken::new())
    }

    fn probe(&mut self) -> Result<Vec<f32>> {
        Ok(probe(self.out.len(), |index| self.out[index].to_f32()))
    }
}

const HEADS: usize = 30;
const DIM: usize = 64;

struct Attention<T> {
    tokens: usize,
    /// Queries, keys and values, each `[heads, tokens, dim]`.
    given: [Vec<T>; 3],
    heads: Vec<Head<T>>,
    out: Vec<T>,
}

impl<T: Operand> Attention<T> {
    fn new(tokens: usize) -> Self {
        let len = HEADS * tokens * DIM;
        Self {
            tokens,
            given: [1, 2, 3].map(|seed| numbers(seed, len, 2.0)),
            heads: (0..HEADS)
                .map(|_| Head::new(level::<T>(), tokens, DIM))
                .collect(),
            out: vec![T::default(); len],
        }
    }
}

impl<T: Operand> Subject for Attention<T> {
    fn run(&mut self) -> Result<()> {
        // Keys and values come as rows; their packing counts.
        let [queries, keys, values] = &self.given;
        let size = self.tokens * DIM;
        self.heads
            .par_iter_mut()
            .enumerate()
            .for_each(|(index, head)| {
                for token in 0..self.tokens {
                    let at = index * size + token * DIM;
                    head.query_mut(token).copy_from_slice(&queries[at..][..DIM]);
                    head.set_key(token, &keys[at..][..DIM]);
                    head.set_value(token, &values[at..][..DIM]);
                }
            });
        attend(&self.heads, &mut self.out, &CancelToken::new())
    }

    fn probe(&mut self) -> Result<Vec<f32>> {
        Ok(probe(self.out.len(), |index| self.out[index].to_f32()))
    }
}

fn conv3d<T: Operand>(name: &'static str, kind: &'static str) -> Case {
    let case = |kind: &str, layout: &str| format!("conv3d {kind} {layout}");
    let rivals = [case(kind, "planes"), case(kind, "last")];
    let ours = || Ok(Convolution::<T>::new());
    Case {
        name,
        parts: vec![part(ours, &rivals, Some(case("f32", "planes")), 9)],
    }
}

const CHANNELS: usize = 128;
const FRAMES: usize = 11;
const SIZE: (usize, usize) = (68, 120);

struct Convolution<T> {
    conv: Conv3d<T>,
    clip: Vec<f32>,
    out: Vec<f32>,
}

impl<T: Operand> Convolution<T> {
    fn new() -> Self {
        let size = ((CHANNELS * 27) as f32).powf(-0.5);
        let weight = numbers::<T>(2, CHANNELS * CHANNELS * 27, size);
        let bias = values(3, CHANNELS, 1.0);
        let plane = CHANNELS * SIZE.0 * SIZE.1;
        Self {
            conv: Conv3d::new(level::<T>(), &weight, &bias, CHANNELS, 3),
            clip: values(1, FRAMES * plane, 1.0),
            out: vec![0.0; (FRAMES - 2) * plane],
        }
    }
}

impl<T: Operand> Subject for Convolution<T> {
    fn run(&mut self) -> Result<()> {
        let frames: Vec<&[f32]> = self.clip.chunks(CHANNELS * SIZE.0 * SIZE.1).collect();
        let clip = Clip {
            frames: &frames,
            height: SIZE.0,
            width: SIZE.1,
        };
        self.conv
            .run(clip, None, &mut self.out, &CancelToken::new())
    }

    fn probe(&mut self) -> Result<Vec<f32>> {
        Ok(probe(self.out.len(), |index| self.out[index]))
    }
}
