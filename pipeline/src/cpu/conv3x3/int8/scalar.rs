// SPDX-License-Identifier: MPL-2.0
//! The reference: plain Rust, the same arithmetic as the other levels.

use super::{Int8Conv3x3, LANES, LARGEST, RawCoding, RawRow, RawSink, round_bf16};

/// One row.
///
/// # Safety
/// All pointers of `row` must be valid for what [`RawRow`] says.
pub(super) unsafe fn row(conv: &Int8Conv3x3, row: &RawRow) {
    let run = 3 * conv.inputs;
    for pixel in 0..row.width {
        for (index, weights) in conv.weights.chunks_exact(LANES * 3 * run).enumerate() {
            let channel = index * LANES;
            let mut sums = [0i32; LANES];
            for (line, weights) in weights.chunks_exact(LANES * run).enumerate() {
                // SAFETY: the window of `pixel` lies inside this line.
                let x = unsafe {
                    std::slice::from_raw_parts(row.x[line].add(pixel * conv.inputs), run)
                };
                for (x, weights) in x.iter().zip(weights.chunks_exact(LANES)) {
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += i32::from(*x) * i32::from(*weight);
                    }
                }
            }
            let at = pixel * conv.outputs + channel;
            for (lane, sum) in sums.into_iter().enumerate() {
                let channel = channel + lane;
                let value = (sum as f32).mul_add(conv.scale[channel], conv.bias[channel]);
                // SAFETY: the sink has `width * outputs` values and `outputs` channels.
                unsafe { store(row.sink, at + lane, channel, value) };
            }
        }
    }
}

/// Stores one value at offset `at`.
///
/// # Safety
/// The sink must have more than `at` values and more than `channel` channels.
unsafe fn store(sink: RawSink, at: usize, channel: usize, value: f32) {
    // SAFETY: passed on to the caller.
    unsafe {
        match sink {
            RawSink::Prelu {
                out,
                coding,
                slope,
                stream,
            } => {
                let value = if value < 0.0 {
                    value * *slope.add(channel)
                } else {
                    value
                };
                *out.add(at) = code(coding, channel, value);
                if !stream.is_null() {
                    *stream.add(at) = round_bf16(value);
                }
            }
            RawSink::Add {
                out,
                coding,
                skip,
                stream,
            } => {
                let value = (*skip.add(at)).to_f32() + value;
                *out.add(at) = code(coding, channel, value);
                *stream.add(at) = round_bf16(value);
            }
            RawSink::Step { out, base, scale } => {
                let value = scale * value;
                *out.add(at) = if base.is_null() {
                    value
                } else {
                    value + *base.add(at)
                };
            }
        }
    }
}

/// The code of a value.
///
/// # Safety
/// `coding` must have more than `channel` channels.
unsafe fn code(coding: RawCoding, channel: usize, value: f32) -> u8 {
    // SAFETY: passed on to the caller.
    let value = unsafe { value.mul_add(*coding.inverse.add(channel), *coding.zero.add(channel)) };
    // `max` and `min` as the vector instructions have them.
    let value = if value > 0.0 { value } else { 0.0 };
    let value = if value < LARGEST { value } else { LARGEST };
    value.round_ties_even() as u8
}
