// SPDX-License-Identifier: MPL-2.0
//! Convolutions on the CPU: a sum of matrix products, one for each kernel tap, over tiles of the output.

use rayon::prelude::*;

use crate::cpu::conv3d::Clip;
use crate::cpu::matmul::{Matrix, matmul};
use crate::error::Result;
use crate::progress::CancelToken;

/// Output pixels of one tile: large enough for the matrix product, small enough for the cache.
const TILE_COLUMNS: usize = 64;
const TILE_ROWS: usize = 16;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub inputs: usize,
    pub outputs: usize,
    /// Extent in time and in each direction of space.
    pub extent: (usize, usize),
    pub stride: usize,
    /// Zeros before the first and after the last row and column.
    pub padding: (usize, usize),
}

/// What a convolution on the CPU reads.
pub(super) struct Task<'a> {
    /// Frames in time, remembered ones first, each `[inputs, height, width]`.
    pub clip: &'a [&'a [f32]],
    pub residual: Option<&'a [f32]>,
    pub size: (usize, usize),
    pub out: (usize, usize),
}

/// A task with the weights for it.
struct Products<'a> {
    task: &'a Task<'a>,
    shape: Shape,
    taps: &'a [f32],
    bias: &'a [f32],
}

/// Rows of one output frame: for each output channel a slice of the result.
struct Band<'a> {
    frame: usize,
    row: usize,
    planes: Vec<&'a mut [f32]>,
}

impl Task<'_> {
    /// The frames as the packed kernel takes them.
    pub fn clip(&self) -> Clip<'_> {
        Clip {
            frames: self.clip,
            height: self.size.0,
            width: self.size.1,
        }
    }

    /// The sum of the products with `taps` `[taps, outputs, inputs]`, and `bias` `[outputs]`.
    pub fn run(
        &self,
        shape: Shape,
        (taps, bias): (&[f32], &[f32]),
        result: &mut [f32],
        cancel: &CancelToken,
    ) -> Result<()> {
        let products = Products {
            task: self,
            shape,
            taps,
            bias,
        };
        products.run(result, cancel)
    }
}

impl Products<'_> {
    fn run(&self, result: &mut [f32], cancel: &CancelToken) -> Result<()> {
        let (height, width) = self.task.out;
        let outputs = self.shape.outputs;
        let rows = TILE_ROWS.min(height.div_ceil(2)).max(1);
        let bands_per_frame = height.div_ceil(rows);
        let frames = result.len() / (outputs * height * width).max(1);
        let mut bands: Vec<Band<'_>> = (0..frames * bands_per_frame)
            .map(|index| Band {
                frame: index / bands_per_frame,
                row: index % bands_per_frame * rows,
                planes: Vec::with_capacity(outputs),
            })
            .collect();
        for (index, plane) in result.chunks_mut(height * width).enumerate() {
            let first = index / outputs * bands_per_frame;
            for (band, part) in bands
                .iter_mut()
                .skip(first)
                .zip(plane.chunks_mut(rows * width))
            {
                band.planes.push(part);
            }
        }
        bands.into_par_iter().try_for_each_init(
            || (Vec::new(), Vec::new()),
            |(tile, sums), mut band| {
                for column in (0..width).step_by(TILE_COLUMNS) {
                    cancel.check()?;
                    self.tile(
                        &mut band,
                        column,
                        TILE_COLUMNS.min(width - column),
                        tile,
                        sums,
                    );
                }
                Ok(())
            },
        )
    }

    /// Computes columns `column..column + width` of `band`.
    ///
    /// The tile of the input lies in `tile` as `[time][input][phase row][phase column][row][column]`, where a phase is
    /// the position modulo the stride; so every tap is a plain matrix product on a shifted view. Rows overlap at their
    /// ends: the last columns of each row of the product are thrown away.
    fn tile(
        &self,
        band: &mut Band<'_>,
        column: usize,
        width: usize,
        tile: &mut Vec<f32>,
        sums: &mut Vec<f32>,
    ) {
        let conv = &self.shape;
        let ((time, k), stride) = (conv.extent, conv.stride);
        let rows = band
            .planes
            .first()
            .map_or(0, |plane| plane.len() / self.task.out.1);
        let reach = (k - 1) / stride;
        let (tile_rows, pitch) = (rows + reach, width + reach);
        let phase = tile_rows * pitch;
        let channel = stride * stride * phase;
        tile.clear();
        tile.resize(time * conv.inputs * channel, 0.0);
        let origin = (band.row * stride, column * stride);
        for t in 0..time {
            let Some(frame) = self.task.clip.get(band.frame + t) else {
                continue;
            };
            let planes = frame.chunks(self.task.size.0 * self.task.size.1);
            for (target, plane) in tile[t * conv.inputs * channel..]
                .chunks_mut(channel)
                .zip(planes)
            {
                self.fill(target, plane, origin, (tile_rows, pitch));
            }
        }
        let columns = (rows - 1) * pitch + width;
        sums.clear();
        sums.resize(conv.outputs * columns, 0.0);
        let size = conv.outputs * conv.inputs;
        for (index, weights) in self.taps.chunks(size).enumerate() {
            let (t, dy, dx) = (index / (k * k), index / k % k, index % k);
            let offset = t * conv.inputs * channel
                + (dy % stride * stride + dx % stride) * phase
                + dy / stride * pitch
                + dx / stride;
            matmul(
                sums,
                columns,
                index > 0,
                1.0,
                Matrix::new(weights, (conv.outputs, conv.inputs), (conv.inputs, 1)),
                Matrix::new(&tile[offset..], (conv.inputs, columns), (channel, 1)),
            );
        }
        let plane_size = self.task.out.0 * self.task.out.1;
        for (output, plane) in band.planes.iter_mut().enumerate() {
            let bias = self.bias.get(output).copied().unwrap_or(0.0);
            let start =
                (band.frame * conv.outputs + output) * plane_size + band.row * self.task.out.1;
            for (row, line) in plane.chunks_mut(self.task.out.1).enumerate() {
                let line = &mut line[column..column + width];
                let sums = &sums[output * columns + row * pitch..][..width];
                match self.task.residual {
                    Some(residual) => {
                        let residual = &residual[start + row * self.task.out.1 + column..][..width];
                        for ((y, s), r) in line.iter_mut().zip(sums).zip(residual) {
                            *y = s + bias + r;
                        }
                    }
                    None => {
                        for (y, s) in line.iter_mut().zip(sums) {
                            *y = s + bias;
                        }
                    }
                }
            }
        }
    }

    /// Copies what a tile sees of one input plane, phase by phase; what lies outside stays zero.
    fn fill(
        &self,
        target: &mut [f32],
        plane: &[f32],
        origin: (usize, usize),
        (rows, pitch): (usize, usize),
    ) {
        let stride = self.shape.stride;
        let low = self.shape.padding.0;
        let (height, width) = self.task.size;
        for (index, phase) in target.chunks_mut(rows * pitch).enumerate() {
            let (py, px) = (index / stride, index % stride);
            for (row, line) in phase.chunks_mut(pitch).enumerate() {
                let Some(y) = (origin.0 + row * stride + py)
                    .checked_sub(low)
                    .filter(|y| *y < height)
                else {
                    continue;
                };
                let source = &plane[y * width..(y + 1) * width];
                // Column c of the line is input column first + c * stride - low.
                let first = origin.1 + px;
                let skip = low.saturating_sub(first).div_ceil(stride);
                let start = (first + skip * stride - low).min(width);
                let line = line.get_mut(skip..).unwrap_or_default();
                if stride == 1 {
                    let len = line.len().min(width - start);
                    line[..len].copy_from_slice(&source[start..start + len]);
                } else {
                    for (to, from) in line.iter_mut().zip(source[start..].iter().step_by(stride)) {
                        *to = *from;
                    }
                }
            }
        }
    }
}
