//! The reference: plain Rust for every processor.

use half::f16;

use super::{BLOCK, BLOCK_BYTES, GROUP, Q8Block};
use crate::kernels::gemm::{LANES, Tile};

/// # Safety
/// As [`Unit::tile`](super::Unit::tile); the weights are signed.
pub(super) unsafe fn tile(rows: usize, width: usize, tile: &Tile<Q8Block, u8>) {
    for row in 0..rows {
        for column in (0..width).step_by(LANES) {
            let mut lanes = [0f32; LANES];
            // SAFETY: row, column and block are inside of what the caller vouches for: a line of weights is `width` times
            // `BLOCK_BYTES` long, values first, then scales.
            unsafe {
                let sums = tile.sums.add(row * tile.sums_stride + column);
                if tile.add {
                    lanes.copy_from_slice(std::slice::from_raw_parts(sums, LANES));
                }
                for block in 0..tile.depth {
                    let x = &*tile.x.add(row * tile.x_stride + block);
                    let line = tile.weights.add(block * width * BLOCK_BYTES);
                    let line = std::slice::from_raw_parts(line, width * BLOCK_BYTES);
                    add_block(&mut lanes, x, line, width, column);
                }
                std::slice::from_raw_parts_mut(sums, LANES).copy_from_slice(&lanes);
            }
        }
    }
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
