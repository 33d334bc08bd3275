// SPDX-License-Identifier: MPL-2.0
//! Clips on their way through the VAE, chunk by chunk.

use std::ops::Deref;

use candle_core::Tensor;

use super::Vae;
use super::activation::Activation;
use super::conv::{Cache, Pass};
use super::decoder::DecoderProbe;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// The frames `[channels, height, width]` of a clip `[1, channels, frames, height, width]`, where the VAE runs.
fn by_frame(clip: &Tensor, vae: &Vae, channels: usize, multiple: usize) -> Result<Activation> {
    match *clip.dims() {
        [1, c, frames, height, width]
            if c == channels
                && frames * height * width > 0
                && height.is_multiple_of(multiple)
                && width.is_multiple_of(multiple) => {}
        ref found => {
            return Err(Error::invalid(format!(
                "the VAE takes [1, {channels}, frames, height, width], height and width multiples of {multiple}; \
                 found {found:?}"
            )));
        }
    }
    let frames = clip.squeeze(0)?.transpose(0, 1)?;
    Activation::of(&frames, &vae.device, vae.dtype, vae.limit.as_ref())
}

/// Frames `[channels, height, width]` to `[1, channels, frames, height, width]`.
fn by_channel(frames: Activation) -> Result<Tensor> {
    Ok(frames.into_tensor()?.transpose(0, 1)?.unsqueeze(0)?)
}

/// A clip on its way through the encoder.
#[derive(Debug)]
pub struct Encoding<'a> {
    vae: &'a Vae,
    cache: Cache,
}

impl<'a> Encoding<'a> {
    /// The beginning of a clip; `frugal` as in [`Cache::new`].
    pub fn new(vae: &'a Vae, frugal: bool) -> Self {
        Self {
            vae,
            cache: Cache::new(frugal),
        }
    }

    /// Encodes the next chunk `[1, 3, frames, height, width]`; without `more` the clip ends with it.
    ///
    /// # Errors
    /// As [`Vae::encode`].
    pub fn push(&mut self, chunk: &Tensor, more: bool, progress: &Progress) -> Result<Tensor> {
        let config = &self.vae.config;
        let encoder =
            self.vae.encoder.as_ref().ok_or_else(|| {
                Error::invalid("this VAE has a decoder only; it cannot read frames")
            })?;
        let frames = by_frame(chunk, self.vae, config.colours, config.space_factor())?;
        let mut pass = Pass {
            cache: &mut self.cache,
            more,
            split: false,
            progress,
        };
        let moments = encoder.forward(frames, &mut pass)?;
        if !more {
            self.cache.clear();
        }
        by_channel(moments)
    }
}

/// A latent on its way through the decoder that `V` points to. A clone goes on from the same place.
#[derive(Clone, Debug)]
pub struct Decoding<V> {
    vae: V,
    cache: Cache,
    begun: bool,
}

impl<V: Deref<Target = Vae>> Decoding<V> {
    /// The beginning of a clip; `frugal` as in [`Cache::new`].
    pub fn new(vae: V, frugal: bool) -> Self {
        Self {
            vae,
            cache: Cache::new(frugal),
            begun: false,
        }
    }

    /// Decodes the next chunk `[1, channels, latent frames, h, w]`; without `more` the clip ends with it.
    ///
    /// # Errors
    /// As [`Vae::decode`].
    pub fn push(&mut self, chunk: &Tensor, more: bool, progress: &Progress) -> Result<Tensor> {
        self.push_probed(chunk, more, progress, None)
    }

    pub(super) fn push_probed(
        &mut self,
        chunk: &Tensor,
        more: bool,
        progress: &Progress,
        probe: Option<&mut DecoderProbe<'_>>,
    ) -> Result<Tensor> {
        let latent = by_frame(chunk, &self.vae, self.vae.config.latent, 1)?;
        let mut pass = Pass {
            cache: &mut self.cache,
            more,
            split: !self.begun,
            progress,
        };
        let frames = self.vae.decoder.forward(latent, &mut pass, probe)?;
        self.begun = more;
        if !more {
            self.cache.clear();
        }
        by_channel(frames)
    }
}
