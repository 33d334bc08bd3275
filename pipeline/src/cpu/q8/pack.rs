// SPDX-License-Identifier: MPL-2.0
//! Q8_0 weights in the order in which the kernels read them.

use rayon::prelude::*;

use super::{BLOCK, BLOCK_BYTES, GROUP, PackedQ8, supported};
use crate::cpu::gemm::{Packed, panel_width};
use crate::cpu::level::CpuLevel;
use crate::error::{Error, Result};

/// Flips the sign bit of a value, which adds 128.
const UNSIGNED: u8 = 0x80;

impl PackedQ8 {
    /// Packs the blocks of a Q8_0 tensor `[outputs, inputs]` as a GGUF file has them, for the fastest kernel at or below
    /// `level`: row by row, of each block the scale (f16, little endian) and the 32 values.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `inputs` is no multiple of [`BLOCK`] or there are not that many bytes.
    pub fn new(level: CpuLevel, blocks: &[u8], outputs: usize, inputs: usize) -> Result<Self> {
        let row = inputs / BLOCK * BLOCK_BYTES;
        if !inputs.is_multiple_of(BLOCK) || outputs.checked_mul(row) != Some(blocks.len()) {
            return Err(Error::invalid(format!(
                "a Q8_0 weight [{outputs}, {inputs}] of {} bytes",
                blocks.len()
            )));
        }
        let level = supported(level);
        let flip = if unsigned(level) { UNSIGNED } else { 0 };
        let mut packed = Packed::of_units(level, outputs, inputs / BLOCK);
        packed
            .panels_mut()
            .zip(blocks.par_chunks((row * panel_width(level)).max(1)))
            .for_each(|(to, rows)| {
                // The last panel may be wider than there are rows, but not longer than its columns need.
                let line = to.len() / (inputs / BLOCK);
                let width = line / BLOCK_BYTES;
                for (lane, row) in rows.chunks_exact(row).enumerate() {
                    let lines = to.chunks_exact_mut(line);
                    for (line, block) in lines.zip(row.chunks_exact(BLOCK_BYTES)) {
                        set_lane(line, width, lane, block, flip);
                    }
                }
            });
        Ok(Self(packed))
    }
}

/// Whether the kernel of `level` wants weights with 128 added.
pub(super) fn unsigned(level: CpuLevel) -> bool {
    level == CpuLevel::Avx512
}

/// Sets column `lane` of a line of `width` columns to a block.
fn set_lane(line: &mut [u8], width: usize, lane: usize, block: &[u8], flip: u8) {
    let (scale, values) = block.split_at(BLOCK_BYTES - BLOCK);
    let (groups, scales) = line.split_at_mut(width * BLOCK);
    scales[lane * scale.len()..][..scale.len()].copy_from_slice(scale);
    let groups = groups.chunks_exact_mut(width * GROUP);
    for (group, values) in groups.zip(values.chunks_exact(GROUP)) {
        for (to, value) in group[lane * GROUP..].iter_mut().zip(values) {
            *to = value ^ flip;
        }
    }
}
