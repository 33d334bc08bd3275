// SPDX-License-Identifier: MPL-2.0
//! The luma of one large picture, strip by strip: one or two passes of the network, then codes or a final resize.

use std::ops::Range;
use std::time::Instant;

use super::flow::Trajectory;
use super::model::CpuModel;
use crate::compact::backend::{Cost, Flow, Sink};
use crate::compact::cpu::buffers::Rows;
use crate::compact::cpu::chain::Input;
use crate::compact::cpu::state::{Noise, State};
use crate::compact::net::MARGIN;
use crate::compact::passes::Route;
use crate::compact::strips::{PassRows, Strip, StripPlan};
use crate::cpu::resize::{ResizeBuffers, Span, resize};
use crate::cpu::s2d::{Code, Columns, FACTOR, Scale, latent_to_codes, latent_to_plane};
use crate::error::{Error, Result};
use crate::media::frame::Samples;
use crate::media::luma::{LumaPlane, Margins, continued};
use crate::progress::CancelToken;
use crate::size::Size;

/// Computes a picture as [`Prepared::flow`](crate::compact::Prepared::flow) says.
pub(super) fn enlarge(
    model: &CpuModel,
    plan: &StripPlan,
    window: &[&LumaPlane],
    flow: &Flow,
    mut out: Sink<'_>,
    resizing: &mut ResizeBuffers,
    cancel: &CancelToken,
) -> Result<Cost> {
    let (frames, size) = (model.net().config.frames, plan.route.input);
    let fits = |luma: &&LumaPlane| luma.size() == size && luma.margin() == MARGIN;
    if window.len() != frames || !window.iter().all(fits) {
        let sizes: Vec<_> = window.iter().map(|luma| luma.size().to_string()).collect();
        return Err(Error::invalid(format!(
            "a window of luma of {sizes:?}; expected {frames} of {size} with a margin of {MARGIN}"
        )));
    }
    let mut work = Work {
        model,
        plan,
        flow,
        resizing,
        cancel,
        cost: Cost {
            evaluations: (flow.times.len() * plan.route.passes()) as u64,
            ..Cost::default()
        },
    };
    for strip in &plan.strips {
        work.strip(strip, window, &mut out)?;
    }
    Ok(work.cost)
}

/// The work on one picture.
struct Work<'a> {
    model: &'a CpuModel,
    plan: &'a StripPlan,
    flow: &'a Flow,
    resizing: &'a mut ResizeBuffers,
    cancel: &'a CancelToken,
    cost: Cost,
}

/// One pass over the rows of a strip.
struct Pass<'a> {
    /// Luma with the margins, of the picture in the middle and its neighbours in time.
    window: &'a [&'a [f32]],
    /// Size of the grid with the margins.
    framed: Size,
    /// Columns of the grid that are the picture.
    columns: Columns,
    /// Rows of the grid that are made.
    rows: Range<usize>,
    /// Number in the picture of the grid's first row; margins are above row 0.
    first_row: i64,
}

impl<'a> Pass<'a> {
    /// The pass over some rows of a grid of `size`.
    fn new(size: Size, rows: &PassRows, window: &'a [&'a [f32]]) -> Self {
        let PassRows { made, read } = rows;
        let margins = Margins::of(read, size.height, MARGIN);
        let framed = margins.around(Size::new(size.width, read.len()));
        let first_row = read.start as i64 - margins.top as i64;
        let inside = |row: usize| (row as i64 - first_row) as usize;
        Self {
            window,
            framed,
            columns: Columns {
                grid: framed.width,
                first: margins.sides,
                count: size.width,
            },
            rows: inside(made.start)..inside(made.end),
            first_row,
        }
    }

    /// Size of the picture that is made.
    fn large(&self) -> Size {
        Size::new(self.columns.count * FACTOR, self.rows.len() * FACTOR)
    }
}

impl Work<'_> {
    /// Makes the rows of `strip`.
    fn strip(&mut self, strip: &Strip, window: &[&LumaPlane], out: &mut Sink<'_>) -> Result<()> {
        let route = self.plan.route;
        let (Some(first), Some(last)) = (strip.passes.first(), strip.passes.last()) else {
            return Ok(());
        };
        let small: Vec<&[f32]> = window.iter().map(|luma| luma.strip(&first.read)).collect();
        let pass = Pass::new(route.input, first, &small);
        let Some(second) = route.second else {
            return self.finish(&pass, strip, last, out);
        };
        let between = self.reduced(&pass, &route, second, first, last)?;
        // It sees the picture alone: what the first pass made of the neighbours is not there.
        let alone = vec![&between[..]; window.len()];
        self.finish(&Pass::new(second, last, &alone), strip, last, out)
    }

    /// What the first pass makes, as the second reads it: reduced to its grid, with margins.
    fn reduced(
        &mut self,
        pass: &Pass<'_>,
        route: &Route,
        second: Size,
        first: &PassRows,
        last: &PassRows,
    ) -> Result<Vec<f32>> {
        let mut plane = self.plane(pass)?;
        let mut large = pass.large();
        let rows = Size::new(second.width, last.read.len());
        let mut skipped = last.read.start.saturating_sub(first.made.start * FACTOR);
        if let Some(spans) = route.spans(second, &last.read, first.made.start) {
            plane = resize(&plane, large, spans, rows, self.resizing, self.cancel)?;
            (large, skipped) = (rows, 0);
        }
        let margins = Margins::of(&last.read, second.height, MARGIN);
        Ok(continued(rows, margins, |row, out| {
            out.copy_from_slice(&plane[(skipped + row) * large.width..][..large.width]);
        }))
    }

    /// Makes rows of the result with the last pass.
    fn finish(
        &mut self,
        pass: &Pass<'_>,
        strip: &Strip,
        last: &PassRows,
        out: &mut Sink<'_>,
    ) -> Result<()> {
        let route = self.plan.route;
        let (large, width) = (pass.large(), route.output.width);
        let samples = strip.output.start * width..strip.output.end * width;
        match out {
            Sink::Codes(scale, Samples::U8(out)) if route.exact() => {
                self.exact_codes(pass, *scale, &mut out[samples])
            }
            Sink::Codes(scale, Samples::U16(out)) if route.exact() => {
                self.exact_codes(pass, *scale, &mut out[samples])
            }
            _ => {
                let mut luma = self.plane(pass)?;
                if route.exact() {
                    cut(&mut luma, large.width, Size::new(width, strip.output.len()));
                } else {
                    luma = self.resized(&luma, large, strip, last)?;
                }
                match out {
                    Sink::Codes(scale, Samples::U8(out)) => {
                        scale.encode(self.model.level(), &luma, &mut out[samples]);
                    }
                    Sink::Codes(scale, Samples::U16(out)) => {
                        scale.encode(self.model.level(), &luma, &mut out[samples]);
                    }
                    Sink::Rows(take) => take(strip.output.clone(), &luma)?,
                }
                Ok(())
            }
        }
    }

    /// The rows of the result from the large picture of the last pass.
    fn resized(
        &mut self,
        plane: &[f32],
        large: Size,
        strip: &Strip,
        last: &PassRows,
    ) -> Result<Vec<f32>> {
        let route = self.plan.route;
        // Rows of the large picture for each row of the result.
        let ratio = (route.last().height * FACTOR) as f64 / route.output.height as f64;
        let y = Span {
            start: strip.output.start as f64 * ratio - (last.made.start * FACTOR) as f64,
            length: strip.output.len() as f64 * ratio,
        };
        let spans = (Span::whole(large.width), y);
        let rows = Size::new(route.output.width, strip.output.len());
        resize(plane, large, spans, rows, self.resizing, self.cancel)
    }

    /// The large picture of a pass.
    fn plane(&mut self, pass: &Pass<'_>) -> Result<Vec<f32>> {
        let mut plane = vec![0.0; pass.large().pixels()];
        let put = |row: &[f32], out: &mut [f32]| latent_to_plane(row, pass.columns, out);
        self.flow(pass, &mut plane, put)?;
        Ok(plane)
    }

    /// The large picture of a pass as codes; columns and rows beyond `out` are cut off.
    fn exact_codes<S: Code>(&mut self, pass: &Pass<'_>, scale: Scale, out: &mut [S]) -> Result<()> {
        let (level, large, width) = (
            self.model.level(),
            pass.large(),
            self.plan.route.output.width,
        );
        let put = |row: &[f32], out: &mut [S]| {
            latent_to_codes(level, row, pass.columns, scale, out);
        };
        if out.len() == large.pixels() {
            return self.flow(pass, out, put);
        }
        let mut codes = vec![S::default(); large.pixels()];
        self.flow(pass, &mut codes, put)?;
        for (out, codes) in out
            .chunks_exact_mut(width)
            .zip(codes.chunks_exact(large.width))
        {
            out.copy_from_slice(&codes[..width]);
        }
        Ok(())
    }

    /// Follows the flow of a pass; `put` gets each row of the latent at its end and the part of `out` that it has there.
    fn flow<O: Send>(
        &mut self,
        pass: &Pass<'_>,
        out: &mut [O],
        put: impl Fn(&[f32], &mut [O]) + Sync,
    ) -> Result<()> {
        let start = Instant::now();
        let Flow { times, sigma, seed } = self.flow;
        let state = State::Reference {
            level: self.model.level(),
            luma: pass.window[pass.window.len() / 2],
            size: pass.framed,
            noise: Noise {
                sigma: *sigma,
                seed: *seed,
                first_row: pass.first_row,
            },
        };
        let trajectory = Trajectory {
            model: self.model,
            start: Input {
                size: pass.framed,
                state,
                frames: pass.window,
            },
            times,
            sigma: *sigma,
            planes: self.plan.planes,
        };
        let rows = pass.rows.clone();
        let result = trajectory.follow(Rows { rows, out, put }, self.cancel);
        self.cost.evaluating += start.elapsed();
        result
    }
}

/// Cuts a plane of so many columns down to its first ones and first rows.
fn cut(plane: &mut Vec<f32>, columns: usize, size: Size) {
    if columns > size.width {
        for row in 1..size.height {
            let from = row * columns;
            plane.copy_within(from..from + size.width, row * size.width);
        }
    }
    plane.truncate(size.pixels());
}
