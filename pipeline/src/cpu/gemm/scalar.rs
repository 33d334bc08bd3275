// SPDX-License-Identifier: MPL-2.0
//! The reference: plain Rust for every processor and both number types.

use super::tile::{LANES, Tile};
use crate::cpu::conv3x3::Activation;

/// # Safety
/// As [`Unit::tile`](super::Unit::tile).
pub(super) unsafe fn tile<T: Activation>(rows: usize, width: usize, tile: &Tile<T>) {
    let add = |lanes: &mut [f32; LANES], row: usize, column: usize| {
        for k in 0..tile.depth {
            let line = (k / T::GROUP * width + column) * T::GROUP + k % T::GROUP;
            // SAFETY: row, column and index are inside of what the caller vouches for.
            unsafe {
                let x = (*tile.x.add(row * tile.x_stride + k)).to_f32();
                for (lane, sum) in lanes.iter_mut().enumerate() {
                    *sum += x * (*tile.weights.add(line + lane * T::GROUP)).to_f32();
                }
            }
        }
    };
    // SAFETY: passed on to the caller.
    unsafe { each(rows, width, tile, add) };
}

/// Has `add` add to the sums of each row, those of the 16 columns from a column on at a time: it is given the sums, the row
/// and the column.
///
/// # Safety
/// The sums of `tile` must be valid for `rows` rows of `width` columns.
pub(in crate::cpu) unsafe fn each<T, W>(
    rows: usize,
    width: usize,
    tile: &Tile<T, W>,
    add: impl Fn(&mut [f32; LANES], usize, usize),
) {
    for row in 0..rows {
        for column in (0..width).step_by(LANES) {
            let mut lanes = [0f32; LANES];
            // SAFETY: row and column are inside of what the caller vouches for.
            let sums = unsafe {
                let first = tile.sums.add(row * tile.sums_stride + column);
                std::slice::from_raw_parts_mut(first, LANES)
            };
            if tile.add {
                lanes.copy_from_slice(sums);
            }
            add(&mut lanes, row, column);
            sums.copy_from_slice(&lanes);
        }
    }
}
