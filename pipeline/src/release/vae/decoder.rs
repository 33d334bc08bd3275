// SPDX-License-Identifier: MPL-2.0
//! The decoder: latents to frames.

use candle_core::Tensor;

use super::activation::Activation;
use super::conv::{Builder, Conv, Pass};
use super::enlarge;
use super::norm::Norm;
use super::resblock::ResBlock;
use super::{TIME_LEVELS, VaeConfig};
use crate::error::Result;

/// Resolution levels of residual blocks, lowest first, each but the last followed by a doubling of the size.
#[derive(Debug)]
pub struct Decoder {
    conv_in: Conv,
    middle: [ResBlock; 2],
    levels: Vec<Level>,
    norm_out: Norm,
    conv_out: Conv,
}

#[derive(Debug)]
struct Level {
    /// As in the file, where 0 is the highest resolution.
    number: usize,
    blocks: Vec<ResBlock>,
    up: Option<Conv>,
    doubles_time: bool,
}

/// Sees activations of the decoder.
pub type DecoderProbe<'a> = dyn FnMut(DecoderPoint, &Tensor) -> Result<()> + 'a;

/// Where a [`DecoderProbe`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderPoint {
    /// After the first convolution.
    ConvIn,
    /// After a middle block, 1 or 2.
    Middle(usize),
    /// After the last block of a level.
    LastBlock(usize),
    /// After the enlargement of a level.
    Upsample(usize),
}

impl Decoder {
    pub(super) fn new(builder: &Builder<'_>, config: &VaeConfig) -> Result<Self> {
        let count = config.decoder_channels.len();
        let mut channels = config
            .decoder_channels
            .last()
            .copied()
            .unwrap_or(config.base);
        let latent = Some(config.latent);
        let conv_in = Conv::causal(&builder.pp("conv_in"), config.latent, channels, 3)?;
        let middle =
            |name: &str| ResBlock::new(&builder.pp("mid").pp(name), channels, channels, latent);
        let middle = [middle("block_1")?, middle("block_2")?];
        let mut levels = Vec::with_capacity(count);
        let sizes = config.decoder_channels.iter().zip(&config.decoder_blocks);
        for (number, (&outputs, &repeats)) in sizes.enumerate().rev() {
            let level = builder.pp("up").pp(number);
            let mut blocks = Vec::with_capacity(repeats);
            for block in 0..repeats {
                blocks.push(ResBlock::new(
                    &level.pp("block").pp(block),
                    channels,
                    outputs,
                    latent,
                )?);
                channels = outputs;
            }
            levels.push(Level {
                number,
                blocks,
                up: (number > 0)
                    .then(|| Conv::spatial(&level.pp("upsample"), channels, 1, (1, 1)))
                    .transpose()?,
                doubles_time: number > 0 && number + TIME_LEVELS >= count,
            });
        }
        Ok(Self {
            conv_in,
            middle,
            levels,
            norm_out: Norm::spatial(&builder.pp("norm_out"), channels, config.latent)?,
            conv_out: Conv::causal(&builder.pp("conv_out"), channels, config.colours, 3)?,
        })
    }

    /// A chunk of latent frames `[channels, h, w]` to frames `[3, height, width]`, about -1..=1. The first latent frame
    /// of a clip (with [`Pass::split`]) becomes one frame, every other one as many as time is reduced by. `probe` sees
    /// activations.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), a failed tensor operation, and those of `probe`.
    pub(super) fn forward(
        &self,
        latent: Activation,
        pass: &mut Pass<'_>,
        mut probe: Option<&mut DecoderProbe<'_>>,
    ) -> Result<Activation> {
        let mut probe = |point, x: &Activation| match &mut probe {
            Some(probe) => probe(point, &x.clone().into_tensor()?),
            None => Ok(()),
        };
        let mut x = self.conv_in.forward(latent.clone(), None, pass)?;
        probe(DecoderPoint::ConvIn, &x)?;
        for (index, block) in self.middle.iter().enumerate() {
            x = block.forward(x, Some(&latent), pass)?;
            probe(DecoderPoint::Middle(index + 1), &x)?;
        }
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(x, Some(&latent), pass)?;
            }
            probe(DecoderPoint::LastBlock(level.number), &x)?;
            if let Some(up) = &level.up {
                x = enlarge::convolved(x, up, pass)?;
                if level.doubles_time {
                    // The convolution sees single frames, so it runs before they are repeated.
                    x = double_time(x, pass.split)?;
                }
                probe(DecoderPoint::Upsample(level.number), &x)?;
            }
        }
        let x = self
            .norm_out
            .forward(x, Some(&latent), pass.split, pass.progress)?;
        self.conv_out.forward(x, None, pass)
    }
}

/// Repeats every frame; with `split` the first one stays single.
fn double_time(x: Activation, split: bool) -> Result<Activation> {
    let first = usize::from(split);
    let order = |frames: usize| (0..first).chain((first..frames).flat_map(|frame| [frame, frame]));
    Ok(match x {
        Activation::Whole(x) => {
            let order: Vec<u32> = order(x.dim(0)?).map(|frame| frame as u32).collect();
            if order.len() == x.dim(0)? {
                return Ok(x.into());
            }
            x.index_select(&Tensor::new(order, x.device())?, 0)?.into()
        }
        // Both of a pair share their values.
        Activation::Frames(frames) => {
            let order = order(frames.len());
            Activation::Frames(
                order
                    .filter_map(|frame| frames.get(frame).cloned())
                    .collect(),
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::vae::activation::Bands;
    use candle_core::Device;

    #[test]
    fn time_is_doubled_around_the_first_frame() {
        let x = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)
            .unwrap()
            .reshape((3, 1, 1, 1))
            .unwrap();
        let order = |frames, split| {
            let whole = x.narrow(0, 0, frames).unwrap();
            let apart = (0..frames).map(|index| {
                let frame = whole.narrow(0, index, 1).unwrap();
                Bands::new(vec![frame]).unwrap()
            });
            let apart = Activation::Frames(apart.collect());
            let [a, b] = [whole.into(), apart].map(|x| {
                let y = double_time(x, split).unwrap().into_tensor().unwrap();
                y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            });
            assert_eq!(a, b);
            a
        };
        assert_eq!(order(3, true), [1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(order(2, false), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(order(2, true), [1.0, 2.0, 2.0]);
        assert_eq!(order(1, true), [1.0]);
    }
}
