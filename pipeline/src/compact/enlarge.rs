//! One frame to any larger size: strips, one or two passes of the model, the final resize, chroma and alpha.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};

use super::luma::{LumaPlane, Margins, scale, units};
use super::strips::{Strip, StripPlan};
use super::{CompactModel, Condition, add_noise, values};
use crate::clip::{Frame, Planes, Samples, Size};
use crate::error::Result;
use crate::kernels::cpu::CpuLevel;
use crate::kernels::resize::{Span, resize, resize_frame_plane};
use crate::kernels::s2d::{Columns, FACTOR, LATENT, Scale, latent_to_codes, latent_to_plane};
use crate::progress::{CancelToken, Progress};
use crate::solver::{FlowTime, euler};

/// Pixels by which the small picture is continued beyond its edges for the network, and cut off again.
///
/// The zeros that a convolution sees outside of a picture stand for mid-grey: on flat colours they pull the outermost
/// pixels by up to three codes. Three copies of the edge keep that below half a code and cost 3 % at 480x270.
pub(super) const MARGIN: usize = 3;

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
    /// Time spent in them.
    pub evaluating: Duration,
}

/// Enlarges one frame. Above a factor of 4 the model runs twice; the second time it sees the frame alone.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) within 100 ms of the token being triggered, or a failed tensor operation.
pub fn enlarge(request: &Enlarge<'_>, progress: &Progress) -> Result<(Frame, Work)> {
    let plan = request.plan;
    let mut canvas = Canvas::new(request.frame, request.output, progress.cancel_token());
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
            let latent = flow(
                request,
                window,
                first_row as i64 - margins.top as i64,
                plan.band_rows[pass],
                &mut work,
                progress,
            )?;
            let part = Part {
                columns: Columns {
                    grid: framed.width,
                    first: margins.sides,
                    count: framed.width - 2 * margins.sides,
                },
                rows: margins.top..framed.height - margins.bottom,
            };
            if pass + 1 == plan.passes {
                values(&latent, |latent| canvas.put(latent, &part, strip))?;
                break;
            }
            let large = large_plane(&latent, &part)?;
            let large = frame(&large, 0..large.size.height);
            window = vec![large; request.model.config().frames];
            first_row *= FACTOR;
        }
    }
    Ok((canvas.finish()?, work))
}

/// The part of a latent's grid that is the picture.
struct Part {
    columns: Columns,
    rows: Range<usize>,
}

impl Part {
    /// The rows of the picture in `latent` `[h, w, 16]`, with all columns.
    fn rows<'a>(&self, latent: &'a [f32]) -> &'a [f32] {
        let row = self.columns.grid * LATENT;
        &latent[self.rows.start * row..self.rows.end * row]
    }

    /// Size of the large picture.
    fn large(&self) -> Size {
        Size::new(self.columns.count * FACTOR, self.rows.len() * FACTOR)
    }
}

/// The enhanced latent `[1, h, w, 16]` of the middle of `window`, whose first row is row `first_row` of its picture.
fn flow(
    request: &Enlarge<'_>,
    window: Vec<Arc<LumaPlane>>,
    first_row: i64,
    band_rows: usize,
    work: &mut Work,
    progress: &Progress,
) -> Result<Tensor> {
    let model = request.model;
    let luma = &window[window.len() / 2];
    let Size { width, height } = luma.size;
    let mut latent = model.reference(luma);
    if request.sigma > 0.0 {
        add_noise(
            &mut latent,
            width,
            first_row,
            request.sigma as f32,
            request.seed,
        );
    }
    let x = Tensor::from_vec(latent, (1, height, width, LATENT), &Device::Cpu)?;
    let condition = Condition {
        windows: vec![window],
        sigma: request.sigma,
        band_rows,
    };
    let start = Instant::now();
    let x = euler(model, x, request.grid, &condition, progress, |_, x| Ok(x));
    work.evaluating += start.elapsed();
    x
}

fn large_plane(latent: &Tensor, part: &Part) -> Result<LumaPlane> {
    let size = part.large();
    let mut data = vec![0.0; size.pixels()];
    values(latent, |latent| {
        latent_to_plane(part.rows(latent), part.columns, &mut data);
        Ok(())
    })?;
    Ok(LumaPlane { size, data })
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
    let mut canvas = Canvas::new(frame, target, cancel);
    values(latent, |latent| canvas.put(latent, &part, &strip))?;
    canvas.finish()
}

/// The result in the making: luma (or R, G, B) strip by strip, then the rest.
struct Canvas<'a> {
    frame: &'a Frame,
    output: Size,
    cancel: &'a CancelToken,
    scale: Scale,
    planes: Vec<Samples>,
}

impl<'a> Canvas<'a> {
    fn new(frame: &'a Frame, output: Size, cancel: &'a CancelToken) -> Self {
        let format = frame.format();
        let colours = if format.planes == Planes::Rgb { 3 } else { 1 };
        Self {
            frame,
            output,
            cancel,
            scale: scale(format),
            planes: (0..colours)
                .map(|_| Samples::zeros(format.depth, output.pixels()))
                .collect(),
        }
    }

    /// Writes the rows of `strip` from the latent of its input rows, which is `part` of a grid.
    fn put(&mut self, latent: &[f32], part: &Part, strip: &Strip) -> Result<()> {
        let input = self.frame.size();
        let (large, columns) = (part.large(), part.columns);
        let latent = part.rows(latent);
        let factor = large.width / input.width;
        let rows = Size::new(self.output.width, strip.output.len());
        let exact = self.output == Size::new(large.width, input.height * factor);
        if exact && self.planes.len() == 1 {
            // Rows of the latent: a row of the grid is FACTOR rows of the picture.
            let first = (strip.output.start - strip.input.start * factor) / FACTOR;
            let row = columns.grid * LATENT;
            let part = &latent[first * row..][..rows.height / FACTOR * row];
            let (start, scale) = (strip.output.start * rows.width, self.scale);
            let level = CpuLevel::detected();
            match &mut self.planes[0] {
                Samples::U8(out) => latent_to_codes(
                    level,
                    part,
                    columns,
                    scale,
                    &mut out[start..][..rows.pixels()],
                ),
                Samples::U16(out) => latent_to_codes(
                    level,
                    part,
                    columns,
                    scale,
                    &mut out[start..][..rows.pixels()],
                ),
            }
            return Ok(());
        }
        let mut plane = vec![0.0; large.pixels()];
        latent_to_plane(latent, columns, &mut plane);
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
    fn resized(&self, plane: &[f32], size: Size, strip: &Strip, rows: Size) -> Result<Vec<f32>> {
        let factor = size.height as f64 / strip.input.len() as f64;
        // Rows of this plane for each row of the result.
        let ratio = self.frame.size().height as f64 * factor / self.output.height as f64;
        let y = Span {
            start: strip.output.start as f64 * ratio - strip.input.start as f64 * factor,
            length: rows.height as f64 * ratio,
        };
        resize(plane, size, (Span::whole(size.width), y), rows, self.cancel)
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
            let plane = resize_frame_plane(self.frame, index, self.output, self.cancel)?;
            self.planes.push(plane);
        }
        Frame::new(format, self.output, self.planes)
    }
}
