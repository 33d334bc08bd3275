// SPDX-License-Identifier: MPL-2.0
//! The reference: plain Rust for every processor and both number types.

use super::{Activation, Conv3x3, LANES, RawRow, RawSink};

/// One row.
///
/// # Safety
/// As [`Activation::run_row`].
pub(super) unsafe fn row<T: Activation>(conv: &Conv3x3<T>, row: &RawRow<T>) {
    let run = 3 * conv.inputs;
    for pixel in 0..row.width {
        for (index, weights) in conv.weights.chunks_exact(LANES * 3 * run).enumerate() {
            let channel = index * LANES;
            let mut sums = [0f32; LANES];
            sums.copy_from_slice(&conv.bias[channel..][..LANES]);
            for (line, weights) in weights.chunks_exact(LANES * run).enumerate() {
                // SAFETY: the window of `pixel` lies inside this line.
                let x = unsafe {
                    std::slice::from_raw_parts(row.x[line].add(pixel * conv.inputs), run)
                };
                for (x, weights) in x.iter().zip(weights.chunks_exact(LANES)) {
                    let x = x.to_f32();
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum += x * weight.to_f32();
                    }
                }
            }
            // SAFETY: the sink has `width * outputs` values; this writes those of one pixel and block.
            unsafe { store(row.sink, pixel * conv.outputs + channel, channel, &sums) };
        }
    }
}

/// Stores the sums of [`LANES`] channels at offset `at`.
///
/// # Safety
/// `at + LANES` values of the sink and `channel + LANES` slopes must be valid.
unsafe fn store<T: Activation>(sink: RawSink<T>, at: usize, channel: usize, sums: &[f32; LANES]) {
    for (lane, &sum) in sums.iter().enumerate() {
        // SAFETY: passed on to the caller.
        unsafe {
            match sink {
                RawSink::Prelu { out, slope } => {
                    let value = if sum < 0.0 {
                        sum * *slope.add(channel + lane)
                    } else {
                        sum
                    };
                    *out.add(at + lane) = T::from_f32(value);
                }
                RawSink::Add { out, skip } => {
                    *out.add(at + lane) = T::from_f32((*skip.add(at + lane)).to_f32() + sum);
                }
                RawSink::Step { out, base, scale } => {
                    let base = if base.is_null() {
                        0.0
                    } else {
                        *base.add(at + lane)
                    };
                    *out.add(at + lane) = base + scale * sum;
                }
            }
        }
    }
}
