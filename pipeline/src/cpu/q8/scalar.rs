// SPDX-License-Identifier: MPL-2.0
//! The reference: plain Rust for every processor.

use half::f16;

use super::{BLOCK, BLOCK_BYTES, GROUP, Q8Block};
use crate::cpu::gemm::{LANES, Tile, each};

/// # Safety
/// As [`Unit::tile`](super::Unit::tile); the weights are signed.
pub(super) unsafe fn tile(rows: usize, width: usize, tile: &Tile<Q8Block, u8>) {
    let line = width * BLOCK_BYTES;
    let add = |sums: &mut [f32; LANES], row: usize, column: usize| {
        for block in 0..tile.depth {
            // SAFETY: the caller vouches for `depth` blocks of each row and as many lines of weights.
            let (x, line) = unsafe {
                let x = &*tile.x.add(row * tile.x_stride + block);
                (
                    x,
                    std::slice::from_raw_parts(tile.weights.add(block * line), line),
                )
            };
            add_block(sums, x, line, width, column);
        }
    };
    // SAFETY: passed on to the caller.
    unsafe { each(rows, width, tile, add) };
}

/// Adds what `x` makes with the columns from `column` on of a line of `width` columns.
fn add_block(sums: &mut [f32; LANES], x: &Q8Block, line: &[u8], width: usize, column: usize) {
    let (values, scales) = line.split_at(width * BLOCK);
    let mut dots = [0i32; LANES];
    let groups = values.chunks_exact(width * GROUP);
    for (group, x) in groups.zip(x.values.chunks_exact(GROUP)) {
        let columns = group[column * GROUP..].chunks_exact(GROUP);
        for (dot, weights) in dots.iter_mut().zip(columns) {
            for (weight, x) in weights.iter().zip(x) {
                *dot += i32::from(*weight as i8) * i32::from(*x);
            }
        }
    }
    let scales = scales[column * 2..].chunks_exact(2);
    for ((sum, dot), scale) in sums.iter_mut().zip(dots).zip(scales) {
        let scale = f16::from_le_bytes([scale[0], scale[1]]).to_f32();
        // A dot product is below 2^24. The addition is fused as the other levels' is.
        *sum = (dot as f32 * scale).mul_add(x.scale, *sum);
    }
}
