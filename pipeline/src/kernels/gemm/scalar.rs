//! The reference: plain Rust for every processor and both number types.

use super::tile::{Element, LANES, Tile};

/// # Safety
/// As [`Unit::tile`](super::Unit::tile).
pub(super) unsafe fn tile<T: Element>(rows: usize, width: usize, tile: &Tile<T>) {
    for row in 0..rows {
        for column in (0..width).step_by(LANES) {
            let mut lanes = [0f32; LANES];
            // SAFETY: row, column and index are inside of what the caller vouches for.
            unsafe {
                let sums = tile.sums.add(row * tile.sums_stride + column);
                if tile.add {
                    lanes.copy_from_slice(std::slice::from_raw_parts(sums, LANES));
                }
                for k in 0..tile.depth {
                    let x = (*tile.x.add(row * tile.x_stride + k)).to_f32();
                    let line = (k / T::GROUP * width + column) * T::GROUP + k % T::GROUP;
                    for (lane, sum) in lanes.iter_mut().enumerate() {
                        *sum += x * (*tile.weights.add(line + lane * T::GROUP)).to_f32();
                    }
                }
                std::slice::from_raw_parts_mut(sums, LANES).copy_from_slice(&lanes);
            }
        }
    }
}
