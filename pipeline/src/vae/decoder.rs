//! The decoder: latents to frames.

use candle_core::Tensor;

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

/// Activations that the decoder can show while it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderTap {
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

    /// A chunk of latents `[frames, channels, h, w]` to frames `[frames', 3, height, width]`, about -1..=1. The first
    /// latent frame of a clip (with [`Pass::split`]) becomes one frame, every other one as many as time is reduced by.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), or a failed tensor operation.
    pub fn forward(&self, latent: &Tensor, pass: &mut Pass<'_>) -> Result<Tensor> {
        self.forward_tapped(latent, pass, &mut |_, _| Ok(()))
    }

    /// As [`forward`](Self::forward); `tap` sees activations.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and those of `tap`.
    pub fn forward_tapped(
        &self,
        latent: &Tensor,
        pass: &mut Pass<'_>,
        tap: &mut dyn FnMut(DecoderTap, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut x = self.conv_in.forward(latent, None, pass)?;
        tap(DecoderTap::ConvIn, &x)?;
        for (index, block) in self.middle.iter().enumerate() {
            x = block.forward(&x, Some(latent), pass)?;
            tap(DecoderTap::Middle(index + 1), &x)?;
        }
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(&x, Some(latent), pass)?;
            }
            tap(DecoderTap::LastBlock(level.number), &x)?;
            if let Some(up) = &level.up {
                x = up.forward(&enlarge::twice(&x)?, None, pass)?;
                if level.doubles_time {
                    // The convolution sees single frames, so it runs before they are repeated.
                    x = double_time(&x, pass.split)?;
                }
                tap(DecoderTap::Upsample(level.number), &x)?;
            }
        }
        let x = self
            .norm_out
            .forward(&x, Some(latent), pass.split, pass.progress)?;
        self.conv_out.forward(&x, None, pass)
    }
}

/// Repeats every frame; with `split` the first one stays single.
fn double_time(x: &Tensor, split: bool) -> Result<Tensor> {
    let first = u32::from(split);
    let frames = x.dim(0)? as u32;
    let order: Vec<u32> = (0..first)
        .chain((first..frames).flat_map(|frame| [frame, frame]))
        .collect();
    if order.len() == frames as usize {
        return Ok(x.clone());
    }
    Ok(x.index_select(&Tensor::new(order, x.device())?, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn time_is_doubled_around_the_first_frame() {
        let x = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)
            .unwrap()
            .reshape((3, 1, 1, 1))
            .unwrap();
        let order = |frames, split| {
            let y = double_time(&x.narrow(0, 0, frames).unwrap(), split).unwrap();
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(order(3, true), [1.0, 2.0, 2.0, 3.0, 3.0]);
        assert_eq!(order(2, false), [1.0, 1.0, 2.0, 2.0]);
        assert_eq!(order(2, true), [1.0, 2.0, 2.0]);
        assert_eq!(order(1, true), [1.0]);
    }
}
