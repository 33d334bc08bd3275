//! The causal 3D VAE: frames to latents of an eighth of the size and a quarter of the frames, and back.
//!
//! Clips go through in chunks; causal convolutions remember the last frames of the chunk before. [`Encoding`] and
//! [`Decoding`] take a clip chunk by chunk, [`Vae::encode`] and [`Vae::decode`] a whole one.

pub mod chunks;
pub mod conv;
pub mod decoder;
pub mod encoder;
mod enlarge;
pub mod norm;
pub mod resblock;
mod taps;
pub mod tiles;

use std::cell::Cell;
use std::ops::Deref;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::progress::{Event, Progress};
use conv::{Builder, Cache, Pass, activation_dtype};
use decoder::{Decoder, DecoderTap};
use encoder::Encoder;

/// Levels on which time is reduced to half too.
pub(crate) const TIME_LEVELS: usize = 2;

/// Latent columns by which the release extends its column tiles on each side.
pub const TILE_OVERLAP: usize = 16;

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

/// A VAE with its weights. Cheap to share; all state of a clip is in [`Encoding`] and [`Decoding`].
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    /// Absent where clips are only generated.
    encoder: Option<Encoder>,
    decoder: Decoder,
    device: Device,
    dtype: DType,
}

impl Vae {
    /// Loads a VAE with the release's number of groups, whose names begin with `encoder.` and `decoder.`; the encoder may
    /// be absent.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming all tensors that are missing or of another shape; [`Error::Cancelled`].
    pub fn load(weights: &Weights) -> Result<Self> {
        Self::load_with_groups(weights, VaeConfig::GROUPS)
    }

    /// As [`load`](Self::load) with normalisations of `groups` groups, which no tensor tells.
    ///
    /// # Errors
    /// As [`load`](Self::load), and [`Error::Invalid`] when a level's channels cannot be cut into so many groups.
    pub fn load_with_groups(weights: &Weights, groups: usize) -> Result<Self> {
        let config = VaeConfig {
            groups,
            ..VaeConfig::infer(weights)?
        };
        let slots = Cell::new(0);
        let builder = |name: &str| Builder {
            weights: weights.pp(name),
            slots: &slots,
            groups: config.groups,
        };
        let vae = Self {
            encoder: (config.base > 0)
                .then(|| Encoder::new(&builder("encoder"), &config))
                .transpose()?,
            decoder: Decoder::new(&builder("decoder"), &config)?,
            device: weights.device().clone(),
            dtype: activation_dtype(weights),
            config,
        };
        weights.finish()?;
        Ok(vae)
    }

    /// The sizes.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Encodes a whole clip `[1, 3, frames, height, width]` in -1..=1 in chunks of 17, 16, 16, … frames to moments
    /// `[1, 2 * channels, latent frames, h, w]`: means, then log-variances. Height and width must be multiples of
    /// [`VaeConfig::space_factor`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for other sizes or without an encoder, [`Error::Cancelled`], or a failed tensor operation.
    pub fn encode(&self, clip: &Tensor, progress: &Progress) -> Result<Tensor> {
        let (_, _, frames, _, _) = clip.dims5()?;
        let chunks = chunks::encode(frames);
        let mut encoding = Encoding::new(self);
        let mut parts = Vec::with_capacity(chunks.len());
        started(progress, "encode", chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            let more = index + 1 < chunks.len();
            parts.push(encoding.push(
                &clip.narrow(2, chunk.start, chunk.len())?,
                more,
                progress,
            )?);
            advanced(progress, "encode", index);
        }
        finished(progress, "encode");
        join(parts)
    }

    /// Encodes a whole clip in one chunk, which gives slightly other numbers than [`encode`](Self::encode).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_at_once(&self, clip: &Tensor, progress: &Progress) -> Result<Tensor> {
        Encoding::new(self).push(clip, false, progress)
    }

    /// Decodes a whole latent `[1, channels, latent frames, h, w]` in chunks of 3, 2, 2, … latent frames to
    /// `[1, 3, frames, height, width]`, about -1..=1. `t` latent frames become `4 (t - 1) + 1` frames for any `t`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other sizes, [`Error::Cancelled`], or a failed tensor operation.
    pub fn decode(&self, latent: &Tensor, progress: &Progress) -> Result<Tensor> {
        self.decode_tapped(latent, progress, &mut |_, _| Ok(()))
    }

    /// As [`decode`](Self::decode); `tap` sees the activations of every chunk.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_tapped(
        &self,
        latent: &Tensor,
        progress: &Progress,
        tap: &mut dyn FnMut(DecoderTap, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let mut parts = Vec::new();
        self.decode_chunks(latent, progress, tap, &mut |frames| {
            parts.push(frames);
            Ok(())
        })?;
        join(parts)
    }

    /// As [`decode`](Self::decode), but `each` gets the frames of every chunk as soon as they are there, so that they are
    /// never in memory all at once.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and those of `each`.
    pub fn decode_each(
        &self,
        latent: &Tensor,
        progress: &Progress,
        mut each: impl FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        self.decode_chunks(latent, progress, &mut |_, _| Ok(()), &mut each)
    }

    fn decode_chunks(
        &self,
        latent: &Tensor,
        progress: &Progress,
        tap: &mut dyn FnMut(DecoderTap, &Tensor) -> Result<()>,
        each: &mut dyn FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        let (_, _, latents, _, _) = latent.dims5()?;
        let chunks = chunks::decode(latents);
        let mut decoding = Decoding::new(self);
        started(progress, "decode", chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            let more = index + 1 < chunks.len();
            let chunk = latent.narrow(2, chunk.start, chunk.len())?;
            each(decoding.push_tapped(&chunk, more, progress, tap)?)?;
            advanced(progress, "decode", index);
        }
        finished(progress, "decode");
        Ok(())
    }

    /// As [`decode`](Self::decode), in `count` column tiles that are decoded one after another, each with `overlap`
    /// more latent columns on a side, and put together without blending. The release decodes Stage II in two.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_tiled(
        &self,
        latent: &Tensor,
        count: usize,
        overlap: usize,
        progress: &Progress,
    ) -> Result<Tensor> {
        let width = latent.dim(4)?;
        let factor = self.config.space_factor();
        let mut parts = Vec::with_capacity(count);
        for tile in tiles::columns(width, count, overlap) {
            let columns = latent.narrow(4, tile.decoded.start, tile.decoded.len())?;
            let frames = self.decode(&columns, progress)?;
            let start = (tile.kept.start - tile.decoded.start) * factor;
            parts.push(frames.narrow(4, start, tile.kept.len() * factor)?);
        }
        if parts.is_empty() {
            return Err(Error::invalid(
                "a latent without columns, or no tiles, to decode",
            ));
        }
        Ok(Tensor::cat(&parts, 4)?)
    }
}

fn started(progress: &Progress, step: &'static str, total: usize) {
    progress.emit(Event::Started {
        step,
        total: Some(total as u64),
    });
}

fn advanced(progress: &Progress, step: &'static str, index: usize) {
    progress.emit(Event::Advanced {
        step,
        done: index as u64 + 1,
    });
}

fn finished(progress: &Progress, step: &'static str) {
    progress.emit(Event::Finished { step });
}

fn join(parts: Vec<Tensor>) -> Result<Tensor> {
    if parts.is_empty() {
        return Err(Error::invalid("a clip without frames"));
    }
    Ok(Tensor::cat(&parts, 2)?)
}

/// `[1, channels, frames, height, width]` to `[frames, channels, height, width]`.
fn by_frame(clip: &Tensor, vae: &Vae, channels: usize, multiple: usize) -> Result<Tensor> {
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
    Ok(frames
        .to_device(&vae.device)?
        .to_dtype(vae.dtype)?
        .contiguous()?)
}

/// `[frames, channels, height, width]` to `[1, channels, frames, height, width]`.
fn by_channel(frames: &Tensor) -> Result<Tensor> {
    Ok(frames.transpose(0, 1)?.unsqueeze(0)?)
}

/// A clip on its way through the encoder.
#[derive(Debug)]
pub struct Encoding<'a> {
    vae: &'a Vae,
    cache: Cache,
}

impl<'a> Encoding<'a> {
    /// The beginning of a clip.
    pub fn new(vae: &'a Vae) -> Self {
        Self {
            vae,
            cache: Cache::default(),
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
        let moments = encoder.forward(&frames, &mut pass)?;
        if !more {
            self.cache.clear();
        }
        by_channel(&moments)
    }
}

/// A latent on its way through the decoder that `V` points to.
#[derive(Debug)]
pub struct Decoding<V> {
    vae: V,
    cache: Cache,
    begun: bool,
}

impl<V: Deref<Target = Vae>> Decoding<V> {
    /// The beginning of a clip.
    pub fn new(vae: V) -> Self {
        Self {
            vae,
            cache: Cache::default(),
            begun: false,
        }
    }

    /// Decodes the next chunk `[1, channels, latent frames, h, w]`; without `more` the clip ends with it.
    ///
    /// # Errors
    /// As [`Vae::decode`].
    pub fn push(&mut self, chunk: &Tensor, more: bool, progress: &Progress) -> Result<Tensor> {
        self.push_tapped(chunk, more, progress, &mut |_, _| Ok(()))
    }

    fn push_tapped(
        &mut self,
        chunk: &Tensor,
        more: bool,
        progress: &Progress,
        tap: &mut dyn FnMut(DecoderTap, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let latent = by_frame(chunk, &self.vae, self.vae.config.latent, 1)?;
        let mut pass = Pass {
            cache: &mut self.cache,
            more,
            split: !self.begun,
            progress,
        };
        let frames = self.vae.decoder.forward_tapped(&latent, &mut pass, tap)?;
        self.begun = more;
        if !more {
            self.cache.clear();
        }
        by_channel(&frames)
    }
}

/// A latent `mean + exp(logvar / 2) * noise` from moments `[1, 2 * channels, frames, h, w]`, log-variances limited to
/// -30..=20.
///
/// # Errors
/// A failed tensor operation: `noise` must have the shape of the mean.
pub fn sample_posterior(moments: &Tensor, noise: &Tensor) -> Result<Tensor> {
    let channels = moments.dim(1)? / 2;
    let mean = moments.narrow(1, 0, channels)?;
    let deviation = (moments
        .narrow(1, channels, channels)?
        .clamp(-30f32, 20f32)?
        * 0.5)?
        .exp()?;
    Ok((mean + (deviation * noise.to_dtype(moments.dtype())?)?)?)
}

/// Decoded frames `[1, 3, frames, height, width]`, about -1..=1, as `[frames, height, width, 3]` in 0..=255.
///
/// # Errors
/// A failed tensor operation.
pub fn to_bytes_range(frames: &Tensor) -> Result<Tensor> {
    let frames = frames.squeeze(0)?.permute((1, 2, 3, 0))?.contiguous()?;
    Ok(((((frames + 1.0)? / 2.0)?.clamp(0f32, 1f32))? * 255.0)?)
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

    #[test]
    fn bytes_are_clamped() {
        let frames = Tensor::new(&[-2f32, 0.0, 1.5], &Device::Cpu).unwrap();
        let frames = frames.reshape((1, 3, 1, 1, 1)).unwrap();
        let bytes = to_bytes_range(&frames).unwrap().flatten_all().unwrap();
        assert_eq!(bytes.to_vec1::<f32>().unwrap(), [0.0, 127.5, 255.0]);
    }
}
