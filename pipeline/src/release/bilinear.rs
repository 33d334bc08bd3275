// SPDX-License-Identifier: MPL-2.0
//! Bilinear resizing with antialiasing, as the release prepares its frames.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use crate::cpu::tensors::with_f32;
use crate::error::{Error, Result};

/// A filter on one axis: for each output position the first input position and the weights from there on.
struct Filter(Vec<(usize, Vec<f32>)>);

impl Filter {
    /// A triangle filter with half-pixel centres, widened by the factor when `from` shrinks to `to`.
    fn new(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let positions = (0..to).map(|index| {
            let centre = scale * (index as f64 + 0.5);
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let weight = |j: usize| (1.0 - ((j as f64 - centre + 0.5) / support).abs()).max(0.0);
            let total: f64 = (first..end).map(weight).sum();
            (
                first,
                (first..end).map(|j| (weight(j) / total) as f32).collect(),
            )
        });
        Self(positions.collect())
    }
}

/// Resizes every plane `[height, width]` of `frames` `[frames, channels, height, width]`, columns first. The result is
/// float32 on the CPU.
///
/// # Errors
/// [`Error::Invalid`] for an empty size, or a failed tensor operation.
pub fn bilinear(frames: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (count, channels, from_height, from_width) = frames.dims4()?;
    if from_height * from_width * height * width == 0 {
        return Err(Error::invalid(format!(
            "frames of {from_width}x{from_height} cannot be resized to {width}x{height}"
        )));
    }
    let (across, down) = (
        Filter::new(from_width, width),
        Filter::new(from_height, height),
    );
    let mut result = vec![0f32; count * channels * height * width];
    with_f32(&frames.to_device(&Device::Cpu)?, |source| {
        result
            .par_chunks_mut(height * width)
            .zip(source.par_chunks(from_height * from_width))
            .for_each_init(Vec::new, |rows, (to, from)| {
                rows.clear();
                for line in from.chunks(from_width) {
                    rows.extend(across.0.iter().map(|(first, weights)| {
                        let values = &line[*first..];
                        weights.iter().zip(values).map(|(w, v)| w * v).sum::<f32>()
                    }));
                }
                for (to, (first, weights)) in to.chunks_mut(width).zip(&down.0) {
                    for (weight, row) in weights.iter().zip(rows.chunks(width).skip(*first)) {
                        for (to, value) in to.iter_mut().zip(row) {
                            *to += weight * value;
                        }
                    }
                }
            });
        Ok(())
    })?;
    Ok(Tensor::from_vec(
        result,
        (count, channels, height, width),
        &Device::Cpu,
    )?)
}

/// Frames `[frames, height, width, 3]` in 0..=255 as the VAE takes them: `[1, 3, frames, height', width']` in -1..=1 at
/// the size `height'` x `width'`.
///
/// # Errors
/// As [`bilinear`].
pub fn prepare(frames: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let planes = frames
        .to_dtype(candle_core::DType::F32)?
        .permute((0, 3, 1, 2))?;
    let planes = bilinear(&planes, height, width)?;
    let clip = ((planes / 127.5)? - 1.0)?;
    Ok(clip.transpose(0, 1)?.unsqueeze(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(values: &[f32], to: usize) -> Vec<f32> {
        let row = Tensor::new(values, &Device::Cpu).unwrap();
        let row = row.reshape((1, 1, 1, values.len())).unwrap();
        let out = bilinear(&row, 1, to).unwrap();
        out.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn enlarging_repeats_the_edges() {
        assert_eq!(resized(&[0.0, 4.0], 4), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(resized(&[5.0, 6.0, 7.0], 3), [5.0, 6.0, 7.0]);
    }

    #[test]
    fn shrinking_averages_over_more_pixels() {
        // A triangle of half width 2 around 1 and 3, cut at the edges.
        let out = resized(&[1.0, 0.0, 0.0, 0.0], 2);
        assert!(
            (out[0] - 0.75 / 1.75).abs() < 1e-6 && out[1] == 0.0,
            "{out:?}"
        );
        assert!(
            bilinear(
                &Tensor::zeros((1, 1, 2, 2), candle_core::DType::F32, &Device::Cpu).unwrap(),
                0,
                1
            )
            .is_err()
        );
    }
}
