//! One frame to any larger size: strips, one or two passes of the model, the final resize, chroma and alpha.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Tensor;
use rayon::prelude::*;

use super::buffers::{Rows, copied};
use super::chain::{Input, Step};
use super::luma::{LumaPlane, Margins, scale, units};
use super::state::{Noise, State};
use super::strips::{Strip, StripPlan};
use super::{CompactModel, values};
use crate::clip::{Frame, Planes, Samples, Size};
use crate::error::{Error, Result};
use crate::kernels::cpu::CpuLevel;
use crate::kernels::resize::{ResizeBuffers, Span, resize, resize_frame_plane};
use crate::kernels::s2d::{Code, Columns, FACTOR, LATENT, Scale, latent_to_codes, latent_to_plane};
use crate::progress::{CancelToken, Progress};
use crate::solver::FlowTime;

/// Pixels by which the small picture is continued beyond its edges for the network, and cut off again.
///
/// The zeros that a convolution sees outside of a picture stand for mid-grey: on flat colours they pull the outermost
/// pixels by a code. One copy of the edge halves that. More would cost more than time: the networks learnt what a picture does beyond its
/// edge, and do it worse where copies tell them that it stops (eight: 0.1 dB less for a whole clip).
pub(super) const MARGIN: usize = 1;

/// What is to be done with one frame.
#[derive(Clone, Copy, Debug)]
pub struct Enlarge<'a> {
    /// The model.
    pub model: &'a CompactModel,
    /// The frame.
    pub frame: &'a Frame,
    /// Luma of the frame and of its neighbours in order of time, as many as the model sees.
    pub window: &'a [Arc<LumaPlane>],
    /// Size of the result.
    pub output: Size,
    /// Times of the function evaluations.
    pub grid: &'a [FlowTime],
    /// Strength of the noise in model units.
    pub sigma: f64,
    /// Chooses the noise.
    pub seed: u64,
    /// Made for this model, format, size and number of evaluations.
    pub plan: &'a StripPlan,
}

/// What a frame cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Function evaluations of the whole picture.
    pub evaluations: u64,
    /// Time spent in them, from the luma of the frames to the codes of the result.
    pub evaluating: Duration,
}

/// Enlarges one frame. Above a factor of 4 the model runs twice; the second time it sees the frame alone.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) within 100 ms of the token being triggered, or a failed tensor operation.
pub fn enlarge(request: &Enlarge<'_>, progress: &Progress) -> Result<(Frame, Work)> {
    let with = |buffers: &mut ResizeBuffers| {
        let cancel = progress.cancel_token();
        let canvas = Canvas::new(request.frame, request.output, buffers, cancel);
        fill(canvas, request, progress)
    };
    request
        .model
        .resizing
        .lend(|_| true, Default::default, with)
}

/// Fills the canvas of a request.
fn fill(
    mut canvas: Canvas<'_>,
    request: &Enlarge<'_>,
    progress: &Progress,
) -> Result<(Frame, Work)> {
    let plan = request.plan;
    let mut work = Work {
        evaluations: (request.grid.len() * plan.passes) as u64,
        evaluating: Duration::ZERO,
    };
    let rows = request.frame.size().height;
    for strip in &plan.strips {
        // Where a strip ends inside of the picture it has rows to spare instead.
        let margins = Margins {
            top: if strip.input.start == 0 { MARGIN } else { 0 },
            bottom: if strip.input.end == rows { MARGIN } else { 0 },
            sides: MARGIN,
        };
        let frame = |luma: &LumaPlane, rows| Arc::new(luma.framed(rows, margins));
        let crop = |luma: &Arc<LumaPlane>| frame(luma, strip.input.clone());
        let mut window: Vec<Arc<LumaPlane>> = request.window.iter().map(crop).collect();
        let mut first_row = strip.input.start;
        for pass in 0..plan.passes {
            let framed = window[0].size;
            let part = Part {
                columns: Columns {
                    grid: framed.width,
                    first: margins.sides,
                    count: framed.width - 2 * margins.sides,
                },
                rows: margins.top..framed.height - margins.bottom,
            };
            let mut flow = Flow {
                request,
                window: &window,
                first_row: first_row as i64 - margins.top as i64,
                work: &mut work,
                progress,
            };
            if pass + 1 == plan.passes {
                canvas.put(&mut flow, &part, strip)?;
                break;
            }
            let large = LumaPlane {
                size: part.large(),
                data: part.plane(&mut flow)?,
            };
            let large = frame(&large, 0..large.size.height);
            window = vec![large; request.model.config().frames];
            first_row *= FACTOR;
        }
    }
    Ok((canvas.finish()?, work))
}

/// Something that a latent `[h, w, 16]` can be had from, row by row.
trait Latent {
    /// As [`Rows`] says.
    fn write<O: Send>(&mut self, rows: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>)
    -> Result<()>;
}

/// A latent in memory and the number of values in one of its rows.
struct Values<'a>(&'a [f32], usize);

impl Latent for Values<'_> {
    fn write<O: Send>(
        &mut self,
        rows: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>,
    ) -> Result<()> {
        let part = rows.out.len() / rows.rows.len().max(1);
        let values = self.0[rows.rows.start * self.1..].par_chunks_exact(self.1);
        let out = rows.out.par_chunks_exact_mut(part.max(1));
        out.zip(values)
            .for_each(|(out, values)| (rows.put)(values, out));
        Ok(())
    }
}

/// The enhanced latent of the middle of `window`, whose first row is row `first_row` of its picture.
struct Flow<'a> {
    request: &'a Enlarge<'a>,
    window: &'a [Arc<LumaPlane>],
    first_row: i64,
    work: &'a mut Work,
    progress: &'a Progress,
}

/// The Euler steps of [`euler`](crate::solver::euler). The latents at their start and at their end never are in memory.
impl Latent for Flow<'_> {
    fn write<O: Send>(
        &mut self,
        last: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>,
    ) -> Result<()> {
        let start = Instant::now();
        let Enlarge {
            model,
            grid,
            sigma,
            seed,
            plan,
            ..
        } = *self.request;
        let Some((end, grid)) = grid.split_last() else {
            return Err(Error::invalid("a flow without steps"));
        };
        let luma = &*self.window[self.window.len() / 2];
        let frames: Vec<&[f32]> = self.window.iter().map(|luma| &luma.data[..]).collect();
        let reference = State::Reference {
            level: model.level(),
            luma,
            noise: Noise {
                sigma,
                seed,
                first_row: self.first_row,
            },
        };
        let (length, cancel) = (luma.size.pixels() * LATENT, self.progress.cancel_token());
        let first = Input {
            size: luma.size,
            state: reference,
            frames: &frames,
        };
        let step = |at: &FlowTime| Step {
            keep: true,
            scale: at.dt as f32,
        };
        let fit = |states: &[Vec<f32>; 2]| states[0].len() == length;
        let result = model.states.lend(fit, Default::default, |[from, to]| {
            for (index, at) in grid.iter().enumerate() {
                to.resize(length, 0.0);
                let rows = copied(to, luma.size.height);
                let input = match index {
                    0 => first,
                    _ => first.with(State::Latent(from)),
                };
                model.run((at.t, sigma), input, step(at), plan.planes, rows, cancel)?;
                std::mem::swap(from, to);
            }
            let input = match grid.len() {
                0 => first,
                _ => first.with(State::Latent(from)),
            };
            model.run((end.t, sigma), input, step(end), plan.planes, last, cancel)
        });
        self.work.evaluating += start.elapsed();
        result
    }
}

/// The part of a latent's grid that is the picture.
struct Part {
    columns: Columns,
    rows: Range<usize>,
}

impl Part {
    /// Size of the large picture.
    fn large(&self) -> Size {
        Size::new(self.columns.count * FACTOR, self.rows.len() * FACTOR)
    }

    /// The large picture.
    fn plane(&self, latent: &mut impl Latent) -> Result<Vec<f32>> {
        let mut plane = vec![0.0; self.large().pixels()];
        latent.write(Rows {
            rows: self.rows.clone(),
            out: &mut plane,
            put: |row: &[f32], out: &mut [f32]| latent_to_plane(row, self.columns, out),
        })?;
        Ok(plane)
    }

    /// The codes of some rows of the grid's picture.
    fn codes<S: Code>(
        &self,
        latent: &mut impl Latent,
        rows: Range<usize>,
        scale: Scale,
        out: &mut [S],
    ) -> Result<()> {
        latent.write(Rows {
            rows: self.rows.start + rows.start..self.rows.start + rows.end,
            out,
            put: |row: &[f32], out: &mut [S]| {
                latent_to_codes(CpuLevel::detected(), row, self.columns, scale, out);
            },
        })
    }
}

/// The frame of size `target`, four times that of `frame`, with the luma of `latent` `[h, w, 16]`.
pub(super) fn finish(
    latent: &Tensor,
    frame: &Frame,
    target: Size,
    cancel: &CancelToken,
) -> Result<Frame> {
    let strip = Strip {
        output: 0..target.height,
        input: 0..frame.size().height,
    };
    let part = Part {
        columns: frame.size().width.into(),
        rows: 0..frame.size().height,
    };
    let mut buffers = ResizeBuffers::default();
    let mut canvas = Canvas::new(frame, target, &mut buffers, cancel);
    let row = frame.size().width * LATENT;
    values(latent, |latent| {
        canvas.put(&mut Values(latent, row), &part, &strip)
    })?;
    canvas.finish()
}

/// The result in the making: luma (or R, G, B) strip by strip, then the rest.
struct Canvas<'a> {
    frame: &'a Frame,
    output: Size,
    buffers: &'a mut ResizeBuffers,
    cancel: &'a CancelToken,
    scale: Scale,
    planes: Vec<Samples>,
}

impl<'a> Canvas<'a> {
    fn new(
        frame: &'a Frame,
        output: Size,
        buffers: &'a mut ResizeBuffers,
        cancel: &'a CancelToken,
    ) -> Self {
        let format = frame.format();
        let colours = if format.planes == Planes::Rgb { 3 } else { 1 };
        Self {
            frame,
            output,
            buffers,
            cancel,
            scale: scale(format),
            planes: (0..colours)
                .map(|_| Samples::zeros(format.depth, output.pixels()))
                .collect(),
        }
    }

    /// Writes the rows of `strip` from the latent of its input rows, which is `part` of a grid.
    fn put(&mut self, latent: &mut impl Latent, part: &Part, strip: &Strip) -> Result<()> {
        let input = self.frame.size();
        let large = part.large();
        let factor = large.width / input.width;
        let rows = Size::new(self.output.width, strip.output.len());
        let exact = self.output == Size::new(large.width, input.height * factor);
        if exact && self.planes.len() == 1 {
            // Rows of the latent: a row of the grid is FACTOR rows of the picture.
            let first = (strip.output.start - strip.input.start * factor) / FACTOR;
            let grid = first..first + rows.height / FACTOR;
            let samples = strip.output.start * rows.width..strip.output.end * rows.width;
            let scale = self.scale;
            return match &mut self.planes[0] {
                Samples::U8(out) => part.codes(latent, grid, scale, &mut out[samples]),
                Samples::U16(out) => part.codes(latent, grid, scale, &mut out[samples]),
            };
        }
        let plane = part.plane(latent)?;
        let luma = self.resized(&plane, large, strip, rows)?;
        drop(plane);
        if self.planes.len() == 1 {
            self.encode(0, &luma, strip);
            return Ok(());
        }
        // The colour of the plain enlargement, moved along grey until it has the luma of the model.
        let small = Size::new(input.width, strip.input.len());
        let mut colours = Vec::with_capacity(3);
        for index in 0..3 {
            let plane = units(self.frame, index, strip.input.clone());
            colours.push(self.resized(&plane, small, strip, rows)?);
        }
        let (red, blue) = self.frame.format().matrix;
        let weights = [red as f32, (1.0 - red - blue) as f32, blue as f32];
        for (pixel, luma) in luma.iter().enumerate() {
            let plain: f32 = colours
                .iter()
                .zip(weights)
                .map(|(plane, weight)| plane[pixel] * weight)
                .sum();
            for plane in &mut colours {
                plane[pixel] += luma - plain;
            }
        }
        for (index, plane) in colours.iter().enumerate() {
            self.encode(index, plane, strip);
        }
        Ok(())
    }

    /// The rows of the result from a plane over the input rows of `strip`.
    fn resized(
        &mut self,
        plane: &[f32],
        size: Size,
        strip: &Strip,
        rows: Size,
    ) -> Result<Vec<f32>> {
        let factor = size.height as f64 / strip.input.len() as f64;
        // Rows of this plane for each row of the result.
        let ratio = self.frame.size().height as f64 * factor / self.output.height as f64;
        let y = Span {
            start: strip.output.start as f64 * ratio - strip.input.start as f64 * factor,
            length: rows.height as f64 * ratio,
        };
        let spans = (Span::whole(size.width), y);
        resize(plane, size, spans, rows, self.buffers, self.cancel)
    }

    fn encode(&mut self, index: usize, values: &[f32], strip: &Strip) {
        let start = strip.output.start * self.output.width;
        match &mut self.planes[index] {
            Samples::U8(out) => self.scale.encode(values, &mut out[start..][..values.len()]),
            Samples::U16(out) => self.scale.encode(values, &mut out[start..][..values.len()]),
        }
    }

    /// Adds chroma and alpha.
    fn finish(mut self) -> Result<Frame> {
        let format = *self.frame.format();
        for index in self.planes.len()..format.plane_count() {
            let (frame, output) = (self.frame, self.output);
            let plane = resize_frame_plane(frame, index, output, self.buffers, self.cancel)?;
            self.planes.push(plane);
        }
        Frame::new(format, self.output, self.planes)
    }
}
