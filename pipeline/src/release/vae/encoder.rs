// SPDX-License-Identifier: MPL-2.0
//! The encoder: frames to the mean and log-variance of latents.

use candle_core::Tensor;

use super::activation::{Activation, Bands};
use super::conv::{Builder, Conv, Pass};
use super::norm::Norm;
use super::resblock::ResBlock;
use super::{TIME_LEVELS, VaeConfig};
use crate::error::{Error, Result};

/// Resolution levels of residual blocks, each but the last followed by a reduction to half the size.
#[derive(Debug)]
pub struct Encoder {
    conv_in: Conv,
    levels: Vec<Level>,
    middle: [ResBlock; 2],
    norm_out: Norm,
    conv_out: Conv,
}

#[derive(Debug)]
struct Level {
    blocks: Vec<ResBlock>,
    down: Option<Conv>,
    halves_time: bool,
}

impl Encoder {
    pub(super) fn new(builder: &Builder<'_>, config: &VaeConfig) -> Result<Self> {
        let mut channels = config.base;
        let conv_in = Conv::causal(&builder.pp("conv_in"), config.colours, channels, 3)?;
        let last = config.encoder_channels.len().saturating_sub(1);
        let mut levels = Vec::with_capacity(last + 1);
        let sizes = config.encoder_channels.iter().zip(&config.encoder_blocks);
        for (index, (&outputs, &count)) in sizes.enumerate() {
            let level = builder.pp("down").pp(index);
            let mut blocks = Vec::with_capacity(count);
            for block in 0..count {
                blocks.push(ResBlock::new(
                    &level.pp("block").pp(block),
                    channels,
                    outputs,
                    None,
                )?);
                channels = outputs;
            }
            levels.push(Level {
                blocks,
                down: (index < last)
                    .then(|| Conv::spatial(&level.pp("downsample"), channels, 2, (0, 1)))
                    .transpose()?,
                halves_time: index < last && index < TIME_LEVELS,
            });
        }
        let middle =
            |name: &str| ResBlock::new(&builder.pp("mid").pp(name), channels, channels, None);
        Ok(Self {
            conv_in,
            levels,
            middle: [middle("block_1")?, middle("block_2")?],
            norm_out: Norm::plain(&builder.pp("norm_out"), channels)?,
            conv_out: Conv::causal(&builder.pp("conv_out"), channels, 2 * config.latent, 3)?,
        })
    }

    /// A chunk of frames `[3, height, width]` in -1..=1 to moments `[2 * channels, h, w]` of latent frames: means, then
    /// log-variances.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), or a failed tensor operation.
    pub(super) fn forward(&self, frames: Activation, pass: &mut Pass<'_>) -> Result<Activation> {
        let mut x = self.conv_in.forward(frames, None, pass)?;
        for level in &self.levels {
            for block in &level.blocks {
                x = block.forward(x, None, pass)?;
            }
            if level.halves_time {
                x = halve_time(x)?;
            }
            if let Some(down) = &level.down {
                x = down.forward(x, None, pass)?;
            }
        }
        for block in &self.middle {
            x = block.forward(x, None, pass)?;
        }
        let x = self.norm_out.forward(x, None, false, pass.progress)?;
        self.conv_out.forward(x, None, pass)
    }
}

/// Averages pairs of frames; of an odd number the first one stays as it is.
fn halve_time(x: Activation) -> Result<Activation> {
    match x {
        Activation::Whole(x) => halve_whole(&x).map(Into::into),
        Activation::Frames(frames) => {
            let mut halved = Vec::with_capacity(frames.len().div_ceil(2));
            let odd = frames.len() % 2;
            let mut frames = frames.into_iter();
            halved.extend(frames.by_ref().take(odd));
            while let (Some(a), Some(b)) = (frames.next(), frames.next()) {
                halved.push(mean(&a, &b)?);
            }
            Ok(Activation::Frames(halved))
        }
    }
}

/// The mean of two frames in the same bands.
fn mean(a: &Bands, b: &Bands) -> Result<Bands> {
    let mut others = Vec::new();
    b.each(|band| {
        others.push(band.clone());
        Ok(())
    })?;
    let mut others = others.iter();
    a.map(|_, a| match others.next() {
        Some(b) => Ok(((a + b)? * 0.5)?),
        None => Err(Error::invalid("two frames in other bands")),
    })
}

fn halve_whole(x: &Tensor) -> Result<Tensor> {
    let (frames, channels, height, width) = x.dims4()?;
    if frames == 1 {
        return Ok(x.clone());
    }
    let odd = frames % 2;
    let pairs = x
        .narrow(0, odd, frames - odd)?
        .reshape((frames / 2, 2, channels, height, width))?
        .mean(1)?;
    if odd == 0 {
        return Ok(pairs);
    }
    Ok(Tensor::cat(&[&x.narrow(0, 0, 1)?, &pairs], 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn time_is_halved_as_in_training() {
        let clip = |frames: usize| {
            let values: Vec<f32> = (0..frames).map(|i| i as f32).collect();
            Tensor::from_vec(values, (frames, 1, 1, 1), &Device::Cpu).unwrap()
        };
        for (frames, want) in [
            (1, &[0.0][..]),
            (2, &[0.5]),
            (4, &[0.5, 2.5]),
            (5, &[0.0, 1.5, 3.5]),
        ] {
            let whole = clip(frames);
            let apart = (0..frames).map(|index| {
                let frame = whole.narrow(0, index, 1).unwrap();
                Bands::new(vec![frame]).unwrap()
            });
            let apart = Activation::Frames(apart.collect());
            for x in [whole.into(), apart] {
                let got = halve_time(x).unwrap().into_tensor().unwrap();
                let got = got.flatten_all().unwrap();
                assert_eq!(got.to_vec1::<f32>().unwrap(), want);
            }
        }
    }
}
