//! Group normalisation over a chunk, plain in the encoder and modulated by the latent in the decoder, with SiLU.

use candle_core::{DType, Device, Tensor};

use super::activation::{Activation, Bands};
use super::conv::{Builder, Conv};
use crate::error::{Error, Result};
use crate::index32::OperandLimit;
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

/// A norm whose statistics are known.
pub(super) struct Scaled<'a> {
    /// `[1, channels, 1, 1]`, f32, as is the next.
    factor: Tensor,
    addend: Tensor,
    /// Factor and addend for each latent frame, and for each frame the latent one that belongs to it.
    modulation: Option<(Vec<(Bands, Bands)>, Vec<usize>)>,
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
            limit: None,
        }
    }

    /// The definition in plain tensor operations.
    fn plain(norm: &Norm, x: &Tensor, modulation: Option<(Tensor, Tensor, Vec<usize>)>) -> Tensor {
        let (frames, channels, height, width) = x.dims4().unwrap();
        let groups = x.reshape((frames, norm.groups, ())).unwrap();
        let mean = |t: &Tensor| t.mean_keepdim(2).unwrap().mean_keepdim(0).unwrap();
        let groups = groups.broadcast_sub(&mean(&groups)).unwrap();
        let variance = mean(&groups.sqr().unwrap());
        let deviation = (variance + EPS).unwrap().sqrt().unwrap();
        let of_channels = |t: &Tensor| t.reshape((1, channels, 1, 1)).unwrap();
        let mut y = groups
            .broadcast_div(&deviation)
            .unwrap()
            .reshape((frames, channels, height, width))
            .unwrap()
            .broadcast_mul(&of_channels(&norm.gamma))
            .unwrap()
            .broadcast_add(&of_channels(&norm.beta))
            .unwrap();
        if let Some((scale, shift, map)) = modulation {
            let map: Vec<u32> = map.into_iter().map(|frame| frame as u32).collect();
            let map = Tensor::new(map, x.device()).unwrap();
            let enlarge = |t: Tensor| {
                let t = t.index_select(&map, 0).unwrap();
                t.upsample_nearest2d(height, width).unwrap()
            };
            y = ((y * enlarge(scale)).unwrap() + enlarge(shift)).unwrap();
        }
        y.silu().unwrap()
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
            let got = norm.on_cpu(&x, modulation.clone(), &progress).unwrap();
            let want = plain(&norm, &x, modulation);
            assert!(difference(&got, &want) < 1e-5);
        }
        assert!(norm.forward(x.into(), None, true, &progress).is_err());
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        d.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn frames_apart_equal_the_whole_and_stay_below_the_limit() {
        let slots = Cell::new(0);
        let (x, z) = (wave(&[5, 6, 4, 8], 0.11), wave(&[3, 2, 2, 4], 0.23));
        let progress = Progress::none();
        // From one row a band to whole frames.
        for elements in [100, 150, 1 << 20] {
            let limit = OperandLimit::new(elements);
            let builder = Builder {
                limit: Some(&limit),
                ..builder(&slots)
            };
            let apart = |x: &Tensor| {
                let frames = (0..x.dim(0).unwrap()).map(|index| {
                    let frame = x.narrow(0, index, 1).unwrap();
                    Bands::upload(&frame, &Device::Cpu, DType::F32, &limit).unwrap()
                });
                Activation::Frames(frames.collect())
            };
            for split in [true, false] {
                for latent in [None, Some(&z)] {
                    let norm = match latent {
                        Some(_) => Norm::spatial(&builder, 6, 2).unwrap(),
                        None => Norm::plain(&builder.pp("norm_layer"), 6).unwrap(),
                    };
                    let modulation = latent.map(|z| {
                        let Some((y, b)) = &norm.spatial else {
                            panic!("a plain norm");
                        };
                        let still = |conv: &Conv| {
                            let Activation::Frames(frames) = apart(z) else {
                                panic!("not apart");
                            };
                            let frames = frames.iter().map(|z| conv.frame(z, &progress).unwrap());
                            Activation::Frames(frames.collect()).into_tensor().unwrap()
                        };
                        (still(y), still(b), frame_map(5, 3, split))
                    });
                    let want = plain(&norm, &x, modulation);
                    let latent = latent.map(apart);
                    let got = norm.forward(apart(&x), latent.as_ref(), split, &progress);
                    let got = got.unwrap().into_tensor().unwrap();
                    assert!(difference(&got, &want) < 1e-5, "{elements} elements");
                }
            }
            assert!(limit.operations() > 0 && limit.largest() < elements);
        }
    }

    #[test]
    fn moments_do_not_lose_a_small_deviation_around_a_large_mean() {
        let x = (wave(&[3, 6, 4, 8], 0.11) + 300.0).unwrap();
        let mut moments = Moments {
            groups: 3,
            parts: Vec::new(),
        };
        let limit = OperandLimit::new(150);
        for index in 0..3 {
            let frame = x.narrow(0, index, 1).unwrap();
            let frame = Bands::upload(&frame, &Device::Cpu, DType::F32, &limit).unwrap();
            moments.add(&frame).unwrap();
        }
        let groups = x.reshape((3, 3, 64)).unwrap().to_vec3::<f32>().unwrap();
        for (group, (mean, variance)) in moments.finish().unwrap().into_iter().enumerate() {
            let values = || {
                groups
                    .iter()
                    .flat_map(|frame| &frame[group])
                    .map(|v| f64::from(*v))
            };
            let want_mean = values().sum::<f64>() / 192.0;
            let want = values().map(|v| (v - want_mean).powi(2)).sum::<f64>() / 192.0;
            assert!((mean - want_mean).abs() < 1e-4, "{mean} {want_mean}");
            assert!((variance / want - 1.0).abs() < 1e-4, "{variance} {want}");
        }
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
