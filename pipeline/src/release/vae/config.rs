// SPDX-License-Identifier: MPL-2.0
//! The sizes of a VAE, told from its weights.

use super::TIME_LEVELS;
use crate::checkpoint::Weights;
use crate::error::{Error, Result};

/// The sizes of a VAE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaeConfig {
    /// Colour channels, 3.
    pub colours: usize,
    /// Latent channels.
    pub latent: usize,
    /// Channels after the encoder's first convolution; 0 without an encoder.
    pub base: usize,
    /// Channels of the encoder's levels, highest resolution first; none without an encoder.
    pub encoder_channels: Vec<usize>,
    /// Residual blocks on each level of the encoder.
    pub encoder_blocks: Vec<usize>,
    /// Channels of the decoder's levels, highest resolution first.
    pub decoder_channels: Vec<usize>,
    /// Residual blocks on each level of the decoder.
    pub decoder_blocks: Vec<usize>,
    /// Groups of the normalisations.
    pub groups: usize,
}

impl VaeConfig {
    /// Groups of the release.
    pub const GROUPS: usize = 32;

    /// The sizes of the VAE in `weights`, told from the shapes of its tensors.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the tensors that tell the sizes are missing.
    pub fn infer(weights: &Weights) -> Result<Self> {
        let shape = |name: &str, rank: usize| match weights.shape(name) {
            Some(shape) if shape.len() == rank => Ok(shape),
            found => Err(Error::checkpoint(
                weights.checkpoint().path(),
                format!(
                    "not a causal 3D VAE: {name} should have {rank} dimensions, found {found:?}"
                ),
            )),
        };
        let output = shape("decoder.conv_out.conv.weight", 5)?;
        let latent = shape("decoder.conv_in.conv.weight", 5)?;
        // Who only generates needs no encoder.
        let base = match weights.contains("encoder.conv_in.conv.weight") {
            true => shape("encoder.conv_in.conv.weight", 5)?[0],
            false => 0,
        };
        let channels = |side: &str| {
            (0..weights.count(side))
                .map(|level| Ok(shape(&format!("{side}.{level}.block.0.conv1.conv.weight"), 5)?[0]))
                .collect::<Result<Vec<_>>>()
        };
        let blocks = |side: &str| {
            (0..weights.count(side))
                .map(|level| weights.count(&format!("{side}.{level}.block")))
                .collect()
        };
        let config = Self {
            colours: output[0],
            latent: latent[1],
            base,
            encoder_channels: channels("encoder.down")?,
            encoder_blocks: blocks("encoder.down"),
            decoder_channels: channels("decoder.up")?,
            decoder_blocks: blocks("decoder.up"),
            groups: Self::GROUPS,
        };
        if config.decoder_channels.is_empty()
            || (base > 0 && config.encoder_channels.len() != config.decoder_channels.len())
        {
            return Err(Error::checkpoint(
                weights.checkpoint().path(),
                format!(
                    "an encoder of {} levels and a decoder of {}; a decoder is needed, and an encoder has as many",
                    config.encoder_channels.len(),
                    config.decoder_channels.len()
                ),
            ));
        }
        Ok(config)
    }

    /// By how much width and height are reduced.
    pub fn space_factor(&self) -> usize {
        1 << self.decoder_channels.len().saturating_sub(1)
    }

    /// By how much the number of frames is reduced, after the first one.
    pub fn time_factor(&self) -> usize {
        1 << TIME_LEVELS.min(self.decoder_channels.len().saturating_sub(1))
    }

    /// Latent frames of a clip of `frames` frames.
    pub fn latent_frames(&self, frames: usize) -> usize {
        frames.saturating_sub(1).div_ceil(self.time_factor()) + usize::from(frames > 0)
    }

    /// Frames that `latents` latent frames decode to.
    pub fn frames(&self, latents: usize) -> usize {
        latents.saturating_sub(1) * self.time_factor() + usize::from(latents > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_counts() {
        let config = VaeConfig {
            colours: 3,
            latent: 16,
            base: 128,
            encoder_channels: vec![128, 256, 256, 512],
            encoder_blocks: vec![3; 4],
            decoder_channels: vec![128, 256, 256, 512],
            decoder_blocks: vec![4; 4],
            groups: 32,
        };
        assert_eq!((config.space_factor(), config.time_factor()), (8, 4));
        for (frames, latents) in [(0, 0), (1, 1), (2, 2), (5, 2), (17, 5), (49, 13)] {
            assert_eq!(config.latent_frames(frames), latents);
            assert!(config.frames(latents) >= frames);
        }
        assert_eq!(config.frames(13), 49);
    }
}
