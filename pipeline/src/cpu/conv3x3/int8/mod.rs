// SPDX-License-Identifier: MPL-2.0
//! The convolution in int8: activations as unsigned codes, weights as signed ones, sums exact in i32.
//!
//! A code c of channel i stands for (c - zero_i) * step_i ([`Coding`]). The steps of the inputs are folded into the
//! weights, which are then rounded with one scale for each output channel; the zero points become a part of the bias.
//! That is exact also at the border of a picture as long as the border holds the zero points ([`Coding::border`]).
//! What follows the sums is f32, in one order of operations at every level: results are equal bit for bit.

mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use half::bf16;

use super::{LANES, Window, pack, width};
use crate::cpu::aligned::AlignedVec;
use crate::cpu::level::CpuLevel;

/// Input channels that the dot product takes at once.
const GROUP: usize = 4;
/// Largest code.
const LARGEST: f32 = 255.0;
/// Largest weight; -128 is left out, so that weights are symmetric.
const LARGEST_WEIGHT: f32 = 127.0;
/// Least range of a channel: dead channels must not divide by zero.
const LEAST_RANGE: f32 = 1e-6;

/// What the codes of each channel of a layer stand for: (code - zero) * step.
#[derive(Clone, Debug, PartialEq)]
pub struct Coding {
    step: Vec<f32>,
    /// 1 / step
    inverse: Vec<f32>,
    zero: Vec<f32>,
}

impl Coding {
    /// One step and one zero point for all channels. Zero points that are no codes are good for layers whose border
    /// may be half a step off zero.
    pub fn uniform(channels: usize, step: f32, zero: f32) -> Self {
        Self {
            step: vec![step; channels],
            inverse: vec![1.0 / step; channels],
            zero: vec![zero; channels],
        }
    }

    /// For values of each channel from `low` to `high`, widened to hold 0; those beyond become the outermost codes.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn for_ranges(low: &[f32], high: &[f32]) -> Self {
        assert_eq!(low.len(), high.len());
        let mut coding = Self::uniform(low.len(), 1.0, 0.0);
        for (channel, (low, high)) in low.iter().zip(high).enumerate() {
            let low = low.min(0.0);
            let range = (high.max(0.0) - low).max(LEAST_RANGE);
            coding.step[channel] = range / LARGEST;
            coding.inverse[channel] = LARGEST / range;
            coding.zero[channel] = (-low / range * LARGEST).round();
        }
        coding
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.step.len()
    }

    /// For each channel the code nearest to 0, as borders hold it.
    pub fn border(&self) -> Vec<u8> {
        self.zero.iter().map(|zero| zero.round() as u8).collect()
    }

    fn raw(&self) -> RawCoding {
        RawCoding {
            inverse: self.inverse.as_ptr(),
            zero: self.zero.as_ptr(),
        }
    }
}

/// A 3x3 convolution of codes.
#[derive(Debug)]
pub struct Int8Conv3x3 {
    vnni: bool,
    inputs: usize,
    outputs: usize,
    block: usize,
    weights: AlignedVec<i8>,
    /// Value of a sum's unit, for each output channel.
    scale: AlignedVec<f32>,
    /// What a sum of zero means: the bias less the share of the zero points.
    bias: AlignedVec<f32>,
}

/// What a row kernel reads and writes: as [`super::RawRow`].
#[derive(Clone, Copy, Debug)]
struct RawRow {
    x: [*const u8; 3],
    width: usize,
    sink: RawSink,
}

/// [`Coding::inverse`] and [`Coding::zero`].
#[derive(Clone, Copy, Debug)]
struct RawCoding {
    inverse: *const f32,
    zero: *const f32,
}

/// Where the values s of a row go. Pointers are to `width * outputs` values, `slope` and those of `coding` to `outputs`.
#[derive(Clone, Copy, Debug)]
enum RawSink {
    /// v = s < 0 ? s * slope : s; `out` = code of v; `stream` = v unless it is null
    Prelu {
        out: *mut u8,
        coding: RawCoding,
        slope: *const f32,
        stream: *mut bf16,
    },
    /// v = `skip` + s; `stream` = v; `out` = code of v
    Add {
        out: *mut u8,
        coding: RawCoding,
        skip: *const bf16,
        stream: *mut bf16,
    },
    /// `out = base + scale * s`; a null `base` is zero
    Step {
        out: *mut f32,
        base: *const f32,
        scale: f32,
    },
}

impl Int8Conv3x3 {
    /// Input channels in memory for a layer that has `inputs`: a multiple of four, for kernels that take so many.
    pub const fn padded_inputs(inputs: usize) -> usize {
        inputs.next_multiple_of(GROUP)
    }

    /// Rounds and packs `weight` `[outputs, inputs, 3, 3]` and `bias` `[outputs]` for inputs of `coding`, which has
    /// `inputs` channels. Inputs have [`padded_inputs`](Self::padded_inputs) channels; what those beyond
    /// `inputs` hold does not matter.
    ///
    /// # Panics
    /// When the lengths do not fit or `outputs` is no multiple of [`LANES`]; loaders check both.
    pub fn new(level: CpuLevel, weight: &[f32], bias: &[f32], coding: &Coding) -> Self {
        let (inputs, outputs) = (coding.channels(), bias.len());
        assert!(outputs.is_multiple_of(LANES) && weight.len() == outputs * inputs * 9);
        let mut scale = AlignedVec::zeroed(outputs);
        let mut shifted: AlignedVec<f32> = bias.iter().copied().collect();
        let mut rounded = Vec::with_capacity(weight.len());
        for (output, weight) in weight.chunks_exact(inputs * 9).enumerate() {
            let folded: Vec<f32> = weight
                .chunks_exact(9)
                .zip(&coding.step)
                .flat_map(|(taps, step)| taps.iter().map(move |tap| tap * step))
                .collect();
            let largest = folded.iter().fold(0f32, |m, v| m.max(v.abs()));
            let unit = if largest > 0.0 {
                largest / LARGEST_WEIGHT
            } else {
                1.0
            };
            let mut share = 0.0;
            for (taps, zero) in folded.chunks_exact(9).zip(&coding.zero) {
                for tap in taps {
                    let tap = (tap / unit).round_ties_even();
                    share += f64::from(tap) * f64::from(*zero);
                    rounded.push(tap);
                }
            }
            scale[output] = unit;
            shifted[output] = (f64::from(bias[output]) - share * f64::from(unit)) as f32;
        }
        let vnni = level.has_vnni();
        let block = if vnni {
            pack::block(CpuLevel::Avx512, outputs)
        } else {
            LANES
        };
        let padded = Self::padded_inputs(inputs);
        let group = if vnni { GROUP } else { 1 };
        Self {
            vnni,
            inputs: padded,
            outputs,
            block,
            weights: pack::pack(&rounded, outputs, inputs, padded, block, group, |v| v as i8),
            scale,
            bias: shifted,
        }
    }

    /// A row of PReLU(conv(`from`)) with one slope for each output channel: codes of it in `out`, and the values
    /// themselves in `stream` if there is one.
    ///
    /// # Panics
    /// As the other two: when the lengths do not fit. `out` has no border.
    pub fn prelu(
        &self,
        from: Window<'_, u8>,
        slope: &[f32],
        coding: &Coding,
        out: &mut [u8],
        stream: Option<&mut [bf16]>,
    ) {
        assert!(slope.len() == self.outputs && coding.channels() == self.outputs);
        assert!(stream.as_ref().is_none_or(|s| s.len() == out.len()));
        let sink = RawSink::Prelu {
            out: out.as_mut_ptr(),
            coding: coding.raw(),
            slope: slope.as_ptr(),
            stream: stream.map_or(std::ptr::null_mut(), <[bf16]>::as_mut_ptr),
        };
        self.row(from, out.len(), sink);
    }

    /// A row of `skip` + conv(`from`): its values in `stream`, codes of them in `out`.
    pub fn add(
        &self,
        from: Window<'_, u8>,
        skip: &[bf16],
        coding: &Coding,
        out: &mut [u8],
        stream: &mut [bf16],
    ) {
        assert_eq!(coding.channels(), self.outputs);
        assert!(skip.len() == out.len() && stream.len() == out.len());
        let sink = RawSink::Add {
            out: out.as_mut_ptr(),
            coding: coding.raw(),
            skip: skip.as_ptr(),
            stream: stream.as_mut_ptr(),
        };
        self.row(from, out.len(), sink);
    }

    /// A row of `base` + `scale` * conv(`from`) in f32; without `base`, of the scaled convolution alone.
    pub fn step(&self, from: Window<'_, u8>, base: Option<&[f32]>, scale: f32, out: &mut [f32]) {
        assert!(base.is_none_or(|base| base.len() == out.len()));
        let sink = RawSink::Step {
            out: out.as_mut_ptr(),
            base: base.map_or(std::ptr::null(), <[f32]>::as_ptr),
            scale,
        };
        self.row(from, out.len(), sink);
    }

    fn row(&self, from: Window<'_, u8>, len: usize, sink: RawSink) {
        let raw = RawRow {
            x: from.map(<[u8]>::as_ptr),
            width: width(from, [self.inputs, self.outputs], len),
            sink,
        };
        // SAFETY: `width` checked the lines, the callers their sinks, which they borrow; `vnni` is set only where the
        // processor has it.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.vnni {
                return vnni::row(self, &raw);
            }
            scalar::row(self, &raw);
        }
    }
}

/// The bits of `value` rounded to bf16: to the nearest, ties to even. Of NaN nothing is asked: there is none in sums of
/// codes.
#[inline(always)]
fn round_bf16(value: f32) -> bf16 {
    let bits = value.to_bits();
    bf16::from_bits((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
}
