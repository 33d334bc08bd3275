// SPDX-License-Identifier: MPL-2.0
//! Pictures of tensors, and frames in the size and format that is wanted.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};
use crate::media::colour;
use crate::media::frame::{Frame, FrameFormat, Samples};
use crate::media::resize::plain_resize;
use crate::size::Size;

/// Frames `[frames, height, width, 3]` in 0..=255 as R, G, B pictures; values are rounded.
///
/// # Errors
/// [`Error::Invalid`] for a tensor of another shape, or a failed tensor operation.
pub fn to_pictures(frames: &Tensor) -> Result<Vec<Frame>> {
    let (count, height, width, colours) = frames.dims4()?;
    if colours != 3 {
        return Err(Error::invalid(format!(
            "{colours} colours in a frame, expected 3"
        )));
    }
    let bytes = frames.round()?.clamp(0f32, 255f32)?.to_dtype(DType::U8)?;
    (0..count)
        .map(|index| {
            let planes = bytes.get(index)?.permute((2, 0, 1))?.contiguous()?;
            let planes = (0..3)
                .map(|plane| Ok(Samples::U8(planes.get(plane)?.flatten_all()?.to_vec1()?)))
                .collect::<Result<_>>()?;
            Frame::new(FrameFormat::rgb(), Size::new(width, height), planes)
        })
        .collect()
}

/// `frame` in `size` and `format`: an antialiased Lanczos resize where the size differs, then the format's own
/// colours, range and chroma siting; alpha is opaque.
///
/// # Errors
/// [`Error::Invalid`] for an empty size, or a failed tensor operation.
pub fn fit(frame: &Frame, size: Size, format: &FrameFormat) -> Result<Frame> {
    let resized = plain_resize(frame, size)?;
    if resized.format() == format {
        return Ok(resized);
    }
    let rgb = colour::to_tensor(std::slice::from_ref(&resized))?;
    let alpha = format.alpha.then(|| opaque(format, size.pixels()));
    colour::encode(&rgb, 0, format, alpha)
}

/// An alpha plane of `len` samples through which nothing is seen.
fn opaque(format: &FrameFormat, len: usize) -> Samples {
    match format.max_value() {
        255 => Samples::U8(vec![255; len]),
        most => Samples::U16(vec![most; len]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn pictures_have_rounded_planes() {
        let values: Vec<f32> = (0..12).map(|i| i as f32 * 30.0 - 20.4).collect();
        let frames = Tensor::from_vec(values, (1, 2, 2, 3), &Device::Cpu).unwrap();
        let pictures = to_pictures(&frames).unwrap();
        assert_eq!(*pictures[0].planes()[0], Samples::U8(vec![0, 70, 160, 250]));
        assert_eq!(
            *pictures[0].planes()[1],
            Samples::U8(vec![10, 100, 190, 255])
        );
        assert!(to_pictures(&frames.narrow(3, 0, 2).unwrap()).is_err());
    }

    #[test]
    fn frames_fit_any_size_and_format() {
        let size = Size::new(6, 4);
        let plane = |value| Samples::U8(vec![value; size.pixels()]);
        let planes = vec![plane(255), plane(0), plane(0)];
        let red = Frame::new(FrameFormat::rgb(), size, planes).unwrap();
        let same = fit(&red, size, &FrameFormat::rgb()).unwrap();
        assert_eq!(same.planes(), red.planes());
        let small = fit(&red, Size::new(3, 3), &FrameFormat::i420()).unwrap();
        // BT.709 red in limited range.
        assert_eq!(*small.planes()[0], Samples::U8(vec![63; 9]));
        assert_eq!(*small.planes()[1], Samples::U8(vec![102; 4]));
        assert_eq!(*small.planes()[2], Samples::U8(vec![240; 4]));
        let alpha = FrameFormat {
            alpha: true,
            ..FrameFormat::rgb()
        };
        let opaque = fit(&red, size, &alpha).unwrap();
        assert_eq!(*opaque.planes()[3], plane(255));
    }
}
