// SPDX-License-Identifier: MPL-2.0
//! From sums of pixels to the planes of the result.

use super::Area;
use crate::cpu::gemm::panel_width;
use crate::cpu::level::CpuLevel;
use crate::cpu::shared::Shared;
use crate::cpu::transpose::{SQUARE, turn};
use crate::cpu::vector::{Work, run};

/// The result of a convolution and what is added to its sums.
pub(super) struct Target<'a> {
    /// Rows and columns of the planes.
    pub size: (usize, usize),
    pub bias: &'a [f32],
    pub residual: Option<&'a [f32]>,
    /// `[frames, outputs, rows, columns]`
    pub out: Shared<'a, f32>,
}

/// Sums of a panel of outputs.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a> {
    /// `[rows, stride, lanes]`
    pub values: &'a [f32],
    pub lanes: usize,
    pub stride: usize,
}

impl Target<'_> {
    /// The first outputs of the panels.
    pub fn panels(&self, level: CpuLevel) -> impl Iterator<Item = usize> + use<> {
        (0..self.bias.len()).step_by(panel_width(level))
    }

    /// Stores the sums of the panel that begins with `output`, of an area of `frame` that no other task has.
    pub fn store(
        &self,
        level: CpuLevel,
        sums: Sums<'_>,
        area: Area,
        (frame, output): (usize, usize),
    ) {
        let ((height, width), outputs) = (self.size, self.bias.len());
        let scatter = Scatter {
            level,
            sums,
            area,
            bias: &self.bias[output..][..panel_width(level).min(outputs - output)],
            residual: self.residual,
            out: &self.out,
            first: ((frame * outputs + output) * height + area.row) * width + area.column,
            strides: (height * width, width),
        };
        run(level, scatter);
    }
}

/// Copies sums of pixels to planes, adding bias and residual.
struct Scatter<'a> {
    level: CpuLevel,
    sums: Sums<'a>,
    area: Area,
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    out: &'a Shared<'a, f32>,
    /// Where the area begins in the plane of the first channel.
    first: usize,
    /// From a plane to the next and from a row to the next.
    strides: (usize, usize),
}

impl Work for Scatter<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let area = self.area;
        let Sums {
            values,
            lanes,
            stride,
        } = self.sums;
        let mut square = [[0f32; SQUARE]; SQUARE];
        for channel in (0..self.bias.len()).step_by(SQUARE) {
            let channels = SQUARE.min(self.bias.len() - channel);
            for row in 0..area.rows {
                let pixels = &values[row * stride * lanes..][..area.columns * lanes];
                for (column, pixels) in pixels.chunks(SQUARE * lanes).enumerate() {
                    let count = pixels.len() / lanes;
                    let from = &pixels[channel..];
                    turn(self.level, from, lanes, (count, SQUARE), &mut square);
                    for (index, values) in square.iter().enumerate().take(channels) {
                        let start = self.first
                            + (channel + index) * self.strides.0
                            + row * self.strides.1
                            + column * SQUARE;
                        let bias = self.bias[channel + index];
                        // SAFETY: areas do not overlap, nor do channels.
                        let out = unsafe { self.out.part_mut(start, count) };
                        match self.residual {
                            Some(residual) => {
                                let values = values.iter().zip(&residual[start..][..count]);
                                for (out, (value, residual)) in out.iter_mut().zip(values) {
                                    *out = value + bias + residual;
                                }
                            }
                            None => {
                                for (out, value) in out.iter_mut().zip(values) {
                                    *out = value + bias;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
