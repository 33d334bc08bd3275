// SPDX-License-Identifier: MPL-2.0
//! The sum over all taps: windows of pixels times kernels.
//!
//! A task keeps the last frames of its area, channels innermost and with a border, in a ring; so every frame is
//! rearranged once, and the three horizontal taps of a pixel lie side by side: they are a row of a matrix product whose
//! rows overlap.

use super::{Activation, Area, Clip, Sums, Target};
use crate::cpu::aligned::AlignedVec;
use crate::cpu::gemm::{Ahead, Element, Packed, Tile, panel_width, rows};
use crate::cpu::level::CpuLevel;
use crate::cpu::transpose::{SQUARE, turn};
use crate::cpu::vector::{Work, run};
use crate::error::Result;
use crate::progress::CancelToken;

/// Columns of an area, at most: a multiple of the rows of a product's tile.
pub(super) const COLUMNS: usize = 120;
/// Pixels of an area, about.
pub(super) const PIXELS: usize = 480;

/// Kernels as a weight `[outputs, time * 9 * padded inputs]`.
#[derive(Debug)]
pub(super) struct Kernels<T> {
    inputs: usize,
    time: usize,
    weights: Packed<T>,
}

impl<T: Element> Kernels<T> {
    /// From `weight` `[outputs, inputs, time, 3, 3]`.
    pub fn new(level: CpuLevel, weight: &[T], outputs: usize, inputs: usize, time: usize) -> Self {
        let padded = inputs.next_multiple_of(T::GROUP);
        let mut weights = Packed::zeroed(level, outputs, time * 9 * padded);
        let mut row = vec![T::default(); time * 9 * padded];
        for (output, weight) in weight.chunks_exact((inputs * time * 9).max(1)).enumerate() {
            for (input, taps) in weight.chunks_exact(time * 9).enumerate() {
                for (tap, weight) in taps.iter().enumerate() {
                    row[tap * padded + input] = *weight;
                }
            }
            weights.set_output(output, &row);
        }
        Self {
            inputs,
            time,
            weights,
        }
    }

    fn padded(&self) -> usize {
        self.inputs.next_multiple_of(T::GROUP)
    }
}

/// What a task works on.
pub(super) struct Buffers<T> {
    /// For each tap in time `[rows + 2, columns + 2, padded inputs]`.
    ring: Vec<AlignedVec<T>>,
    /// `[pixels, panel width]`
    sums: AlignedVec<f32>,
}

impl<T: Element> Buffers<T> {
    pub fn new(kernels: &Kernels<T>, rows: usize, columns: usize) -> Self {
        let size = (rows + 2) * (columns + 2) * kernels.padded();
        let width = panel_width(kernels.weights.level());
        Self {
            ring: (0..kernels.time)
                .map(|_| AlignedVec::zeroed(size))
                .collect(),
            sums: AlignedVec::zeroed(rows * columns * width),
        }
    }

    /// One area through all frames.
    pub fn carry(
        &mut self,
        kernels: &Kernels<T>,
        clip: Clip<'_>,
        area: Area,
        target: &Target<'_>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let level = kernels.weights.level();
        for (index, frame) in clip.frames.iter().enumerate() {
            cancel.check()?;
            let slot = index % kernels.time;
            let gather = Gather {
                level,
                frame,
                size: (clip.height, clip.width),
                area,
                channels: (kernels.inputs, kernels.padded()),
                to: &mut self.ring[slot],
            };
            run(level, gather);
            let Some(first) = (index + 1).checked_sub(kernels.time) else {
                continue;
            };
            for (panel, output) in target.panels(level).enumerate() {
                let lanes = self.panel(kernels, panel, first, area);
                let sums = Sums {
                    values: &self.sums,
                    lanes,
                    stride: area.columns,
                };
                target.store(level, sums, area, (first, output));
            }
        }
        Ok(())
    }

    /// The sums of one panel of outputs, whose width is returned; frame `first` is the first tap in time.
    fn panel(&mut self, kernels: &Kernels<T>, panel: usize, first: usize, area: Area) -> usize {
        let (level, padded) = (kernels.weights.level(), kernels.padded());
        let stride = (area.columns + 2) * padded;
        let depth = 3 * padded;
        let mut lanes = 0;
        for tap in 0..3 * kernels.time {
            let (lines, width) = kernels.weights.lines(panel, tap * depth, depth);
            lanes = width;
            let (time, row_tap) = (tap / 3, tap % 3);
            let plane = &self.ring[(first + time) % kernels.time];
            for row in 0..area.rows {
                let tile = Tile {
                    x: plane[(row + row_tap) * stride..][..stride].as_ptr(),
                    x_stride: padded,
                    depth,
                    weights: lines.as_ptr(),
                    sums: self.sums[row * area.columns * width..][..area.columns * width]
                        .as_mut_ptr(),
                    sums_stride: width,
                    add: tap > 0,
                    ahead: Ahead::NONE,
                };
                // SAFETY: a row of the ring has `columns + 2` pixels, so that a window of three begins at each of
                // `columns`; `lines` has `depth` lines of `width`, `sums` a row of `width` for each pixel.
                unsafe { rows(level, area.columns, width, tile) };
            }
        }
        lanes
    }
}

/// Copies an area of planes, with its border, to pixels; what lies outside of the picture is zero.
pub(super) struct Gather<'a, T> {
    pub level: CpuLevel,
    pub frame: &'a [f32],
    /// Rows and columns of the planes.
    pub size: (usize, usize),
    /// May reach beyond the planes.
    pub area: Area,
    /// Of the planes and of a pixel in memory.
    pub channels: (usize, usize),
    pub to: &'a mut [T],
}

impl<T: Activation> Work for Gather<'_, T> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let ((height, width), (inputs, padded), area) = (self.size, self.channels, self.area);
        let stride = (area.columns + 2) * padded;
        let plane = height * width;
        // Columns of the picture that the bordered row covers, and where they begin in it.
        let left = area.column.saturating_sub(1);
        let right = (area.column + area.columns + 1).min(width);
        let skip = usize::from(area.column == 0);
        let mut square = [[0f32; SQUARE]; SQUARE];
        for (line, to) in self.to[..(area.rows + 2) * stride]
            .chunks_exact_mut(stride)
            .enumerate()
        {
            let Some(row) = (area.row + line).checked_sub(1).filter(|row| *row < height) else {
                to.fill(T::default());
                continue;
            };
            to[..skip * padded].fill(T::default());
            to[(skip + right - left) * padded..].fill(T::default());
            let to = &mut to[skip * padded..][..(right - left) * padded];
            for channel in (0..inputs).step_by(SQUARE) {
                let channels = SQUARE.min(inputs - channel);
                for (column, pixels) in to.chunks_mut(SQUARE * padded).enumerate() {
                    let count = pixels.len() / padded;
                    let start = row * width + left + column * SQUARE;
                    let from = &self.frame[channel * plane + start..];
                    turn(self.level, from, plane, (channels, count), &mut square);
                    for (pixel, values) in pixels.chunks_exact_mut(padded).zip(&square) {
                        if channels == SQUARE {
                            let to = &mut pixel[channel..][..SQUARE];
                            for (to, value) in to.iter_mut().zip(values) {
                                *to = T::from_f32(*value);
                            }
                        } else {
                            for (to, value) in pixel[channel..][..channels].iter_mut().zip(values) {
                                *to = T::from_f32(*value);
                            }
                        }
                    }
                }
            }
            if padded > inputs {
                for pixel in to.chunks_exact_mut(padded) {
                    pixel[inputs..].fill(T::default());
                }
            }
        }
    }
}
