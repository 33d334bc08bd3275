// SPDX-License-Identifier: MPL-2.0
//! Matrix products with weights that are packed once: `y = x W^T + b` in f32, or in bf16 with f32 sums.
//!
//! A kernel keeps a tile of some rows by some columns of the sums in registers and runs along the inner dimension:
//! one value (or pair of values, for bf16 dot products) of each row is broadcast against a line of packed weights. Rows
//! are read where they lie, any distance apart; this also serves convolutions, whose "rows" are overlapping windows of a
//! channels-last picture, and attention, whose "weights" are the keys and the values.
//!
//! Around it stand the loops of Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication, 2008): a task
//! owns a block of rows and a range of columns; panels of columns pass over the block, depth by depth. A piece of a panel
//! and the block's part of that depth stay in the second cache while all tiles use them, and meanwhile the tiles fetch
//! the next piece, each its part.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16;
mod finish;
mod pack;
mod scalar;
#[cfg(test)]
pub(in crate::cpu) mod tests;
mod tile;
mod unit;

pub use self::finish::{Finish, Number};
pub use self::pack::{Packed, panel_width};
pub(in crate::cpu) use self::scalar::each;
pub(in crate::cpu) use self::tile::LANES;
pub use self::tile::{Ahead, Tile};
pub use self::unit::{Element, Unit, rows};

use std::ops::Range;

use rayon::prelude::*;

use self::finish::Block;
use crate::cpu::shared::Shared;
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// Rows of a task: a multiple of the rows of every kernel's tile.
const BLOCK_ROWS: usize = 240;
/// Columns of a task, at least.
const CHUNK_COLUMNS: usize = 512;
/// Tasks for each thread, about, where there are columns enough: what a thread may wait for the others at the end.
const TASKS: usize = 16;
/// Columns whose sums are kept while depth after depth of a block of rows, which then stays in the second cache, meets
/// their weights.
const GROUP_COLUMNS: usize = 256;
/// Bytes of a row that take part at a time: the block of rows and two pieces of a panel fill the second cache.
const DEPTH_BYTES: usize = 2048;

/// Rows of a matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    data: &'a [T],
    count: usize,
    stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// `count` rows that begin `stride` values apart; the last row ends where `data` does or earlier.
    pub fn new(data: &'a [T], count: usize, stride: usize) -> Self {
        Self {
            data,
            count,
            stride,
        }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first `width` values of a row.
    ///
    /// # Panics
    /// When they lie outside of the data.
    pub(in crate::cpu) fn row(&self, index: usize, width: usize) -> &'a [T] {
        &self.data[index * self.stride..][..width]
    }

    fn holds(&self, width: usize) -> bool {
        self.count == 0 || (self.count - 1) * self.stride + width <= self.data.len()
    }
}

/// Whether a product of `x` with a weight `[outputs, inputs]` into `out` values is possible.
///
/// # Errors
/// [`Error::Invalid`] when sizes do not fit together.
pub(in crate::cpu) fn check_sizes<T>(
    x: &Rows<'_, T>,
    [outputs, inputs]: [usize; 2],
    bias: Option<&[f32]>,
    finish: Finish<'_>,
    out: usize,
) -> Result<()> {
    let fits = x.holds(inputs)
        && out == x.count * outputs
        && bias.is_none_or(|bias| bias.len() == outputs)
        && finish.gate().is_none_or(|gate| gate.len() == outputs);
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a product of {} rows {} values apart with a weight [{outputs}, {inputs}] into {out} values",
        x.count, x.stride
    )))
}

impl<T: Unit> Packed<T, T::Weight> {
    /// `out` = `finish`(`x` W^T + `bias`), rows of `out` being [`outputs`](Self::outputs) long.
    ///
    /// # Errors
    /// [`Error::Invalid`] when sizes do not fit together, [`Error::Cancelled`].
    pub fn multiply<O: Number>(
        &self,
        x: Rows<'_, T>,
        bias: Option<&[f32]>,
        finish: Finish<'_>,
        out: &mut [O],
        cancel: &CancelToken,
    ) -> Result<()> {
        let (inputs, outputs) = (self.inputs(), self.outputs());
        check_sizes(&x, [outputs, inputs], bias, finish, out.len())?;
        if out.is_empty() {
            return Ok(());
        }
        let (block_rows, columns) = self.task_size(x.count);
        let chunks = outputs.div_ceil(columns);
        let tasks = x.count.div_ceil(block_rows) * chunks;
        let target = Shared::new(out);
        (0..tasks)
            .into_par_iter()
            .with_max_len(1)
            .for_each_init(Vec::new, |sums, task| {
                if cancel.is_cancelled() {
                    return;
                }
                let (first, column) = (task / chunks * block_rows, task % chunks * columns);
                let block = Block {
                    first,
                    rows: block_rows.min(x.count - first),
                    stride: outputs,
                    bias,
                    finish,
                    level: self.level(),
                };
                let x = Rows::new(&x.data[first * x.stride..], block.rows, x.stride);
                let end = (column + columns).min(outputs);
                for group in (column..end).step_by(GROUP_COLUMNS) {
                    let group = group..(group + GROUP_COLUMNS).min(end);
                    // SAFETY: tasks have rows or columns of their own; `holds` found all rows inside of `x`.
                    unsafe { self.group(x, &block, group, sums, &target) };
                }
            });
        cancel.check()
    }

    /// Some columns of a block of rows, with `sums` to work in.
    ///
    /// # Safety
    /// `x` must hold the block's rows with all inputs, and no one else may use these columns of them in `out` at the same time.
    unsafe fn group<O: Number>(
        &self,
        x: Rows<'_, T>,
        block: &Block<'_>,
        columns: Range<usize>,
        sums: &mut Vec<f32>,
        out: &Shared<'_, O>,
    ) {
        let inputs = self.inputs();
        let panels: Vec<_> = self.panels(columns).collect();
        let depths = (0..inputs.max(1)).step_by(DEPTH_BYTES / size_of::<T>());
        let mut pieces = depths
            .map(|first| first..(first + DEPTH_BYTES / size_of::<T>()).min(inputs))
            .flat_map(|depth| panels.iter().enumerate().map(move |p| (p, depth.clone())))
            .peekable();
        let size = x.count * panel_width(self.level());
        sums.resize(panels.len() * size, 0.0);
        while let Some(((index, panel), depth)) = pieces.next() {
            let sums = &mut sums[index * size..][..x.count * panel.width];
            let ahead = pieces.peek().map(|((_, panel), depth)| panel.lines(depth));
            let tile = Tile {
                x: x.data[depth.start..].as_ptr(),
                x_stride: x.stride,
                depth: depth.len(),
                weights: panel.lines(&depth).as_ptr(),
                sums: sums.as_mut_ptr(),
                sums_stride: panel.width,
                add: depth.start > 0,
                ahead: ahead.map_or(Ahead::NONE, Ahead::new),
            };
            // SAFETY: the caller sees to it that `x` has all of its rows up to `inputs`, of which this is a part; `sums`
            // has a row of the panel's width for each; `lines` is a line of that width for each value; `Packed` takes
            // no level that the processor lacks.
            unsafe { rows(self.level(), x.count, panel.width, tile) };
            if depth.end == inputs {
                let columns = panel.first..panel.first + panel.valid;
                // SAFETY: passed on to the caller.
                unsafe { block.store(sums, panel.width, columns, out) };
            }
        }
    }

    /// Rows and columns of a task, for `count` rows in all.
    fn task_size(&self, count: usize) -> (usize, usize) {
        let panel = panel_width(self.level());
        let blocks = count.div_ceil(BLOCK_ROWS);
        let rows = count.div_ceil(blocks).next_multiple_of(6).min(BLOCK_ROWS);
        // As many tasks even when there are few rows, but no shreds.
        let wanted = (TASKS * rayon::current_num_threads()).div_ceil(blocks);
        let columns = (self.outputs().div_ceil(wanted))
            .max(CHUNK_COLUMNS)
            .next_multiple_of(panel);
        (rows, columns)
    }
}
