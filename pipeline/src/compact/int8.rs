//! The network at t = 0 without noise in int8: every layer reads and writes codes of the calibrated ranges.
//!
//! The head reads the state and the frames as codes of 8-bit video. That rounds no more than the velocity sees: the
//! state itself, to which it is added, stays f32. The sums of residual pairs are kept in bf16 beside their codes.

use half::bf16;

use super::Pool;
use super::chain::{Band, Input, bands, each_band, fill, folded};
use super::weights::{Config, Conv, Net};
use crate::error::Result;
use crate::kernels::conv3x3::Plane;
use crate::kernels::conv3x3::int8::{Coding, Int8Conv3x3};
use crate::kernels::cpu::CpuLevel;
use crate::kernels::s2d::LATENT;
use crate::progress::CancelToken;

/// Codes of 8-bit video are this and model units times this.
const MIDDLE: f32 = 127.5;

/// A [`Net`] rounded to int8 for t = 0 without noise.
#[derive(Debug)]
pub(super) struct Int8Chain {
    input: Coding,
    head: Int8Conv3x3,
    head_slope: Vec<f32>,
    body: Vec<Int8Conv3x3>,
    slopes: Vec<Vec<f32>>,
    tail: Int8Conv3x3,
    /// Of what the head and each body convolution give.
    codings: Vec<Coding>,
    residual: bool,
    channels: usize,
    scratch: Pool<Scratch>,
}

/// Buffers of one run.
#[derive(Debug)]
struct Scratch {
    input: Plane<u8>,
    first: Plane<u8>,
    second: Plane<u8>,
    /// The sums of residual pairs.
    stream: Option<Plane<bf16>>,
}

/// Input channels in memory.
fn inputs(frames: usize) -> usize {
    Int8Conv3x3::padded_inputs(LATENT + frames)
}

/// Bytes of the buffers for bands of `rows` rows.
pub(super) fn scratch_bytes(config: &Config, width: usize, rows: usize) -> u64 {
    let stream = if config.residual {
        Plane::<bf16>::bytes(rows, width, config.channels)
    } else {
        0
    };
    let codes = Plane::<u8>::bytes(rows, width, inputs(config.frames) + 2 * config.channels);
    (stream + codes) as u64
}

/// The code of a value in model units; beyond black and white of full range it is limited.
#[inline(always)]
fn code(value: f32) -> u8 {
    // One half more, since the conversion cuts; it also limits.
    (value * MIDDLE + (MIDDLE + 0.5)) as u8
}

impl Int8Chain {
    /// Rounds and packs `net`; `None` when it has no ranges.
    pub fn new(net: &Net, config: &Config, level: CpuLevel) -> Option<Self> {
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
        let body = folded(net, config, 0.0, 0.0);
        Some(Self {
            head: pack(&net.head, &input),
            head_slope: net.head_slope.clone(),
            body: body.iter().zip(&codings).map(|(c, q)| pack(c, q)).collect(),
            slopes: net.slopes.clone(),
            tail: pack(&net.tail, &codings[config.layers]),
            input,
            codings,
            residual: config.residual,
            channels: config.channels,
            scratch: Pool::new(),
        })
    }

    /// As [`Chain::run`](super::chain::Chain::run).
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn run(
        &self,
        input: Input<'_>,
        base: Option<&[f32]>,
        scale: f32,
        out: &mut [f32],
        band: usize,
        cancel: &CancelToken,
    ) -> Result<()> {
        let width = input.size.width;
        let (rows, bands) = bands(input.size.height, self.body.len() + 2, band);
        self.scratch.lend(
            |scratch| scratch.input.rows() == rows && scratch.input.width() == width,
            || self.new_scratch(rows, width),
            |scratch| {
                each_band(bands, width, base, out, |band, base, out| {
                    self.band(input, band, base, scale, out, scratch, cancel)
                })
            },
        )
    }

    fn new_scratch(&self, rows: usize, width: usize) -> Scratch {
        let frames = self.input.channels() - LATENT;
        Scratch {
            input: Plane::new(rows, width, inputs(frames)),
            first: Plane::new(rows, width, self.channels),
            second: Plane::new(rows, width, self.channels),
            stream: self
                .residual
                .then(|| Plane::new(rows, width, self.channels)),
        }
    }

    /// One band of the result.
    #[allow(clippy::too_many_arguments)]
    fn band(
        &self,
        input: Input<'_>,
        band: &Band,
        base: Option<&[f32]>,
        scale: f32,
        out: &mut [f32],
        scratch: &mut Scratch,
        cancel: &CancelToken,
    ) -> Result<()> {
        let convolutions = self.body.len() + 2;
        let rows = band.read.len();
        let Scratch {
            input: plane,
            first,
            second,
            stream,
        } = scratch;
        fill(plane, input, band.read.clone(), code);
        let mut border = self.input.border();
        // Their weights are zero.
        border.resize(plane.channels(), 0);
        plane.frame(rows, &border);
        let range = band.needed(convolutions - 1);
        self.head.prelu(
            plane,
            &self.head_slope,
            &self.codings[0],
            first,
            stream.as_mut(),
            range,
            cancel,
        )?;
        let (mut from, mut to) = (first, second);
        for (index, conv) in self.body.iter().enumerate() {
            // The buffers hold other codings in turn, so that zero is another code in each.
            from.frame(rows, &self.codings[index].border());
            let range = band.needed(convolutions - 2 - index);
            let coding = &self.codings[index + 1];
            match stream {
                Some(stream) if index % 2 == 1 => {
                    conv.add(from, stream, coding, to, range, cancel)?;
                }
                _ => {
                    let activation = if self.residual { index / 2 } else { index };
                    let slope = &self.slopes[activation];
                    conv.prelu(from, slope, coding, to, None, range, cancel)?;
                }
            }
            std::mem::swap(&mut from, &mut to);
        }
        from.frame(rows, &self.codings[self.body.len()].border());
        self.tail
            .step(from, band.needed(0), base, scale, out, cancel)
    }
}
