// SPDX-License-Identifier: MPL-2.0
//! Group normalisation over a chunk, plain in the encoder and modulated by the latent in the decoder, with SiLU.

use candle_core::{DType, Device, Tensor};

use super::activation::{Activation, Bands};
use super::conv::{Builder, Conv};
use crate::cpu::groupnorm::{Modulation, Shape, affine, silu_affine};
use crate::cpu::level::CpuLevel;
use crate::cpu::tensors::with_f32;
use crate::error::{Error, Result};
use crate::plan::operands::OperandLimit;
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
    limit: Option<OperandLimit>,
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
            limit: builder.limit.cloned(),
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

    /// Normalises the frames `x` `[channels, height, width]`; those of `latent` are `[channels, h, w]`. With `split` the
    /// first latent frame belongs to the first frame alone. Frames that are apart are given up one by one.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or a failed tensor operation.
    pub(super) fn forward(
        &self,
        x: Activation,
        latent: Option<&Activation>,
        split: bool,
        progress: &Progress,
    ) -> Result<Activation> {
        match x {
            Activation::Whole(x) => self
                .forward_whole(&x, latent, split, progress)
                .map(Into::into),
            Activation::Frames(frames) => {
                let mut moments = self.moments();
                for frame in &frames {
                    progress.check()?;
                    moments.add(frame)?;
                }
                let scaled = self.scaled(moments, frames.len(), latent, split, progress)?;
                let frames = frames.into_iter().enumerate();
                let frames = frames.map(|(index, frame)| scaled.frame(index, &frame));
                Ok(Activation::Frames(frames.collect::<Result<_>>()?))
            }
        }
    }

    /// As [`forward`](Self::forward), for frames `[frames, channels, height, width]` in one tensor.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub(super) fn forward_whole(
        &self,
        x: &Tensor,
        latent: Option<&Activation>,
        split: bool,
        progress: &Progress,
    ) -> Result<Tensor> {
        progress.check()?;
        let modulation = match self.modulation(latent)? {
            Some((y, b, latent)) => {
                let latent = latent.whole()?;
                let pair = (
                    y.forward_still(latent, progress)?,
                    b.forward_still(latent, progress)?,
                );
                let frames = frame_map(x.dim(0)?, latent.dim(0)?, split);
                Some((pair.0, pair.1, frames))
            }
            None => None,
        };
        self.on_cpu(x, modulation, progress)
    }

    /// What makes factors and addends of the latent, if anything does.
    fn modulation<'a>(
        &'a self,
        latent: Option<&'a Activation>,
    ) -> Result<Option<(&'a Conv, &'a Conv, &'a Activation)>> {
        match (&self.spatial, latent) {
            (Some((y, b)), Some(latent)) => Ok(Some((y, b, latent))),
            (None, _) => Ok(None),
            (Some(_), None) => Err(Error::invalid("a decoder norm was called without a latent")),
        }
    }

    /// The statistics of no frames yet.
    pub(super) fn moments(&self) -> Moments {
        Moments {
            groups: self.groups,
            parts: Vec::new(),
        }
    }

    /// The norm of `frames` frames that are apart and have `moments`.
    pub(super) fn scaled(
        &self,
        moments: Moments,
        frames: usize,
        latent: Option<&Activation>,
        split: bool,
        progress: &Progress,
    ) -> Result<Scaled<'_>> {
        let limit = self
            .limit
            .as_ref()
            .ok_or_else(|| Error::invalid("a norm of the CPU for frames of a GPU"))?;
        let moments = moments.finish()?;
        let device = self.gamma.device();
        let values = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.to_vec1::<f32>();
        let (gamma, beta) = (values(&self.gamma)?, values(&self.beta)?);
        let per_group = gamma.len() / self.groups;
        let affine = gamma.iter().zip(beta).enumerate();
        let (factor, addend): (Vec<f32>, Vec<f32>) = affine
            .map(|(channel, (gamma, beta))| {
                let (mean, variance) = moments
                    .get(channel / per_group)
                    .copied()
                    .unwrap_or_default();
                let factor = f64::from(*gamma) / (variance + EPS).sqrt();
                (factor as f32, (f64::from(beta) - mean * factor) as f32)
            })
            .unzip();
        let channels = |values: Vec<f32>| {
            let shape = (1, values.len(), 1, 1);
            Tensor::from_vec(values, shape, device)
        };
        let (factor, addend) = (channels(factor)?, channels(addend)?);
        let mut modulation = None;
        if let Some((y, b, latent)) = self.modulation(latent)? {
            let latent = latent.frames()?;
            let pictures = latent.iter().map(|latent| {
                let (y, b) = (y.frame(latent, progress)?, b.frame(latent, progress)?);
                let scale = y.map(|_, y| Ok(y.to_dtype(DType::F32)?.broadcast_mul(&factor)?))?;
                let shift = y.map(|rows, y| {
                    let y = y.to_dtype(DType::F32)?.broadcast_mul(&addend)?;
                    Ok((y + b.rows(rows, limit)?.to_dtype(DType::F32)?)?)
                })?;
                Ok((scale, shift))
            });
            modulation = Some((
                pictures.collect::<Result<_>>()?,
                frame_map(frames, latent.len(), split),
            ));
        }
        Ok(Scaled {
            factor,
            addend,
            modulation,
            limit,
        })
    }

    fn on_cpu(
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

/// Means and squared deviations of groups of channels, joined part by part as Chan, Golub and LeVeque do (Updating
/// Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979).
pub(super) struct Moments {
    groups: usize,
    /// Of each part the values of a group, and means and squared deviations `[groups, 2]`.
    parts: Vec<(usize, Tensor)>,
}

impl Moments {
    /// Adds a frame.
    pub fn add(&mut self, frame: &Bands) -> Result<()> {
        frame.each(|band| {
            let groups = band.to_dtype(DType::F32)?.reshape((self.groups, ()))?;
            let mean = groups.mean_keepdim(1)?;
            let deviations = groups.broadcast_sub(&mean)?.sqr()?.sum_keepdim(1)?;
            let both = Tensor::cat(&[mean, deviations], 1)?;
            self.parts.push((groups.dim(1)?, both));
            Ok(())
        })
    }

    /// Mean and variance of every group.
    fn finish(self) -> Result<Vec<(f64, f64)>> {
        if self.parts.is_empty() {
            return Err(Error::invalid("a norm of no frames"));
        }
        let (counts, parts): (Vec<usize>, Vec<Tensor>) = self.parts.into_iter().unzip();
        // All at once: reading a value waits for the device.
        let values = Tensor::stack(&parts, 0)?.to_vec3::<f32>()?;
        let mut joined = vec![(0.0, 0.0, 0.0); self.groups];
        for (count, part) in counts.into_iter().zip(values) {
            for ((n, mean, deviations), group) in joined.iter_mut().zip(part) {
                let [part_mean, part_deviations] = group[..] else {
                    continue;
                };
                let count = count as f64;
                let step = f64::from(part_mean) - *mean;
                let total = *n + count;
                *deviations += f64::from(part_deviations) + step * step * *n * count / total;
                *mean += step * count / total;
                *n = total;
            }
        }
        let finish = |(n, mean, deviations): (f64, f64, f64)| (mean, deviations / n);
        Ok(joined.into_iter().map(finish).collect())
    }
}

/// Factor and addend for each latent frame, and for each frame the latent one that belongs to it.
type Pictures = (Vec<(Bands, Bands)>, Vec<usize>);

/// A norm whose statistics are known.
pub(super) struct Scaled<'a> {
    /// `[1, channels, 1, 1]`, f32, as is the next.
    factor: Tensor,
    addend: Tensor,
    modulation: Option<Pictures>,
    limit: &'a OperandLimit,
}

impl Scaled<'_> {
    /// The normalised frame `index` of the chunk, through SiLU.
    pub fn frame(&self, index: usize, frame: &Bands) -> Result<Bands> {
        let Some((pictures, map)) = &self.modulation else {
            return frame.map(|_, band| {
                let x = band.to_dtype(DType::F32)?.broadcast_mul(&self.factor)?;
                let x = x.broadcast_add(&self.addend)?;
                Ok(x.silu()?.to_dtype(band.dtype())?)
            });
        };
        let picture = map.get(index).and_then(|latent| pictures.get(*latent));
        let (scale, shift) =
            picture.ok_or_else(|| Error::invalid(format!("frame {index} has no latent frame")))?;
        let ((_, height, width), (_, rows, columns)) = (frame.size()?, scale.size()?);
        if !height.is_multiple_of(rows) || !width.is_multiple_of(columns) {
            return Err(Error::invalid(format!(
                "a frame of {width}x{height} is modulated by a latent of {columns}x{rows}; its sides must be multiples"
            )));
        }
        let (down, across) = (height / rows, width / columns);
        frame.map(|rows, band| {
            let (first, end) = (rows.start / down, rows.end.div_ceil(down));
            let enlarged = |picture: &Bands| -> Result<Tensor> {
                let picture = picture.rows(first..end, self.limit)?;
                let picture = self.limit.repeat(&picture, down, across)?;
                Ok(picture.narrow(2, rows.start - first * down, rows.len())?)
            };
            let x = (band.to_dtype(DType::F32)? * enlarged(scale)?)?;
            Ok((x + enlarged(shift)?)?.silu()?.to_dtype(band.dtype())?)
        })
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
mod tests;
