// SPDX-License-Identifier: MPL-2.0
//! The network at t = 0 without noise in int8: every layer reads and writes codes of the calibrated ranges.
//!
//! The head reads the state and the frames as codes of 8-bit video. That rounds no more than the velocity sees: the
//! state itself, to which it is added, stays f32. The sums of residual pairs are kept in bf16 beside their codes.

use super::chain::{Evaluation, Kind, layers};
use crate::compact::net::{Conv, Net};
use crate::cpu::conv3x3::Window;
use crate::cpu::conv3x3::bands::{Layer, Network, Pixels, PixelsMut};
use crate::cpu::conv3x3::int8::{Coding, Int8Conv3x3};
use crate::cpu::level::CpuLevel;
use crate::cpu::s2d::LATENT;
use crate::cpu::vector::cut;

/// Codes of 8-bit video are this and model units times this.
const MIDDLE: f32 = 127.5;

/// A [`Net`] rounded to int8 for t = 0 without noise.
#[derive(Debug)]
pub(in crate::compact) struct Int8Chain {
    level: CpuLevel,
    layers: Vec<Layer<u8>>,
    head: Int8Conv3x3,
    head_slope: Vec<f32>,
    body: Vec<Int8Conv3x3>,
    slopes: Vec<Vec<f32>>,
    tail: Int8Conv3x3,
    /// Of what the head and each body convolution give.
    codings: Vec<Coding>,
    residual: bool,
}

/// The code of a value in model units; beyond black and white of full range it is limited.
#[inline(always)]
fn code(value: f32) -> u8 {
    // One half more, since it is cut.
    cut(value * MIDDLE + (MIDDLE + 0.5), 255.0) as u8
}

impl Int8Chain {
    /// Rounds and packs `net`; `None` when it has no ranges.
    pub fn new(net: &Net, level: CpuLevel) -> Option<Self> {
        let (config, net) = (&net.config, &net.base);
        let ranges = net.ranges.as_ref()?;
        let codings: Vec<Coding> = ranges
            .chunks_exact(2 * config.channels)
            .map(|ranges| {
                let (low, high) = ranges.split_at(config.channels);
                Coding::for_ranges(low, high)
            })
            .collect();
        let input = Coding::uniform(LATENT + config.frames, 1.0 / MIDDLE, MIDDLE);
        let pack = |conv: &Conv, coding: &Coding| {
            Int8Conv3x3::new(level, &conv.weight, &conv.bias, coding)
        };
        let mut border = input.border();
        // Their weights are zero.
        border.resize(Int8Conv3x3::padded_inputs(border.len()), 0);
        let borders = [border]
            .into_iter()
            .chain(codings.iter().map(Coding::border));
        let body = net.folded(config, 0.0, 0.0);
        Some(Self {
            level,
            layers: layers(config, true, borders),
            head: pack(&net.head, &input),
            head_slope: net.head_slope.clone(),
            body: body.iter().zip(&codings).map(|(c, q)| pack(c, q)).collect(),
            slopes: net.slopes.clone(),
            tail: pack(&net.tail, &codings[config.layers]),
            codings,
            residual: config.residual,
        })
    }

    /// The input and what each convolution but the last gives.
    pub fn layers(&self) -> &[Layer<u8>] {
        &self.layers
    }
}

impl Network for Evaluation<'_, Int8Chain> {
    type Cell = u8;

    fn layers(&self) -> &[Layer<u8>] {
        &self.chain.layers
    }

    fn state(&self, row: usize, state: &mut [f32]) {
        self.input.state.row(row, state);
    }

    fn input(&self, row: usize, state: &[f32], to: &mut [u8]) {
        self.input.fill(self.chain.level, row, state, to, code);
    }

    fn layer(
        &self,
        layer: usize,
        from: Window<'_, u8>,
        skip: Option<Pixels<'_, u8>>,
        to: PixelsMut<'_, u8>,
    ) {
        let chain = self.chain;
        let (coding, PixelsMut { values, sums }) = (&chain.codings[layer - 1], to);
        match Kind::of(layer, chain.residual) {
            Kind::Head => {
                let sums = (!sums.is_empty()).then_some(sums);
                chain
                    .head
                    .prelu(from, &chain.head_slope, coding, values, sums);
            }
            Kind::Activated(conv, activation) => {
                chain.body[conv].prelu(from, &chain.slopes[activation], coding, values, None);
            }
            Kind::Added(conv) => {
                let skip = skip.map_or(&[][..], |skip| skip.sums);
                chain.body[conv].add(from, skip, coding, values, sums);
            }
        }
    }

    fn result(&self, from: Window<'_, u8>, state: &[f32], to: &mut [f32]) {
        self.chain.tail.step(from, Some(state), self.dt, to);
    }
}
