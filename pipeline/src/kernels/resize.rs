//! Antialiased Lanczos resize of one plane, with the sub-pixel shift that chroma siting needs.

use fast_image_resize as fir;

use crate::clip::{Frame, Planes, Samples, Siting, Size};
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// Samples of the result between two looks at the cancel token: about 20 ms of work.
const PART: usize = 1 << 22;

/// A sample type that planes can be resized in.
pub trait Resizable: Copy + Default + Send + Sync + 'static {
    /// How the resizer calls it.
    const PIXEL: fir::PixelType;

    /// Clamps to 0..=`max`, if the type is one of integer codes.
    fn limit(self, max: Self) -> Self;
}

impl Resizable for u8 {
    const PIXEL: fir::PixelType = fir::PixelType::U8;

    fn limit(self, max: Self) -> Self {
        self.min(max)
    }
}

impl Resizable for u16 {
    const PIXEL: fir::PixelType = fir::PixelType::U16;

    fn limit(self, max: Self) -> Self {
        self.min(max)
    }
}

impl Resizable for f32 {
    const PIXEL: fir::PixelType = fir::PixelType::F32;

    fn limit(self, _: Self) -> Self {
        self
    }
}

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

/// Resizes `plane` of `size`, the part `x` by `y` of it, to `target`. Values are clamped to `max` if they are codes.
///
/// # Errors
/// [`Error::Invalid`] when sizes are empty or beyond what the resizer takes, [`Error::Cancelled`].
pub fn resize<S: Resizable>(
    plane: &[S],
    size: Size,
    (x, y): (Span, Span),
    target: Size,
    max: S,
    cancel: &CancelToken,
) -> Result<Vec<S>> {
    if plane.len() != size.pixels() || size.pixels() == 0 || target.pixels() == 0 {
        return Err(Error::invalid(format!(
            "cannot resize {} samples of {size} to {target}",
            plane.len()
        )));
    }
    let (left, right) = x.missing(size.width);
    let (top, bottom) = y.missing(size.height);
    if left + right + top + bottom > 0 {
        let padded = Size::new(size.width + left + right, size.height + top + bottom);
        let plane = pad(plane, size, left, top, padded);
        let shift = |span: Span, by: usize| Span {
            start: span.start + by as f64,
            ..span
        };
        return parts(
            &plane,
            padded,
            shift(x, left),
            shift(y, top),
            target,
            max,
            cancel,
        );
    }
    parts(plane, size, x, y, target, max, cancel)
}

/// Resizes some rows of the result at a time, so that cancelling is quick.
fn parts<S: Resizable>(
    plane: &[S],
    size: Size,
    x: Span,
    y: Span,
    target: Size,
    max: S,
    cancel: &CancelToken,
) -> Result<Vec<S>> {
    let mut out = vec![S::default(); target.pixels()];
    let rows = (PART / target.width).max(1);
    let step = y.length / target.height as f64;
    for (index, out) in out.chunks_mut(rows * target.width).enumerate() {
        cancel.check()?;
        let part = Size::new(target.width, out.len() / target.width);
        let y = Span {
            start: y.start + step * (index * rows) as f64,
            length: step * part.height as f64,
        };
        inside(plane, size, x, y, out, part)?;
        for value in out {
            *value = value.limit(max);
        }
    }
    Ok(out)
}

fn inside<S: Resizable>(
    plane: &[S],
    size: Size,
    x: Span,
    y: Span,
    out: &mut [S],
    target: Size,
) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::invalid(format!("cannot resize {size} to {target}: {e}"))
    };
    let side = |value: usize| u32::try_from(value).map_err(|e| failed(&e));
    // SAFETY: the sample types are plain numbers, any bytes of which may be read.
    let (_, source, _) = unsafe { plane.align_to::<u8>() };
    // SAFETY: as above, and any bytes make valid numbers.
    let (_, sink, _) = unsafe { out.align_to_mut::<u8>() };
    let source =
        fir::images::ImageRef::new(side(size.width)?, side(size.height)?, source, S::PIXEL)
            .map_err(|e| failed(&e))?;
    let mut sink = fir::images::Image::from_slice_u8(
        side(target.width)?,
        side(target.height)?,
        sink,
        S::PIXEL,
    )
    .map_err(|e| failed(&e))?;
    // Rounding must not carry the span over the edge of the plane.
    let inside = |span: Span, length: usize| {
        let start = span.start.clamp(0.0, length as f64);
        (start, span.length.min(length as f64 - start))
    };
    let ((left, width), (top, height)) = (inside(x, size.width), inside(y, size.height));
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3))
        .crop(left, top, width, height);
    fir::Resizer::new()
        .resize(&source, &mut sink, &options)
        .map_err(|e| failed(&e))
}

/// Plane `index` of `frame` for a frame of size `target`, in its own number type and with its chroma siting.
///
/// # Errors
/// As [`resize`].
pub fn resize_frame_plane(
    frame: &Frame,
    index: usize,
    target: Size,
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
    Ok(match frame.planes()[index].as_ref() {
        Samples::U8(plane) => Samples::U8(resize(plane, from, spans, to, u8::MAX, cancel)?),
        Samples::U16(plane) => {
            Samples::U16(resize(plane, from, spans, to, format.max_value(), cancel)?)
        }
    })
}

/// `plane` inside a larger one of size `padded`, at `left`, `top`, with its edges repeated.
fn pad<S: Resizable>(plane: &[S], size: Size, left: usize, top: usize, padded: Size) -> Vec<S> {
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
        let none = CancelToken::new();
        for (width, height, out) in [(1, 1, 9), (3, 2, 4), (5, 7, 3), (4, 4, 64)] {
            let size = Size::new(width, height);
            for siting in [Siting::Cosited, Siting::Centre] {
                let x = Span::chroma(width * 2, out * 2, 1, siting);
                let y = Span::chroma(height * 2, out * 2, 1, siting);
                let flat = vec![77u8; size.pixels()];
                let got = resize(&flat, size, (x, y), Size::new(out, out), 255, &none).unwrap();
                assert!(got.iter().all(|v| *v == 77), "{size} {siting:?}");
                let flat = vec![0.25f32; size.pixels()];
                let got = resize(&flat, size, (x, y), Size::new(out, out), 0.0, &none).unwrap();
                assert!(got.iter().all(|v| (v - 0.25).abs() < 1e-5));
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
            let got = resize(
                &plane,
                Size::new(input / 2, 1),
                spans,
                Size::new(output / 2, 1),
                0.0,
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
        let got = resize(
            &plane,
            Size::new(16, 1),
            spans,
            Size::new(64, 1),
            1023,
            &CancelToken::new(),
        )
        .unwrap();
        assert_eq!(got.iter().max(), Some(&1023));
    }

    #[test]
    fn same_span_and_size_copies() {
        let plane: Vec<u8> = (0..35).collect();
        let size = Size::new(7, 5);
        let got = resize(
            &plane,
            size,
            (Span::whole(7), Span::whole(5)),
            size,
            255,
            &CancelToken::new(),
        )
        .unwrap();
        assert_eq!(got, plane);
    }
}
