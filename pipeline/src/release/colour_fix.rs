// SPDX-License-Identifier: MPL-2.0
//! Keeps the colours of the input.
//!
//! The flow starts from strong noise, and what it makes of the broadest structures, brightness and tint, drifts from
//! window to window. These the input knows best: averages over large blocks are taken from it, everything finer from
//! the enhanced picture.

use candle_core::{DType, Device, Tensor};

use super::bilinear::bilinear;
use crate::error::Result;

/// Side of the blocks, in pixels of the enhanced picture.
const BLOCK: usize = 32;

/// `enhanced` `[frames, height, width, 3]` in 0..=255 with the broad colours of `source`, the same frames at another
/// size `[frames, h, w, 3]`. The result is float32 on the CPU.
///
/// # Errors
/// A failed tensor operation: there must be as many frames in both.
pub fn keep_colours(enhanced: &Tensor, source: &Tensor) -> Result<Tensor> {
    let (_, height, width, _) = enhanced.dims4()?;
    let broad = |frames: &Tensor| {
        let planes = frames.permute((0, 3, 1, 2))?;
        bilinear(&planes, height.div_ceil(BLOCK), width.div_ceil(BLOCK))
    };
    let drift = (broad(enhanced)? - broad(source)?)?;
    let drift = bilinear(&drift, height, width)?.permute((0, 2, 3, 1))?;
    let enhanced = enhanced.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok((enhanced - drift)?.clamp(0f32, 255f32)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A smooth picture, `value` of the place in 0..1.
    fn picture(height: usize, width: usize, value: impl Fn(f32, f32) -> f32) -> Tensor {
        let mut values = Vec::with_capacity(height * width * 3);
        for y in 0..height {
            for x in 0..width {
                let (y, x) = (
                    (y as f32 + 0.5) / height as f32,
                    (x as f32 + 0.5) / width as f32,
                );
                let value = value(x, y);
                values.extend([value, 0.5 * value, 255.0 - value]);
            }
        }
        Tensor::from_vec(values, (1, height, width, 3), &Device::Cpu).unwrap()
    }

    fn largest(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar::<f32>().unwrap()
    }

    fn ramp(x: f32, y: f32) -> f32 {
        60.0 + 90.0 * x + 40.0 * y
    }

    #[test]
    fn a_faithful_picture_stays_as_it_is() {
        let kept = keep_colours(&picture(160, 192, ramp), &picture(40, 48, ramp)).unwrap();
        assert!(largest(&kept, &picture(160, 192, ramp)) < 1.0);
    }

    #[test]
    fn a_tint_goes_and_detail_stays() {
        let stripes = |x: f32| {
            if (x * 192.0) as usize % 4 < 2 {
                9.0
            } else {
                -9.0
            }
        };
        let want = picture(160, 192, |x, y| ramp(x, y) + stripes(x));
        // Brighter on the left, darker on the right.
        let drifted = picture(160, 192, |x, y| ramp(x, y) + stripes(x) + 30.0 - 50.0 * x);
        let kept = keep_colours(&drifted, &picture(40, 48, ramp)).unwrap();
        let inner = |picture: &Tensor| picture.narrow(2, 16, 160).unwrap();
        assert!(largest(&inner(&drifted), &inner(&want)) > 20.0);
        assert!(largest(&inner(&kept), &inner(&want)) < 1.0);
        // The outer half of the outermost blocks has the drift of their middle.
        assert!(largest(&kept, &want) < 5.0);
    }

    #[test]
    fn the_smallest_picture() {
        let kept = keep_colours(&picture(1, 1, |_, _| 10.0), &picture(2, 3, |_, _| 70.0));
        assert!(largest(&kept.unwrap(), &picture(1, 1, |_, _| 70.0)) < 1e-3);
    }
}
