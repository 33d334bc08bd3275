// SPDX-License-Identifier: MPL-2.0
//! The causal 3D VAE: frames to latents of an eighth of the size and a quarter of the frames, and back.
//!
//! Clips go through in chunks; causal convolutions remember the last frames of the chunk before. [`Encoding`] and
//! [`Decoding`] take a clip chunk by chunk, [`Vae::encode`] and [`Vae::decode`] a whole one.

pub mod activation;
mod banded;
pub mod chunks;
mod coding;
mod config;
pub mod conv;
pub mod decoder;
pub mod encoder;
mod enlarge;
pub mod norm;
pub mod resblock;
mod sizes;
mod tap_products;
pub mod tiles;

use std::cell::Cell;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::plan::operands::OperandLimit;
use crate::progress::{Event, Progress};
use conv::{Builder, activation_dtype};
use decoder::{Decoder, DecoderProbe};
use encoder::Encoder;

pub use coding::{Decoding, Encoding};
pub use config::VaeConfig;
pub use sizes::Keeping;

/// Levels on which time is reduced to half too.
const TIME_LEVELS: usize = 2;

/// Latent columns by which the release extends its column tiles on each side.
pub const TILE_OVERLAP: usize = 16;

/// A VAE with its weights. Cheap to share; all state of a clip is in [`Encoding`] and [`Decoding`].
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    /// Absent where clips are only generated.
    encoder: Option<Encoder>,
    decoder: Decoder,
    device: Device,
    dtype: DType,
    /// Where frames go through apart.
    limit: Option<OperandLimit>,
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
        Self::load_limited(weights, groups, OperandLimit::of(weights.device()))
    }

    /// As [`load_with_groups`](Self::load_with_groups); with a `limit` frames go through apart, as on a GPU.
    pub(crate) fn load_limited(
        weights: &Weights,
        groups: usize,
        limit: Option<OperandLimit>,
    ) -> Result<Self> {
        let config = VaeConfig {
            groups,
            ..VaeConfig::infer(weights)?
        };
        let slots = Cell::new(0);
        let builder = |name: &str| Builder {
            weights: weights.pp(name),
            slots: &slots,
            groups: config.groups,
            limit: limit.as_ref(),
        };
        let vae = Self {
            encoder: (config.base > 0)
                .then(|| Encoder::new(&builder("encoder"), &config))
                .transpose()?,
            decoder: Decoder::new(&builder("decoder"), &config)?,
            device: weights.device().clone(),
            dtype: activation_dtype(weights),
            config,
            limit,
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

    /// Whether decoding latent frames of `height` x `width` positions takes more than `limit` bytes beside the weights
    /// unless it is frugal; never on the CPU, where being frugal changes nothing.
    pub fn is_tight(&self, (height, width): (usize, usize), limit: Option<u64>) -> bool {
        let keeping = Keeping {
            apart: true,
            element: self.dtype.size_in_bytes(),
            frugal: false,
        };
        let size = (height, width);
        let bytes = self
            .config
            .decoding_bytes(chunks::DECODE_FIRST, true, size, keeping)
            + self.config.decoder_memory(size, keeping.element);
        self.limit.is_some() && limit.is_some_and(|limit| limit < bytes)
    }

    /// Encodes a whole clip `[1, 3, frames, height, width]` in -1..=1 in chunks of 17, 16, 16, … frames to moments
    /// `[1, 2 * channels, latent frames, h, w]`: means, then log-variances. Height and width must be multiples of
    /// [`VaeConfig::space_factor`]. The moments of a GPU are f32 on the CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other sizes or without an encoder, [`Error::Cancelled`], or a failed tensor operation.
    pub fn encode(&self, clip: &Tensor, progress: &Progress) -> Result<Tensor> {
        self.encode_tiled(clip, Tiling::default(), progress)
    }

    /// As [`encode`](Self::encode), in column tiles that are encoded one after another, each with more columns on its
    /// sides, and put together without blending. More than one give slightly other numbers.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_tiled(
        &self,
        clip: &Tensor,
        tiling: Tiling,
        progress: &Progress,
    ) -> Result<Tensor> {
        let (_, _, frames, _, width) = clip.dims5()?;
        let factor = self.config.space_factor();
        let chunks = chunks::encode(frames);
        let tiles = tiling.tiles(width / factor)?;
        started(progress, "encode", tiles.len() * chunks.len());
        let mut strips = Vec::with_capacity(tiles.len());
        for (number, tile) in tiles.iter().enumerate() {
            let (first, count) = (tile.decoded.start * factor, tile.decoded.len() * factor);
            let columns = clip.narrow(4, first, count)?;
            let mut encoding = Encoding::new(self, tiling.frugal);
            let mut parts = Vec::with_capacity(chunks.len());
            for (index, chunk) in chunks.iter().enumerate() {
                let more = index + 1 < chunks.len();
                let chunk = columns.narrow(2, chunk.start, chunk.len())?;
                parts.push(encoding.push(&chunk, more, progress)?);
                advanced(progress, "encode", number * chunks.len() + index);
            }
            strips.push(tile.kept_of(&join(parts)?, 1)?);
        }
        finished(progress, "encode");
        Ok(Tensor::cat(&strips, 4)?)
    }

    /// Encodes a whole clip in one chunk, which gives slightly other numbers than [`encode`](Self::encode).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_at_once(&self, clip: &Tensor, progress: &Progress) -> Result<Tensor> {
        Encoding::new(self, false).push(clip, false, progress)
    }

    /// Decodes a whole latent `[1, channels, latent frames, h, w]` in chunks of 3, 2, 2, … latent frames to
    /// `[1, 3, frames, height, width]`, about -1..=1. `t` latent frames become `4 (t - 1) + 1` frames for any `t`. The
    /// frames of a GPU are f32 on the CPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other sizes, [`Error::Cancelled`], or a failed tensor operation.
    pub fn decode(&self, latent: &Tensor, progress: &Progress) -> Result<Tensor> {
        let mut parts = Vec::new();
        self.decode_each(latent, false, progress, |frames| {
            parts.push(frames);
            Ok(())
        })?;
        join(parts)
    }

    /// As [`decode`](Self::decode); `probe` sees the activations of every chunk.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and those of `probe`.
    pub fn decode_probed(
        &self,
        latent: &Tensor,
        progress: &Progress,
        probe: &mut DecoderProbe<'_>,
    ) -> Result<Tensor> {
        let mut parts = Vec::new();
        self.decode_chunks(latent, false, progress, Some(probe), &mut |frames| {
            parts.push(frames);
            Ok(())
        })?;
        join(parts)
    }

    /// As [`decode`](Self::decode), but `each` gets the frames of every chunk as soon as they are there, so that they are
    /// never in memory all at once. `frugal` as in [`Cache::new`](conv::Cache::new).
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and those of `each`.
    pub fn decode_each(
        &self,
        latent: &Tensor,
        frugal: bool,
        progress: &Progress,
        mut each: impl FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        self.decode_chunks(latent, frugal, progress, None, &mut each)
    }

    fn decode_chunks(
        &self,
        latent: &Tensor,
        frugal: bool,
        progress: &Progress,
        mut probe: Option<&mut DecoderProbe<'_>>,
        each: &mut dyn FnMut(Tensor) -> Result<()>,
    ) -> Result<()> {
        let (_, _, latents, _, _) = latent.dims5()?;
        let chunks = chunks::decode(latents);
        let mut decoding = Decoding::new(self, frugal);
        started(progress, "decode", chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            let more = index + 1 < chunks.len();
            let chunk = latent.narrow(2, chunk.start, chunk.len())?;
            let probe = probe.as_deref_mut();
            each(decoding.push_probed(&chunk, more, progress, probe)?)?;
            advanced(progress, "decode", index);
        }
        finished(progress, "decode");
        Ok(())
    }

    /// As [`decode`](Self::decode), in column tiles that are decoded one after another and put together without
    /// blending. The release decodes Stage II in two that have [`TILE_OVERLAP`] more latent columns on a side.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_tiled(
        &self,
        latent: &Tensor,
        tiling: Tiling,
        progress: &Progress,
    ) -> Result<Tensor> {
        let tiles = tiling.tiles(latent.dim(4)?)?;
        let mut strips = Vec::with_capacity(tiles.len());
        for tile in tiles {
            let columns = latent.narrow(4, tile.decoded.start, tile.decoded.len())?;
            let mut parts = Vec::new();
            self.decode_each(&columns, tiling.frugal, progress, |frames| {
                parts.push(frames);
                Ok(())
            })?;
            strips.push(tile.kept_of(&join(parts)?, self.config.space_factor())?);
        }
        Ok(Tensor::cat(&strips, 4)?)
    }
}

/// How a clip is cut up on its way through the VAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Column tiles, one after another; one is the whole picture.
    pub columns: usize,
    /// Latent columns by which tiles are extended on each side.
    pub overlap: usize,
    /// As in [`Cache::new`](conv::Cache::new).
    pub frugal: bool,
}

impl Default for Tiling {
    /// Whole pictures, with all memory that this takes.
    fn default() -> Self {
        Self::columns(1)
    }
}

impl Tiling {
    /// Column tiles that overlap as those of the release.
    pub fn columns(columns: usize) -> Self {
        Self {
            columns,
            overlap: TILE_OVERLAP,
            frugal: false,
        }
    }

    /// The tiles of `width` latent columns.
    fn tiles(self, width: usize) -> Result<Vec<tiles::Tile>> {
        let tiles = tiles::columns(width, self.columns, self.overlap);
        if tiles.is_empty() {
            return Err(Error::invalid(
                "a clip without columns, or no tiles, for the VAE",
            ));
        }
        Ok(tiles)
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
    fn bytes_are_clamped() {
        let frames = Tensor::new(&[-2f32, 0.0, 1.5], &Device::Cpu).unwrap();
        let frames = frames.reshape((1, 3, 1, 1, 1)).unwrap();
        let bytes = to_bytes_range(&frames).unwrap().flatten_all().unwrap();
        assert_eq!(bytes.to_vec1::<f32>().unwrap(), [0.0, 127.5, 255.0]);
    }
}
