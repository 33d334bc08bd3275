//! How a picture is cut into strips so that memory stays bounded, whatever its size.
//!
//! A strip is some rows of the result together with the rows of the input that these depend on, so results are the
//! same however many strips there are; only the rows that two strips share are computed twice.

use std::ops::Range;

use super::CompactModel;
use super::buffers::KEPT_BUFFERS;
use super::enlarge::MARGIN;
use crate::clip::{FrameFormat, Planes, Size};
use crate::kernels::reference;
use crate::kernels::s2d::{FACTOR, LATENT};

/// Rows beside a strip that the final Lanczos resize may read.
const RESIZE_HALO: usize = 4;
/// Size of a float in memory.
const FLOAT: u64 = 4;

/// What is to be enlarged how.
#[derive(Clone, Copy, Debug)]
pub struct StripRequest<'a> {
    /// The model.
    pub model: &'a CompactModel,
    /// Format of the frames.
    pub format: &'a FrameFormat,
    /// Size of the frames.
    pub input: Size,
    /// Size of the result, at least that of the frames on both axes.
    pub output: Size,
    /// Function evaluations.
    pub steps: usize,
    /// Threads that compute, each of which has buffers of its own.
    pub threads: usize,
}

/// Rows of the result and the rows of the input that they are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Strip {
    pub output: Range<usize>,
    pub input: Range<usize>,
}

/// Strips of one enlargement and what may be in memory for them.
#[derive(Clone, Debug)]
pub struct StripPlan {
    pub(super) passes: usize,
    pub(super) strips: Vec<Strip>,
    /// Whether layers of a whole strip may be in memory; it is faster.
    pub(super) planes: bool,
    bytes: u64,
}

impl StripPlan {
    /// The fastest plan that needs at most `limit` bytes, or the one that needs least if there is none.
    pub fn new(request: StripRequest<'_>, limit: u64) -> Self {
        let rows = request.input.height;
        let counts = (0..)
            .map(|n| 1usize << n)
            .take_while(|count| *count < rows)
            .chain([rows]);
        let mut least: Option<Self> = None;
        for count in counts {
            for planes in [true, false] {
                let plan = Self::of(request, count, planes);
                if plan.bytes <= limit {
                    return plan;
                }
                if least.as_ref().is_none_or(|least| plan.bytes < least.bytes) {
                    least = Some(plan);
                }
            }
        }
        // `counts` ends with a number of rows, which is at least one.
        least.unwrap_or_else(|| Self::of(request, 1, true))
    }

    /// The plan with `count` strips.
    pub(super) fn of(request: StripRequest<'_>, count: usize, planes: bool) -> Self {
        let StripRequest {
            model,
            input,
            output,
            ..
        } = request;
        let passes = passes(input, output);
        let halo = halo(model.config().convolutions(), request.steps, passes);
        let core = input.height.div_ceil(count.max(1));
        // In whole numbers, so that exact multiples stay exact.
        let mapped = |row: usize| (row * output.height + input.height / 2) / input.height;
        let strips: Vec<Strip> = (0..input.height)
            .step_by(core)
            .map(|start| (start, (start + core).min(input.height)))
            .map(|(start, end)| Strip {
                output: mapped(start)..mapped(end),
                input: start.saturating_sub(halo)..(end + halo).min(input.height),
            })
            .collect();
        let rows = strips
            .iter()
            .map(|strip| strip.input.len())
            .max()
            .unwrap_or(0);
        let grids: Vec<Size> = (0..passes)
            .map(|pass| FACTOR.pow(pass as u32))
            .map(|factor| Size::new(input.width * factor, rows * factor))
            .map(|size| Size::new(size.width + 2 * MARGIN, size.height + 2 * MARGIN))
            .collect();
        let made = strips
            .iter()
            .map(|strip| strip.output.len())
            .max()
            .unwrap_or(0);
        let alone = passes == 1 && strips.len() == 1;
        let bytes = bytes(request, &grids, (planes, alone), made);
        Self {
            passes,
            strips,
            planes,
            bytes,
        }
    }

    /// Estimated peak memory beside the weights, the result and one input frame included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of strips; one is fastest.
    pub fn strips(&self) -> usize {
        self.strips.len()
    }
}

/// Runs of the model until the picture is at least as large as `output`: one up to a factor of 4, else two.
pub(super) fn passes(input: Size, output: Size) -> usize {
    if output.width <= input.width * FACTOR && output.height <= input.height * FACTOR {
        1
    } else {
        2
    }
}

/// Input rows beside its own that a row of the result depends on.
fn halo(convolutions: usize, steps: usize, passes: usize) -> usize {
    let once = steps * convolutions + reference::REACH;
    let again = if passes == 2 {
        once.div_ceil(FACTOR)
    } else {
        0
    };
    once + again + RESIZE_HALO
}

/// Peak memory of a strip of `made` rows of the result and of what there is beside it, with `layers` of whole strips or
/// without; `alone` if all there is to do is one pass for one strip.
fn bytes(
    request: StripRequest<'_>,
    grids: &[Size],
    (layers, alone): (bool, bool),
    made: usize,
) -> u64 {
    let StripRequest {
        model,
        format,
        input,
        output,
        steps,
        threads,
    } = request;
    let planes = |size: Size| -> u64 {
        let samples: usize = (0..format.plane_count())
            .map(|i| format.plane_size(i, size).pixels())
            .sum();
        samples as u64 * if format.depth == 8 { 1 } else { 2 }
    };
    let colours = if format.planes == Planes::Rgb { 3 } else { 1 };
    // The luma planes that wait in a stream, and the frames they belong to.
    let window = model.config().frames as u64;
    let held = window * (planes(input) + FLOAT * input.pixels() as u64);
    let last = grids.last().map_or(0, |grid| grid.pixels()) as u64;
    let large = last * LATENT as u64 * FLOAT;
    // Between evaluations.
    let states = if steps > 1 { 2 * large } else { 0 };
    let crops = grids.iter().map(|grid| grid.pixels() as u64).sum::<u64>() * window * FLOAT;
    let set = |grid: &Size| model.buffer_bytes(*grid, layers, threads);
    // Passes, and strips of other heights, have sets of their own.
    let sets = if alone { 1 } else { KEPT_BUFFERS as u64 };
    let buffers = sets * grids.iter().map(set).max().unwrap_or(0);
    // What the first of two passes gives.
    let between_passes = grids[1..].first().map_or(0, |grid| grid.pixels()) as u64 * FLOAT;
    // The resizer goes along the rows first: large rows of the final width.
    let between =
        (output.width * grids.last().map_or(0, |grid| grid.height * FACTOR)) as u64 * FLOAT;
    let factor = FACTOR.pow(grids.len() as u32);
    let exact = output == Size::new(input.width * factor, input.height * factor);
    let resized = (colours + 1) * (output.width * made) as u64 * FLOAT;
    let finish = if exact && colours == 1 {
        0
    } else {
        large + between + resized
    };
    held + planes(output) + crops + buffers + states + between_passes.max(finish)
}
