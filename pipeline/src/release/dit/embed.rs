// SPDX-License-Identifier: MPL-2.0
//! What goes into the blocks: time embeddings and patches.

use candle_core::{DType, Device, Tensor};

use super::config::{DitConfig, Grid};
use crate::checkpoint::Weights;
use crate::error::Result;
use crate::linear::Linear;

const MAX_PERIOD: f64 = 10_000.0;

/// The sinusoidal embedding of `t` in `dim` features: cosines, then sines, then a zero when `dim` is odd.
pub fn sinusoid(t: f64, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    // Every value is a float32 like the reference's, but correctly rounded: at t = 1000 the last bit of a frequency is
    // visible, and exponentials of math libraries differ there.
    let angles: Vec<f64> = (0..half)
        .map(|k| {
            let exponent = -MAX_PERIOD.ln() as f32 * k as f32 / half as f32;
            let frequency = f64::from(exponent).exp() as f32;
            f64::from(t as f32 * frequency)
        })
        .collect();
    let cos = angles.iter().map(|a| a.cos() as f32);
    let sin = angles.iter().map(|a| a.sin() as f32);
    cos.chain(sin)
        .chain((dim % 2 == 1).then_some(0.0))
        .collect()
}

/// Linear, SiLU, linear over the sinusoidal embedding of a number.
#[derive(Debug)]
pub(super) struct NumberEmbedding {
    dim: usize,
    first: Linear,
    second: Linear,
}

impl NumberEmbedding {
    /// `0` and `2` below `weights`.
    pub fn new(weights: &Weights, config: &DitConfig) -> Result<Self> {
        Ok(Self {
            dim: config.hidden,
            first: weights.pp(0).linear(config.hidden, config.time_dim)?,
            second: weights.pp(2).linear(config.time_dim, config.time_dim)?,
        })
    }

    /// `[1, time_dim]`.
    pub fn forward(&self, number: f64, device: &Device, dtype: DType) -> Result<Tensor> {
        let x =
            Tensor::from_vec(sinusoid(number, self.dim), (1, self.dim), device)?.to_dtype(dtype)?;
        self.second.forward(&self.first.forward(&x)?.silu()?)
    }
}

/// Latent patches and text features to tokens.
#[derive(Debug)]
pub(super) struct PatchEmbedding {
    image: Linear,
    text: Linear,
    patch: usize,
}

impl PatchEmbedding {
    pub fn new(weights: &Weights, config: &DitConfig) -> Result<Self> {
        let (d, c, p) = (config.hidden, config.in_channels, config.patch);
        let proj = weights.pp("proj");
        let kernel = proj.get((d, c, p, p), "weight")?.reshape((d, c * p * p))?;
        Ok(Self {
            image: Linear::new(kernel, Some(proj.get(d, "bias")?)),
            text: weights.pp("text_proj").linear(config.text_dim, d)?,
            patch: p,
        })
    }

    /// `latent` `[frames, channels, height, width]` and `text` `[length, text_dim]` to tokens `[length + image, hidden]`,
    /// text first.
    pub fn forward(&self, latent: &Tensor, text: &Tensor, grid: Grid) -> Result<Tensor> {
        let (p, channels) = (self.patch, latent.dim(1)?);
        let patches = latent
            .reshape((grid.frames, channels, grid.rows, p, grid.columns, p))?
            .permute((0, 2, 4, 1, 3, 5))?
            .contiguous()?
            .reshape((grid.tokens(), channels * p * p))?;
        Ok(Tensor::cat(
            &[&self.text.forward(text)?, &self.image.forward(&patches)?],
            0,
        )?)
    }
}

/// Image tokens `[tokens, channels * patch * patch]` to a latent `[frames, channels, height, width]`.
///
/// # Errors
/// A failed tensor operation.
pub(super) fn unpatchify(tokens: &Tensor, grid: Grid, config: &DitConfig) -> Result<Tensor> {
    let (p, channels) = (config.patch, config.out_channels);
    Ok(tokens
        .reshape((grid.frames, grid.rows, grid.columns, channels, p, p))?
        .permute((0, 3, 1, 4, 2, 5))?
        .contiguous()?
        .reshape((grid.frames, channels, grid.rows * p, grid.columns * p))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_come_first() {
        let even = sinusoid(1.0, 4);
        let want = [1f32.cos(), 0.01f32.cos(), 1f32.sin(), 0.01f32.sin()];
        assert!(even.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-7));
        let odd = sinusoid(3.0, 7);
        assert_eq!((odd.len(), odd[6]), (7, 0.0));
    }
}
