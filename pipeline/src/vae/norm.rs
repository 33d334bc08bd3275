//! Group normalisation over a chunk, plain in the encoder and modulated by the latent in the decoder, with SiLU.

use candle_core::{DType, Device, Tensor};

use super::conv::{Builder, Conv};
use crate::error::{Error, Result};
use crate::kernels::cpu::CpuLevel;
use crate::kernels::groupnorm::{Modulation, Shape, affine, silu_affine};
use crate::kernels::tensors::with_f32;
use crate::progress::Progress;

const EPS: f64 = 1e-6;

/// `SiLU(GN(f))`, or `SiLU(GN(f) * y(z) + b(z))` where `z` is the chunk's latent.
///
/// Statistics are taken over a group's channels and all frames of the chunk. `y` and `b` are pointwise, so they are
/// computed at the latent's size; enlarging afterwards by repetition gives the same numbers.
#[derive(Debug)]
pub struct Norm {
    groups: usize,
    gamma: Tensor,
    beta: Tensor,
    spatial: Option<(Conv, Conv)>,
}

impl Norm {
    /// A group normalisation of `channels`.
    pub(super) fn plain(builder: &Builder<'_>, channels: usize) -> Result<Self> {
        if builder.groups == 0 || !channels.is_multiple_of(builder.groups) {
            return Err(Error::invalid(format!(
                "{channels} channels cannot be normalised in {} groups",
                builder.groups
            )));
        }
        Ok(Self {
            groups: builder.groups,
            gamma: builder.weights.get(channels, "weight")?,
            beta: builder.weights.get(channels, "bias")?,
            spatial: None,
        })
    }

    /// A normalisation of `channels` that is modulated by a latent of `latent` channels.
    pub(super) fn spatial(builder: &Builder<'_>, channels: usize, latent: usize) -> Result<Self> {
        let modulation = |name: &str| Conv::causal(&builder.pp(name), latent, channels, 1);
        Ok(Self {
            spatial: Some((modulation("conv_y")?, modulation("conv_b")?)),
            ..Self::plain(&builder.pp("norm_layer"), channels)?
        })
    }

    /// Normalises `x` `[frames, channels, height, width]`; `latent` is `[latent frames, channels, h, w]`. With `split`
    /// the first latent frame belongs to the first frame alone.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or a failed tensor operation.
    pub fn forward(
        &self,
        x: &Tensor,
        latent: Option<&Tensor>,
        split: bool,
        progress: &Progress,
    ) -> Result<Tensor> {
        progress.check()?;
        let modulation = match (&self.spatial, latent) {
            (Some((y, b)), Some(latent)) => {
                let pair = (
                    y.forward_still(latent, progress)?,
                    b.forward_still(latent, progress)?,
                );
                let frames = frame_map(x.dim(0)?, latent.dim(0)?, split);
                Some((pair.0, pair.1, frames))
            }
            (None, _) => None,
            (Some(_), None) => {
                return Err(Error::invalid("a decoder norm was called without a latent"));
            }
        };
        if x.device().is_cpu() {
            self.on_processor(x, modulation, progress)
        } else {
            self.on_device(x, modulation)
        }
    }

    fn on_device(
        &self,
        x: &Tensor,
        modulation: Option<(Tensor, Tensor, Vec<usize>)>,
    ) -> Result<Tensor> {
        let (frames, channels, height, width) = x.dims4()?;
        let groups = x.to_dtype(DType::F32)?.reshape((frames, self.groups, ()))?;
        let groups = groups.broadcast_sub(&groups.mean_keepdim(2)?.mean_keepdim(0)?)?;
        let variance = groups.sqr()?.mean_keepdim(2)?.mean_keepdim(0)?;
        let y = groups
            .broadcast_div(&(variance + EPS)?.sqrt()?)?
            .to_dtype(x.dtype())?;
        let mut y = y
            .reshape((frames, channels, height, width))?
            .broadcast_mul(&self.gamma.reshape((1, channels, 1, 1))?)?
            .broadcast_add(&self.beta.reshape((1, channels, 1, 1))?)?;
        if let Some((scale, shift, map)) = modulation {
            let map: Vec<u32> = map.into_iter().map(|frame| frame as u32).collect();
            let map = Tensor::new(map, x.device())?;
            let enlarge = |t: Tensor| t.index_select(&map, 0)?.upsample_nearest2d(height, width);
            y = ((y * enlarge(scale)?)? + enlarge(shift)?)?;
        }
        Ok(y.silu()?)
    }

    fn on_processor(
        &self,
        x: &Tensor,
        modulation: Option<(Tensor, Tensor, Vec<usize>)>,
        progress: &Progress,
    ) -> Result<Tensor> {
        let (_, channels, height, width) = x.dims4()?;
        let shape = Shape {
            channels,
            height,
            width,
        };
        let level = CpuLevel::selected()?;
        let mut result = vec![0f32; x.elem_count()];
        with_f32(x, |x| {
            let affine = with_f32(&self.gamma, |gamma| {
                with_f32(&self.beta, |beta| {
                    Ok(affine(level, x, shape, self.groups, (gamma, beta), EPS))
                })
            })?;
            progress.check()?;
            let Some((scale, shift, map)) = &modulation else {
                silu_affine(level, x, shape, &affine, None, &mut result);
                return Ok(());
            };
            let (_, _, rows, columns) = scale.dims4()?;
            with_f32(scale, |scale| {
                with_f32(shift, |shift| {
                    let modulation = Modulation {
                        scale,
                        shift,
                        map,
                        size: (rows, columns),
                    };
                    silu_affine(level, x, shape, &affine, Some(modulation), &mut result);
                    Ok(())
                })
            })
        })?;
        Ok(Tensor::from_vec(result, x.shape(), &Device::Cpu)?)
    }
}

/// Which of `latents` latent frames belongs to each of `frames` frames.
pub(super) fn frame_map(frames: usize, latents: usize, split: bool) -> Vec<usize> {
    (0..frames)
        .map(|frame| match frame {
            0 => 0,
            _ if split => (1 + (frame - 1) * (latents - 1) / (frames - 1)).min(latents - 1),
            _ => frame * latents / frames,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Checkpoint, Weights};
    use std::cell::Cell;
    use std::collections::HashMap;

    fn wave(shape: &[usize], frequency: f32) -> Tensor {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len)
            .map(|i| (i as f32 * frequency).sin() + 0.1)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn builder(slots: &Cell<usize>) -> Builder<'_> {
        let mut tensors = HashMap::new();
        for (name, shape, frequency) in [
            ("norm_layer.weight", &[6usize][..], 0.3),
            ("norm_layer.bias", &[6], 0.7),
            ("conv_y.conv.weight", &[6, 2, 1, 1, 1], 0.4),
            ("conv_y.conv.bias", &[6], 0.5),
            ("conv_b.conv.weight", &[6, 2, 1, 1, 1], 0.6),
            ("conv_b.conv.bias", &[6], 0.8),
        ] {
            tensors.insert(name.to_owned(), wave(shape, frequency));
        }
        Builder {
            weights: Weights::new(
                Checkpoint::from_tensors(tensors).unwrap(),
                &Device::Cpu,
                DType::F32,
            ),
            slots,
            groups: 3,
        }
    }

    #[test]
    fn the_fused_pass_equals_the_plain_formula() {
        let slots = Cell::new(0);
        let norm = Norm::spatial(&builder(&slots), 6, 2).unwrap();
        let (x, z) = (wave(&[5, 6, 4, 8], 0.11), wave(&[3, 2, 2, 4], 0.23));
        let progress = Progress::none();
        let (y, b) = norm.spatial.as_ref().unwrap();
        let modulation = || {
            let still = |conv: &Conv| conv.forward_still(&z, &progress).unwrap();
            Some((still(y), still(b), frame_map(5, 3, true)))
        };
        for modulation in [None, modulation()] {
            let got = norm
                .on_processor(&x, modulation.clone(), &progress)
                .unwrap();
            let want = norm.on_device(&x, modulation).unwrap();
            let d = (got - want).unwrap().abs().unwrap().flatten_all().unwrap();
            assert!(d.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5);
        }
        assert!(norm.forward(&x, None, true, &progress).is_err());
    }

    #[test]
    fn frames_find_their_latents() {
        assert_eq!(frame_map(5, 3, true), [0, 1, 1, 2, 2]);
        assert_eq!(frame_map(4, 2, false), [0, 0, 1, 1]);
        assert_eq!(frame_map(2, 2, true), [0, 1]);
        assert_eq!(frame_map(4, 1, false), [0; 4]);
        assert_eq!(frame_map(1, 1, true), [0]);
    }

    #[test]
    fn groups_must_divide_the_channels() {
        let slots = Cell::new(0);
        let odd = Builder {
            groups: 4,
            ..builder(&slots)
        };
        assert!(Norm::spatial(&odd, 6, 2).is_err());
    }
}
