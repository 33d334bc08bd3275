// SPDX-License-Identifier: MPL-2.0
//! One frame to any larger size: luma by the model, colours and alpha by a plain resize.

use std::ops::Range;
use std::sync::Arc;

use super::backend::{Cost, Flow, Sink};
use super::model::CompactModel;
use super::strips::{StripPlan, widened};
use crate::cpu::level::CpuLevel;
use crate::cpu::resize::{ResizeBuffers, SUPPORT, Span, resize};
use crate::cpu::s2d::Scale;
use crate::error::Result;
use crate::media::frame::{Frame, Planes, Samples};
use crate::media::luma::{LumaPlane, scale, units};
use crate::media::resize::resize_frame_plane;
use crate::progress::{CancelToken, Progress};
use crate::size::Size;

/// What is to be done with one frame.
#[derive(Clone, Copy, Debug)]
pub struct Enlarge<'a> {
    /// The model.
    pub model: &'a CompactModel,
    /// The frame.
    pub frame: &'a Frame,
    /// Luma of the frame and of its neighbours in order of time, as many as the model sees, by [`CompactModel::luma`].
    pub window: &'a [Arc<LumaPlane>],
    /// Size of the result.
    pub output: Size,
    /// The flow.
    pub flow: &'a Flow,
    /// Made for this model, format, size and number of evaluations.
    pub plan: &'a StripPlan,
}

/// Enlarges one frame. Above a factor of 6 the model runs twice; the second time it sees the frame alone.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled) within 100 ms of the token being triggered,
/// [`Error::Invalid`](crate::Error::Invalid) for a window that is none of the model's or of the plan's.
pub fn enlarge(request: &Enlarge<'_>, progress: &Progress) -> Result<(Frame, Cost)> {
    let model = request.model;
    let with = |buffers: &mut ResizeBuffers| {
        let cancel = progress.cancel_token();
        let canvas = Canvas::new(request, buffers, cancel);
        if request.frame.format().planes == Planes::Rgb {
            canvas.rgb(request)
        } else {
            canvas.luma(request)
        }
    };
    let new = || ResizeBuffers::new(model.level);
    model.resizing.lend(|_| true, new, with)
}

/// The result in the making: the model's luma (or R, G, B of it), then the rest.
struct Canvas<'a> {
    level: CpuLevel,
    frame: &'a Frame,
    output: Size,
    buffers: &'a mut ResizeBuffers,
    cancel: &'a CancelToken,
    scale: Scale,
    planes: Vec<Samples>,
}

impl<'a> Canvas<'a> {
    fn new(request: &Enlarge<'a>, buffers: &'a mut ResizeBuffers, cancel: &'a CancelToken) -> Self {
        Self {
            level: request.model.level,
            frame: request.frame,
            output: request.output,
            buffers,
            cancel,
            scale: scale(request.frame.format()),
            planes: Vec::new(),
        }
    }

    /// Planes of zeros.
    fn add_planes(&mut self, count: usize) {
        let (depth, pixels) = (self.frame.format().depth, self.output.pixels());
        let zeros = (0..count).map(|_| Samples::zeros(depth, pixels));
        self.planes.extend(zeros);
    }

    /// The frame whose luma is a plane.
    fn luma(mut self, request: &Enlarge<'_>) -> Result<(Frame, Cost)> {
        self.add_planes(1);
        let sink = Sink::Codes(self.scale, &mut self.planes[0]);
        let cost = request.flow(sink, self.cancel)?;
        Ok((self.finish()?, cost))
    }

    /// The frame of R, G, B.
    fn rgb(mut self, request: &Enlarge<'_>) -> Result<(Frame, Cost)> {
        self.add_planes(3);
        let cancel = self.cancel;
        let mut take = |rows: Range<usize>, luma: &[f32]| self.colour(rows, luma);
        let cost = request.flow(Sink::Rows(&mut take), cancel)?;
        Ok((self.finish()?, cost))
    }

    /// Writes some rows of R, G, B: those of the plain enlargement, moved along grey until they have the `luma` of the
    /// model.
    fn colour(&mut self, rows: Range<usize>, luma: &[f32]) -> Result<()> {
        let (input, size) = (self.frame.size(), Size::new(self.output.width, rows.len()));
        // Rows of the small picture for each row of the result, at most one.
        let ratio = input.height as f64 / self.output.height as f64;
        let (start, end) = (rows.start as f64 * ratio, rows.end as f64 * ratio);
        let around = SUPPORT as usize + 1;
        let small = widened(&(start as usize..end.ceil() as usize), around, input.height);
        let spans = (
            Span::whole(input.width),
            Span {
                start: start - small.start as f64,
                length: end - start,
            },
        );
        let mut colours = Vec::with_capacity(3);
        for index in 0..3 {
            let plane = units(self.frame, index, small.clone());
            let small = Size::new(input.width, small.len());
            let plane = resize(&plane, small, spans, size, self.buffers, self.cancel)?;
            colours.push(plane);
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
        let samples = rows.start * size.width..rows.end * size.width;
        let (scale, level) = (self.scale, self.level);
        for (plane, values) in self.planes.iter_mut().zip(&colours) {
            match plane {
                Samples::U8(out) => scale.encode(level, values, &mut out[samples.clone()]),
                Samples::U16(out) => scale.encode(level, values, &mut out[samples.clone()]),
            }
        }
        Ok(())
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

impl Enlarge<'_> {
    fn flow(&self, out: Sink<'_>, cancel: &CancelToken) -> Result<Cost> {
        let window: Vec<&LumaPlane> = self.window.iter().map(|luma| &**luma).collect();
        self.model
            .prepared
            .flow(self.plan, &window, self.flow, out, cancel)
    }
}
