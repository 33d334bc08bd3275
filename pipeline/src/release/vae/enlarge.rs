// SPDX-License-Identifier: MPL-2.0
//! Pictures of twice the size by repetition.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::activation::Activation;
use super::conv::{Conv, Pass};
use crate::cpu::tensors::with_f32;
use crate::error::Result;

/// `x` enlarged and then convolved by `conv`, which sees single frames.
///
/// # Errors
/// [`Error::Cancelled`](crate::Error::Cancelled), or a failed tensor operation.
pub(super) fn convolved(x: Activation, conv: &Conv, pass: &mut Pass<'_>) -> Result<Activation> {
    Ok(match x {
        Activation::Whole(x) => conv.forward_whole(&twice(&x)?, None, pass)?.into(),
        Activation::Frames(frames) => {
            let frames = frames.into_iter();
            let frames = frames.map(|frame| conv.frame_enlarged(&frame, pass.progress));
            Activation::Frames(frames.collect::<Result<_>>()?)
        }
    })
}

/// `x` `[frames, channels, height, width]` with every pixel four times.
///
/// # Errors
/// A failed tensor operation.
fn twice(x: &Tensor) -> Result<Tensor> {
    let (frames, channels, height, width) = x.dims4()?;
    if x.elem_count() == 0 {
        return Ok(x.upsample_nearest2d(2 * height, 2 * width)?);
    }
    let mut result = vec![0f32; 4 * x.elem_count()];
    with_f32(x, |x| {
        result
            .par_chunks_mut(4 * width)
            .zip(x.par_chunks(width))
            .for_each(|(rows, from)| {
                let (first, second) = rows.split_at_mut(2 * width);
                for (pair, value) in first.chunks_exact_mut(2).zip(from) {
                    pair.fill(*value);
                }
                second.copy_from_slice(first);
            });
        Ok(())
    })?;
    let shape = (frames, channels, 2 * height, 2 * width);
    Ok(Tensor::from_vec(result, shape, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_equals_nearest_enlargement() {
        let x = Tensor::arange(0f32, 2.0 * 3.0 * 4.0 * 5.0, &Device::Cpu).unwrap();
        let x = x.reshape((2, 3, 4, 5)).unwrap();
        let want = x.upsample_nearest2d(8, 10).unwrap();
        let difference = (twice(&x).unwrap() - want).unwrap().abs().unwrap();
        let worst = difference.flatten_all().unwrap().max(0).unwrap();
        assert_eq!(worst.to_scalar::<f32>().unwrap(), 0.0);
    }
}
