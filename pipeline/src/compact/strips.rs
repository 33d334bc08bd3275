// SPDX-License-Identifier: MPL-2.0
//! How a picture is cut into strips so that memory stays bounded, whatever its size.
//!
//! A strip is some rows of the result together with the rows of the input that these depend on, so results are the
//! same however many strips there are; only the rows that two strips share are computed twice.

use std::ops::Range;

use super::net::{Config, MARGIN};
use super::passes::Route;
use crate::cpu::resize::working_bytes;
use crate::cpu::s2d::{FACTOR, LATENT};
use crate::media::frame::{FrameFormat, Planes};
use crate::size::Size;

/// Rows beside a strip that the final Lanczos resize may read.
const RESIZE_HALO: usize = 4;
/// Size of a float in memory.
const FLOAT: u64 = 4;

/// What is to be enlarged how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// Format of the frames.
    pub format: FrameFormat,
    /// Size of the frames.
    pub input: Size,
    /// Size of the result, at least that of the frames on both axes.
    pub output: Size,
    /// Function evaluations.
    pub steps: usize,
    /// Threads that compute, each of which has buffers of its own.
    pub threads: usize,
}

/// Rows of one pass's grid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PassRows {
    /// Those whose part of the large picture is made.
    pub made: Range<usize>,
    /// These and the ones that they depend on.
    pub read: Range<usize>,
}

impl PassRows {
    /// `made` and `reach` rows on each side, as far as there are any.
    fn new(made: Range<usize>, reach: usize, height: usize) -> Self {
        let read = widened(&made, reach, height);
        Self { made, read }
    }
}

/// Rows of the result and the rows of each pass's grid that they are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Strip {
    pub output: Range<usize>,
    /// In the order of the passes.
    pub passes: Vec<PassRows>,
}

impl Strip {
    /// The strip of some rows of the last grid. A pass depends on `reach` rows on each side of its own.
    fn new(route: &Route, rows: Range<usize>, reach: usize) -> Self {
        let (grid, height) = (route.last().height, route.output.height);
        // In whole numbers, so that exact multiples stay exact.
        let (output, made) = if route.exact() {
            let end = (rows.end * FACTOR).min(height);
            (rows.start * FACTOR..end, rows)
        } else {
            let mapped = |row: usize| (row * height + grid / 2) / grid;
            let made = widened(&rows, RESIZE_HALO, grid);
            (mapped(rows.start)..mapped(rows.end), made)
        };
        let last = PassRows::new(made, reach, grid);
        let passes = match route.second {
            None => vec![last],
            Some(second) => {
                let made = route.first_rows(second, &last.read);
                vec![PassRows::new(made, reach, route.input.height), last]
            }
        };
        Self { output, passes }
    }
}

/// Strips of one enlargement and what may be in memory for them.
#[derive(Clone, Debug)]
pub struct StripPlan {
    pub(super) route: Route,
    pub(super) strips: Vec<Strip>,
    /// Whether layers of a whole strip may be in memory; it is faster.
    pub(super) planes: bool,
    bytes: u64,
}

impl StripPlan {
    /// The fastest plan that needs at most `limit` bytes, or the one that needs least if there is none.
    ///
    /// `buffers` gives the bytes of the buffers for one evaluation on a grid of some size, with layers of whole pictures
    /// or without.
    pub(super) fn new(
        job: &Job,
        config: &Config,
        limit: u64,
        buffers: impl Fn(Size, bool) -> u64,
    ) -> Self {
        let rows = Route::new(job.input, job.output).last().height;
        let counts = (0..)
            .map(|n| 1usize << n)
            .take_while(|count| *count < rows)
            .chain([rows]);
        let mut least: Option<Self> = None;
        for count in counts {
            for planes in [true, false] {
                let plan = Self::of(job, config, (count, planes), &buffers);
                if plan.bytes <= limit {
                    return plan;
                }
                if least.as_ref().is_none_or(|least| plan.bytes < least.bytes) {
                    least = Some(plan);
                }
            }
        }
        // `counts` ends with a number of rows, which is at least one.
        least.unwrap_or_else(|| Self::of(job, config, (1, true), &buffers))
    }

    /// The plan with `count` strips.
    pub(super) fn of(
        job: &Job,
        config: &Config,
        (count, planes): (usize, bool),
        buffers: impl Fn(Size, bool) -> u64,
    ) -> Self {
        let route = Route::new(job.input, job.output);
        let (grid, reach) = (route.last().height, config.reach(job.steps));
        let core = grid.div_ceil(count.max(1));
        let strips: Vec<Strip> = (0..grid)
            .step_by(core)
            .map(|start| Strip::new(&route, start..(start + core).min(grid), reach))
            .collect();
        let mut plan = Self {
            route,
            strips,
            planes,
            bytes: 0,
        };
        plan.bytes = plan.estimate(job, config, |grid| buffers(grid, planes));
        plan
    }

    /// Estimated peak memory beside the weights, the result and one input frame included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of strips; one is fastest.
    pub fn strips(&self) -> usize {
        self.strips.len()
    }

    /// The most of something that a strip has.
    fn most(&self, rows: impl Fn(&Strip) -> usize) -> usize {
        self.strips.iter().map(rows).max().unwrap_or(0)
    }

    /// Peak memory of the largest strip and of what there is beside it.
    fn estimate(&self, job: &Job, config: &Config, buffers: impl Fn(Size) -> u64) -> u64 {
        let Self { route, strips, .. } = self;
        let Job {
            format,
            input,
            output,
            steps,
            threads,
        } = *job;
        let sample = if format.depth == 8 { 1 } else { 2 };
        let planes = |size: Size| -> u64 {
            let samples: usize = (0..format.plane_count())
                .map(|i| format.plane_size(i, size).pixels())
                .sum();
            samples as u64 * sample
        };
        let colours = if format.planes == Planes::Rgb { 3 } else { 1 };
        let floats = |values: usize| values as u64 * FLOAT;
        let framed = |size: Size| Size::new(size.width + 2 * MARGIN, size.height + 2 * MARGIN);
        // The frames that wait in a stream, and their luma.
        let window = config.frames as u64;
        let held = window * (planes(input) + floats(framed(input).pixels()));
        let grids: Vec<Size> = [Some(input), route.second]
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(pass, size)| {
                let rows = self.most(|strip| strip.passes[pass].read.len());
                framed(Size::new(size.width, rows))
            })
            .collect();
        let buffers = grids.iter().copied().map(buffers);
        // Passes, and strips of other heights, have buffers of their own, of which those of two are kept.
        let buffers = if strips.len() == 1 {
            buffers.sum()
        } else {
            2 * buffers.max().unwrap_or(0)
        };
        // Between evaluations there are two states of the larger grid.
        let states = match steps {
            0 | 1 => 0,
            _ => grids
                .iter()
                .map(|grid| 2 * floats(grid.pixels() * LATENT))
                .max()
                .unwrap_or(0),
        };
        // The large picture of a pass.
        let large = |pass: usize, width: usize| {
            let rows = self.most(|strip| strip.passes[pass].made.len());
            Size::new(width * FACTOR, rows * FACTOR)
        };
        // From the first pass to the second: its picture, a copy with room for what lies beyond, the resized one, and
        // that with its margins.
        let (between, second) = grids.get(1).map_or((0, 0), |grid| {
            let first = large(0, input.width);
            let resizing = working_bytes(first.height, *grid, threads);
            let second = floats(grid.pixels());
            (2 * floats(first.pixels()) + resizing + 2 * second, second)
        });
        let made = Size::new(output.width, self.most(|strip| strip.output.len()));
        let last = large(grids.len() - 1, route.last().width);
        // The large picture as floats, if it is not made of codes at once.
        let finish = match (route.exact(), colours) {
            (true, 1) if last.width == output.width => 0,
            (true, 1) => last.pixels() as u64 * sample,
            _ => {
                floats(last.pixels() + (colours + 1) * made.pixels())
                    + working_bytes(last.height, made, threads)
            }
        };
        held + planes(output) + buffers + states + between.max(second + finish)
    }
}

/// `rows` and `more` rows on each side, as far as there are any.
pub(super) fn widened(rows: &Range<usize>, more: usize, height: usize) -> Range<usize> {
    rows.start.saturating_sub(more)..(rows.end + more).min(height)
}
