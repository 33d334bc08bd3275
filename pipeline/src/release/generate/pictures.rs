// SPDX-License-Identifier: MPL-2.0
//! Decoded frames cut to size, as pictures.

use candle_core::{Device, Tensor};

use crate::cpu::tensors::with_f32;
use crate::error::{Error, Result};
use crate::media::frame::{Frame, FrameFormat, Samples};
use crate::size::Size;

/// The middle of `frames` `[1, 3, frames, height, width]`.
pub(super) fn cropped(frames: &Tensor, size: Size) -> Result<Tensor> {
    let (_, _, _, height, width) = frames.dims5()?;
    let (Some(rows), Some(columns)) = (
        height.checked_sub(size.height),
        width.checked_sub(size.width),
    ) else {
        return Err(Error::invalid(format!(
            "frames of {width}x{height} cannot be cut to {size}"
        )));
    };
    Ok(frames
        .narrow(3, rows / 2, size.height)?
        .narrow(4, columns / 2, size.width)?)
}

/// One frame `[1, 3, 1, height, width]`, about -1..=1, as an R, G, B picture: the same values as those of
/// [`to_bytes_range`](crate::release::vae::to_bytes_range), rounded.
pub(super) fn picture(frame: &Tensor) -> Result<Frame> {
    let (_, _, _, height, width) = frame.dims5()?;
    let size = Size::new(width, height);
    let frame = frame.to_device(&Device::Cpu)?;
    let planes = with_f32(&frame, |values| {
        let byte = |v: f32| (((v + 1.0) / 2.0).clamp(0.0, 1.0) * 255.0).round() as u8;
        let plane = |values: &[f32]| Samples::U8(values.iter().map(|v| byte(*v)).collect());
        Ok(values.chunks(size.pixels().max(1)).map(plane).collect())
    })?;
    Frame::new(FrameFormat::rgb(), size, planes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_kept() {
        let values: Vec<f32> = (0..6 * 4).map(|i| i as f32).collect();
        let frames = Tensor::from_vec(values, (1, 1, 1, 6, 4), &Device::Cpu).unwrap();
        let middle = cropped(&frames, Size::new(2, 3)).unwrap();
        assert_eq!(
            middle.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [5.0, 6.0, 9.0, 10.0, 13.0, 14.0]
        );
        assert!(cropped(&frames, Size::new(5, 3)).is_err());
    }
}
