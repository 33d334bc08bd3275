// SPDX-License-Identifier: MPL-2.0
//! Frames in another size without a model, and the sub-pixel shift that chroma siting needs.

use crate::cpu::resize::{ResizeBuffers, Span, resize_codes};
use crate::error::Result;
use crate::media::frame::{Frame, Planes, Samples, Siting};
use crate::progress::CancelToken;
use crate::size::Size;

/// Resizes one frame without a model: an antialiased Lanczos resize with the frame's own chroma siting.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for an empty size.
pub fn plain_resize(frame: &Frame, size: Size) -> Result<Frame> {
    resized(frame, size, &CancelToken::new())
}

/// As [`plain_resize`], until `cancel` is triggered.
pub(crate) fn resized(frame: &Frame, size: Size, cancel: &CancelToken) -> Result<Frame> {
    if frame.size() == size {
        return Ok(frame.clone());
    }
    let mut buffers = ResizeBuffers::default();
    let planes: Result<_> = (0..frame.planes().len())
        .map(|index| resize_frame_plane(frame, index, size, &mut buffers, cancel))
        .collect();
    Frame::new(*frame.format(), size, planes?)
}

/// Plane `index` of `frame` for a frame of size `target`, with its chroma siting.
///
/// # Errors
/// As [`resize`](crate::cpu::resize::resize).
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
            chroma_span(size.width, target.width, sub_x, format.siting.0),
            chroma_span(size.height, target.height, sub_y, format.siting.1),
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

/// The span of an axis of a chroma plane, when luma goes from `input` to `output` samples.
///
/// `sub` is the log2 of the chroma reduction. Luma edges are kept on luma edges; a chroma sample lies at
/// `group * i + offset` on the luma axis of its own picture, in the small one as in the large one.
fn chroma_span(input: usize, output: usize, sub: u8, siting: Siting) -> Span {
    let group = f64::from(1u32 << sub);
    let offset = match siting {
        Siting::Cosited => 0.5,
        Siting::Centre => group / 2.0,
    };
    let ratio = input as f64 / output as f64;
    Span {
        start: (1.0 - ratio) * (0.5 - offset / group),
        length: ratio * output.div_ceil(1 << sub) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::resize::resize;

    #[test]
    fn flat_stays_flat_with_any_siting() {
        for (width, height, out) in [(1, 1, 9), (3, 2, 4), (5, 7, 3), (4, 4, 64)] {
            let size = Size::new(width, height);
            for siting in [Siting::Cosited, Siting::Centre] {
                let x = chroma_span(width * 2, out * 2, 1, siting);
                let y = chroma_span(height * 2, out * 2, 1, siting);
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
        for (siting, sub) in [
            (Siting::Cosited, 1),
            (Siting::Centre, 1),
            (Siting::Cosited, 2),
            (Siting::Centre, 2),
        ] {
            let group = 1usize << sub;
            let offset = match siting {
                Siting::Cosited => 0.5,
                Siting::Centre => group as f32 / 2.0,
            };
            let ramp = |i: usize, of: usize| (group as f32 * i as f32 + offset) / of as f32;
            let plane: Vec<f32> = (0..input / group).map(|i| ramp(i, input)).collect();
            let spans = (chroma_span(input, output, sub, siting), Span::whole(1));
            let target = Size::new(output / group, 1);
            let got = resize(
                &plane,
                Size::new(input / group, 1),
                spans,
                target,
                &mut ResizeBuffers::default(),
                &CancelToken::new(),
            )
            .unwrap();
            let inside = 16..output / group - 16;
            // Lanczos ripples on a slope, by a share of what a sample differs from the next one.
            let ripple = 0.03 * group as f32 / input as f32;
            for (i, value) in got.iter().enumerate().filter(|(i, _)| inside.contains(i)) {
                let want = ramp(i, output);
                assert!(
                    (value - want).abs() < ripple,
                    "{siting:?} of {group}, {i}: {value} {want}"
                );
            }
        }
    }
}
