// SPDX-License-Identifier: MPL-2.0
//! 3x3 convolutions over clips, one or several frames deep in time, without copying windows.
//!
//! A task owns an area of the picture and carries it through all frames, so that no frame is rearranged twice. Where
//! there are enough channels, products of transformed blocks ([`winograd`]) take the place of the sum over all taps
//! ([`direct`]).

mod direct;
mod target;
#[cfg(test)]
mod tests;
mod winograd;

use rayon::prelude::*;

use self::target::{Sums, Target};
use super::conv3x3::Activation;
use super::gemm::Element;
use super::level::CpuLevel;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// Channels, in and out, from which on transforming blocks pays.
const ENOUGH: usize = 64;

/// A convolution `[outputs, inputs, time, 3, 3]` with padding 1 in space and none in time.
#[derive(Debug)]
pub struct Conv3d<T> {
    inputs: usize,
    time: usize,
    kernels: Kernels<T>,
    bias: Vec<f32>,
}

#[derive(Debug)]
enum Kernels<T> {
    Direct(direct::Kernels<T>),
    Winograd(winograd::Kernels<T>),
}

/// A clip `[frames, channels, height, width]`, frame by frame.
#[derive(Clone, Copy, Debug)]
pub struct Clip<'a> {
    /// Each `[channels, height, width]`.
    pub frames: &'a [&'a [f32]],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// A part of the picture.
#[derive(Clone, Copy)]
struct Area {
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
}

impl<T: Element> Conv3d<T> {
    /// Packs `weight` `[outputs, inputs, time, 3, 3]` and `bias` `[outputs]`.
    ///
    /// # Panics
    /// When the lengths do not fit.
    pub fn new(level: CpuLevel, weight: &[T], bias: &[f32], inputs: usize, time: usize) -> Self {
        let many = inputs >= ENOUGH && bias.len() >= ENOUGH;
        Self::with(many, level, weight, bias, inputs, time)
    }

    fn with(
        winograd: bool,
        level: CpuLevel,
        weight: &[T],
        bias: &[f32],
        inputs: usize,
        time: usize,
    ) -> Self {
        let outputs = bias.len();
        assert_eq!(weight.len(), outputs * inputs * time * 9);
        let kernels = if winograd {
            let kernels = winograd::Kernels::new(level, weight, outputs, inputs, time);
            Kernels::Winograd(kernels)
        } else {
            let kernels = direct::Kernels::new(level, weight, outputs, inputs, time);
            Kernels::Direct(kernels)
        };
        Self {
            inputs,
            time,
            kernels,
            bias: bias.to_vec(),
        }
    }

    /// Channels that come out.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Convolves `clip` into `out` `[frames - time + 1, outputs, height, width]`, adding `residual` of that shape.
    ///
    /// # Errors
    /// [`Error::Invalid`] when sizes do not fit together, [`Error::Cancelled`].
    pub fn run(
        &self,
        clip: Clip<'_>,
        residual: Option<&[f32]>,
        out: &mut [f32],
        cancel: &CancelToken,
    ) -> Result<()> {
        let Clip { height, width, .. } = clip;
        let plane = height * width;
        let frames = (clip.frames.len() + 1).saturating_sub(self.time);
        let fits = out.len() == frames * self.outputs() * plane
            && residual.is_none_or(|residual| residual.len() == out.len())
            && clip
                .frames
                .iter()
                .all(|frame| frame.len() == self.inputs * plane);
        if !fits {
            return Err(Error::invalid(format!(
                "a convolution of {} channels and {} frames of {width}x{height} into {} values",
                self.inputs,
                clip.frames.len(),
                out.len()
            )));
        }
        if out.is_empty() {
            return Ok(());
        }
        let target = Target {
            size: (height, width),
            bias: &self.bias,
            residual,
            out: Shared::new(out),
        };
        match &self.kernels {
            Kernels::Direct(kernels) => each_area(
                (height, width),
                (direct::PIXELS, direct::COLUMNS),
                |rows, columns| direct::Buffers::new(kernels, rows, columns),
                |buffers, area| buffers.carry(kernels, clip, area, &target, cancel),
            ),
            Kernels::Winograd(kernels) => each_area(
                (height, width),
                (winograd::PIXELS, winograd::COLUMNS),
                |rows, columns| winograd::Buffers::new(kernels, self.outputs(), rows, columns),
                |buffers, area| buffers.carry(kernels, clip, area, &target, cancel),
            ),
        }
    }
}

/// Does `work` on the areas of a picture, of about `pixels` in `columns` or less, with buffers for areas of that size.
fn each_area<B>(
    (height, width): (usize, usize),
    (pixels, columns): (usize, usize),
    buffers: impl Fn(usize, usize) -> B + Sync + Send,
    work: impl Fn(&mut B, Area) -> Result<()> + Sync + Send,
) -> Result<()> {
    let columns = columns.min(width);
    let across = width.div_ceil(columns);
    // Some areas for every thread, even numbers of rows, and all about equally many.
    let wanted = (4 * rayon::current_num_threads()).div_ceil(across);
    let rows = (pixels / columns).clamp(1, height.div_ceil(wanted).max(2));
    let rows = height.div_ceil(height.div_ceil(rows)).next_multiple_of(2);
    let down = height.div_ceil(rows);
    let areas = (0..across * down).into_par_iter().with_max_len(1);
    areas.try_for_each_init(
        || buffers(rows, columns),
        |buffers, index| {
            let (row, column) = (index / across * rows, index % across * columns);
            let area = Area {
                row,
                column,
                rows: rows.min(height - row),
                columns: columns.min(width - column),
            };
            work(buffers, area)
        },
    )
}
