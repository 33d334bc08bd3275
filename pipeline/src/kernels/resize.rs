//! Antialiased Lanczos resize of one plane, with the sub-pixel shift that chroma siting needs.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use rayon::prelude::*;

use super::cpu::CpuLevel;
use super::s2d::{Code, Codes};
use super::vector::run;
use crate::clip::{Frame, Planes, Samples, Siting, Size};
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// Samples of the result between two looks at the cancel token: about 20 ms of work.
const PART: usize = 1 << 22;

/// Rows of the result that one task makes: many more than the filter reaches, so that little is computed twice, and as
/// many on any number of threads, so that the result is the same.
const STRIP: usize = 64;

/// Samples that one task turns into codes.
const CODES: usize = 1 << 14;

/// The part of one axis of a plane that becomes the whole axis of the result, in samples from the outer edge of the
/// first sample. It may reach beyond the plane, whose edge samples are then repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// First position.
    pub start: f64,
    /// Length.
    pub length: f64,
}

impl Span {
    /// All of an axis of `length` samples.
    pub fn whole(length: usize) -> Self {
        Self {
            start: 0.0,
            length: length as f64,
        }
    }

    /// The span of an axis of a chroma plane, when luma goes from `input` to `output` samples.
    ///
    /// `sub` is the log2 of the chroma reduction. Luma edges are kept on luma edges; a chroma sample lies at
    /// `group * i + offset` on the luma axis of its own picture, in the small one as in the large one.
    pub fn chroma(input: usize, output: usize, sub: u8, siting: Siting) -> Self {
        let group = f64::from(1u32 << sub);
        let offset = match siting {
            Siting::Cosited => 0.5,
            Siting::Centre => group / 2.0,
        };
        let ratio = input as f64 / output as f64;
        Self {
            start: (1.0 - ratio) * (0.5 - offset / group),
            length: ratio * output.div_ceil(1 << sub) as f64,
        }
    }

    /// Samples missing before and after a plane of `length` samples.
    fn missing(&self, length: usize) -> (usize, usize) {
        const TOUCH: f64 = 1e-6;
        let before = (-self.start - TOUCH).max(0.0).ceil();
        let after = (self.start + self.length - length as f64 - TOUCH)
            .max(0.0)
            .ceil();
        (before as usize, after as usize)
    }
}

/// Buffers for resizing, kept from one plane to the next.
#[derive(Debug, Default)]
pub struct ResizeBuffers {
    part: Vec<f32>,
}

/// Resizes `plane` of `size`, the part `x` by `y` of it, to `target`.
///
/// # Errors
/// [`Error::Invalid`] when sizes are empty or beyond what the resizer takes, [`Error::Cancelled`].
pub fn resize(
    plane: &[f32],
    size: Size,
    spans: (Span, Span),
    target: Size,
    buffers: &mut ResizeBuffers,
    cancel: &CancelToken,
) -> Result<Vec<f32>> {
    let mut out = vec![0.0; target.pixels()];
    parts(
        plane,
        size,
        spans,
        target,
        buffers,
        cancel,
        |first, part| {
            out[first..][..part.len()].copy_from_slice(part);
        },
    )?;
    Ok(out)
}

/// Resizes a plane of sample codes, clamped to `max`, through floats.
fn resize_codes<S: Code>(
    plane: &[S],
    size: Size,
    spans: (Span, Span),
    target: Size,
    max: u16,
    buffers: &mut ResizeBuffers,
    cancel: &CancelToken,
) -> Result<Vec<S>> {
    let plane: Vec<f32> = plane.par_iter().map(|code| code.to_f32()).collect();
    let mut out = vec![S::default(); target.pixels()];
    parts(
        &plane,
        size,
        spans,
        target,
        buffers,
        cancel,
        |first, part| {
            out[first..][..part.len()]
                .par_chunks_mut(CODES)
                .zip(part.par_chunks(CODES))
                .for_each(|(out, values)| {
                    let work = Codes {
                        values,
                        gain: 1.0,
                        offset: 0.0,
                        max: f32::from(max),
                        out,
                    };
                    run(CpuLevel::detected(), work);
                });
        },
    )?;
    Ok(out)
}

/// Resizes some rows of the result at a time, so that cancelling is quick, and gives `take` the index of the first
/// sample and the samples of each part.
fn parts(
    plane: &[f32],
    size: Size,
    (mut x, mut y): (Span, Span),
    target: Size,
    buffers: &mut ResizeBuffers,
    cancel: &CancelToken,
    mut take: impl FnMut(usize, &[f32]),
) -> Result<()> {
    if plane.len() != size.pixels() || size.pixels() == 0 || target.pixels() == 0 {
        let samples = plane.len();
        return Err(Error::invalid(format!(
            "cannot resize {samples} samples of {size} to {target}"
        )));
    }
    let (left, right) = x.missing(size.width);
    let (top, bottom) = y.missing(size.height);
    let padded = Size::new(size.width + left + right, size.height + top + bottom);
    x.start += left as f64;
    y.start += top as f64;
    let enlarged = (padded != size).then(|| pad(plane, size, left, top, padded));
    let plane = enlarged.as_deref().unwrap_or(plane);

    let rows = (PART / target.width).clamp(1, target.height);
    let step = y.length / target.height as f64;
    let ResizeBuffers { part: out } = buffers;
    out.resize(rows * target.width, 0.0);
    for first in (0..target.height).step_by(rows) {
        cancel.check()?;
        let out = &mut out[..rows.min(target.height - first) * target.width];
        out.par_chunks_mut(STRIP * target.width)
            .enumerate()
            .try_for_each_init(Resizer::new, |resizer, (index, out)| {
                let strip = Size::new(target.width, out.len() / target.width);
                let y = Span {
                    start: y.start + step * (first + index * STRIP) as f64,
                    length: step * strip.height as f64,
                };
                lanczos(resizer, plane, padded, (x, y), out, strip)
            })?;
        take(first * target.width, out);
    }
    Ok(())
}

fn lanczos(
    resizer: &mut Resizer,
    plane: &[f32],
    size: Size,
    (x, y): (Span, Span),
    out: &mut [f32],
    target: Size,
) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::invalid(format!("cannot resize {size} to {target}: {e}"))
    };
    let side = |value: usize| u32::try_from(value).map_err(|e| failed(&e));
    // SAFETY: any bytes of floats may be read.
    let (_, source, _) = unsafe { plane.align_to::<u8>() };
    // SAFETY: as above, and any bytes make valid floats.
    let (_, sink, _) = unsafe { out.align_to_mut::<u8>() };
    let source = TypedImageRef::<F32>::from_buffer(side(size.width)?, side(size.height)?, source);
    let sink = TypedImage::<F32>::from_buffer(side(target.width)?, side(target.height)?, sink);
    let (source, mut sink) = (
        source.map_err(|e| failed(&e))?,
        sink.map_err(|e| failed(&e))?,
    );
    // Rounding must not carry the span over the edge of the plane.
    let inside = |span: Span, length: usize| {
        let start = span.start.clamp(0.0, length as f64);
        (start, span.length.min(length as f64 - start))
    };
    let ((left, width), (top, height)) = (inside(x, size.width), inside(y, size.height));
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
        .crop(left, top, width, height);
    // The typed call, for one type: the untyped one would compile a resizer for each pixel type there is.
    resizer
        .resize_typed(&source, &mut sink, &options)
        .map_err(|e| failed(&e))
}

/// Plane `index` of `frame` for a frame of size `target`, with its chroma siting.
///
/// # Errors
/// As [`resize`].
pub fn resize_frame_plane(
    frame: &Frame,
    index: usize,
    target: Size,
    buffers: &mut ResizeBuffers,
    cancel: &CancelToken,
) -> Result<Samples> {
    let (format, size) = (frame.format(), frame.size());
    let spans = match format.planes {
        Planes::Yuv { sub_x, sub_y } if index == 1 || index == 2 => (
            Span::chroma(size.width, target.width, sub_x, format.siting.0),
            Span::chroma(size.height, target.height, sub_y, format.siting.1),
        ),
        _ => (Span::whole(size.width), Span::whole(size.height)),
    };
    let (from, to) = (
        format.plane_size(index, size),
        format.plane_size(index, target),
    );
    if size == target {
        return Ok(frame.planes()[index].as_ref().clone());
    }
    let max = format.max_value();
    Ok(match frame.planes()[index].as_ref() {
        Samples::U8(plane) => {
            Samples::U8(resize_codes(plane, from, spans, to, max, buffers, cancel)?)
        }
        Samples::U16(plane) => {
            Samples::U16(resize_codes(plane, from, spans, to, max, buffers, cancel)?)
        }
    })
}

/// `plane` inside a larger one of size `padded`, at `left`, `top`, with its edges repeated.
fn pad(plane: &[f32], size: Size, left: usize, top: usize, padded: Size) -> Vec<f32> {
    let mut out = Vec::with_capacity(padded.pixels());
    for y in 0..padded.height {
        let row = &plane[y.saturating_sub(top).min(size.height - 1) * size.width..][..size.width];
        out.extend(std::iter::repeat_n(row[0], left));
        out.extend_from_slice(row);
        out.extend(std::iter::repeat_n(
            row[size.width - 1],
            padded.width - size.width - left,
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_stays_flat_with_any_siting() {
        for (width, height, out) in [(1, 1, 9), (3, 2, 4), (5, 7, 3), (4, 4, 64)] {
            let size = Size::new(width, height);
            for siting in [Siting::Cosited, Siting::Centre] {
                let x = Span::chroma(width * 2, out * 2, 1, siting);
                let y = Span::chroma(height * 2, out * 2, 1, siting);
                let flat = vec![77u8; size.pixels()];
                let target = Size::new(out, out);
                let got = resize_codes(
                    &flat,
                    size,
                    (x, y),
                    target,
                    255,
                    &mut ResizeBuffers::default(),
                    &CancelToken::new(),
                )
                .unwrap();
                assert!(got.iter().all(|v| *v == 77), "{size} {siting:?}");
            }
        }
    }

    /// A ramp over the luma axis, sampled where chroma lies, must be the same ramp in the large picture.
    #[test]
    fn siting_keeps_chroma_on_its_luma() {
        let (input, output) = (64usize, 256usize);
        for siting in [Siting::Cosited, Siting::Centre] {
            let offset = if siting == Siting::Cosited { 0.5 } else { 1.0 };
            let ramp = |i: usize, of: usize| (2 * i) as f32 / of as f32 + offset / of as f32;
            let plane: Vec<f32> = (0..input / 2).map(|i| ramp(i, input)).collect();
            let spans = (Span::chroma(input, output, 1, siting), Span::whole(1));
            let target = Size::new(output / 2, 1);
            let got = resize(
                &plane,
                Size::new(input / 2, 1),
                spans,
                target,
                &mut ResizeBuffers::default(),
                &CancelToken::new(),
            )
            .unwrap();
            for (i, value) in got.iter().enumerate().take(output / 2 - 16).skip(16) {
                let want = ramp(i, output);
                assert!(
                    (value - want).abs() < 1e-3,
                    "{siting:?} {i}: {value} {want}"
                );
            }
        }
    }

    #[test]
    fn ten_bit_overshoot_is_clamped() {
        let plane: Vec<u16> = (0..16).map(|i| if i < 8 { 0 } else { 1023 }).collect();
        let spans = (Span::whole(16), Span::whole(1));
        let target = Size::new(64, 1);
        let got = resize_codes(
            &plane,
            Size::new(16, 1),
            spans,
            target,
            1023,
            &mut ResizeBuffers::default(),
            &CancelToken::new(),
        )
        .unwrap();
        assert_eq!(got.iter().max(), Some(&1023));
    }

    #[test]
    fn same_span_and_size_copies() {
        let plane: Vec<f32> = (0..35).map(|v| v as f32).collect();
        let size = Size::new(7, 5);
        let spans = (Span::whole(7), Span::whole(5));
        assert_eq!(
            resize(
                &plane,
                size,
                spans,
                size,
                &mut ResizeBuffers::default(),
                &CancelToken::new()
            )
            .unwrap(),
            plane
        );
    }

    #[test]
    fn parts_join_without_a_seam() {
        // More samples than one part has.
        let size = Size::new(64, 8);
        let target = Size::new(PART / 64, 96);
        let plane: Vec<f32> = (0..size.height)
            .flat_map(|y| vec![y as f32; size.width])
            .collect();
        let spans = (Span::whole(size.width), Span::whole(size.height));
        let got = resize(
            &plane,
            size,
            spans,
            target,
            &mut ResizeBuffers::default(),
            &CancelToken::new(),
        )
        .unwrap();
        let column: Vec<f32> = got.chunks(target.width).map(|row| row[100]).collect();
        for (y, pair) in column.windows(2).enumerate().take(84).skip(12) {
            let step = pair[1] - pair[0];
            assert!(
                (step - 8.0 / 96.0).abs() < 0.05,
                "step {step} after row {y}"
            );
        }
    }

    #[test]
    fn strips_are_the_whole() {
        let size = Size::new(40, 50);
        let plane: Vec<f32> = (0..size.pixels()).map(|i| (i * 37 % 101) as f32).collect();
        let spans = (Span::whole(size.width), Span::whole(size.height));
        for height in [33, 3 * STRIP - 1, 5 * STRIP + 7] {
            let target = Size::new(60, height);
            let mut whole = vec![0.0; target.pixels()];
            let resizer = &mut Resizer::new();
            lanczos(resizer, &plane, size, spans, &mut whole, target).unwrap();
            let buffers = &mut ResizeBuffers::default();
            let got = resize(&plane, size, spans, target, buffers, &CancelToken::new()).unwrap();
            for (index, (got, want)) in got.iter().zip(&whole).enumerate() {
                assert!((got - want).abs() < 1e-3, "{height} {index}: {got} {want}");
            }
        }
    }

    #[test]
    fn a_triggered_token_stops_it() {
        let cancel = CancelToken::new();
        cancel.cancel();
        let spans = (Span::whole(1), Span::whole(1));
        let size = Size::new(1, 1);
        assert!(
            resize(
                &[0.0],
                size,
                spans,
                size,
                &mut ResizeBuffers::default(),
                &cancel
            )
            .unwrap_err()
            .is_cancelled()
        );
    }
}
