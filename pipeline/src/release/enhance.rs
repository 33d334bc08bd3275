// SPDX-License-Identifier: MPL-2.0
//! The released Stage II: a clip to a larger, sharper one.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};

use super::bilinear;
use super::colour_fix::keep_colours;
use super::extent::{MULTIPLE, Room, Shapes};
use super::guided::{FlowOptions, GuidedField};
use super::parts::{PartWeights, Parts, Placement, Stage, Turns};
use super::tiles::{TiledField, tile_size};
use crate::checkpoint::{ModelFolder, Weights};
use crate::error::{Error, Result};
use crate::flow::euler::{self, FlowTime, VelocityField};
use crate::flow::noise::{NoiseSource, Use};
use crate::plan::Budget;
use crate::progress::Progress;
use crate::release::dit::{DitConfig, Transformer};
use crate::release::vae::{Tiling, Vae, VaeConfig, sample_posterior, to_bytes_range};
use crate::runtime::{DeviceSpec, Runtime};
use crate::size::Size;

/// What latents of Stage II are multiplied by.
pub const LATENT_SCALE: f64 = 1.152_584_26;

/// How the release begins the prompts of Stage II: how much things move.
pub const MOTION: &str = "medium motion,";

/// Pixels on a side of a latent position.
const PIXELS: usize = 8;

/// Settings of one enhancement.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleasedOptions {
    /// What the clip shows.
    pub prompt: String,
    /// Size of the result, any.
    pub size: Size,
    /// Chooses the noise: the same seed gives the same clip.
    pub seed: u64,
    /// The flow.
    pub flow: FlowOptions,
    /// Longer side in pixels of the tiles that the flow works on above this size;
    /// [`TRAINED_SIDE`](super::tiles::TRAINED_SIDE) is the size that the model was trained at.
    pub tile: usize,
    /// How the clip is encoded; whole in the release.
    pub encode: Tiling,
    /// How the result is decoded; in two columns in the release.
    pub decode: Tiling,
    /// Whether brightness and tint of large areas are those of the input; the release has no such step.
    pub keep_colours: bool,
}

/// The released enhancement model. Parts are loaded when they are first needed.
#[derive(Debug)]
pub struct ReleasedEnhancer {
    parts: Parts,
}

impl ReleasedEnhancer {
    /// The model in the folder at `path`, a FlashVideo release or a converted one. Only the tokenizer is read now.
    ///
    /// With `frugal` each part is dropped as soon as the next one is needed, so that only one is in memory at a time.
    /// Without, a GPU decides that has no room for the activations beside all of them: then the text encoder, which works
    /// once for each prompt, is dropped after it, and where not even all weights fit, each part after its work.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], or [`Error::Checkpoint`] when a part is absent.
    pub fn open(path: impl AsRef<Path>, placement: &Placement, frugal: bool) -> Result<Self> {
        let path = path.as_ref();
        let turns = match frugal {
            true => Turns::All,
            false => turns(path, placement, Budget::of(placement.text.device()).limit())?,
        };
        Ok(Self {
            parts: Parts::open(path, Stage::Two, placement, turns)?,
        })
    }

    /// Drops all parts; they are read again when they are needed.
    pub fn unload(&self) {
        self.parts.unload();
    }

    /// Enhances a whole clip, frames `[frames, height, width, 3]` in 0..=255, to frames of `options.size`, float32.
    ///
    /// Numbers of frames other than 4k + 1 are filled up with copies of the last frame, sizes that are no multiples of
    /// 16 by reflection; the result has what was asked for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for impossible settings, [`Error::Checkpoint`] when a part does not load,
    /// [`Error::Cancelled`], or a failed tensor operation.
    pub fn enhance(
        &self,
        frames: &Tensor,
        options: &ReleasedOptions,
        progress: &Progress,
    ) -> Result<Tensor> {
        let (count, ..) = frames.dims4()?;
        let (latent, _) = self.latent(frames, options, Carry::default(), progress)?;
        let enhanced = self.parts.vae.runtime().install(|| {
            let vae = self.vae(progress)?;
            decode(&vae, &latent, options.decode, progress)
        })?;
        self.parts.finished(&self.parts.vae);
        let enhanced = crop(&enhanced, count, options.size)?;
        if !options.keep_colours {
            return Ok(enhanced);
        }
        let kept = (0..count).map(|index| {
            progress.check()?;
            let frame = |frames: &Tensor| frames.narrow(0, index, 1);
            keep_colours(&frame(&enhanced)?, &frame(frames)?)
        });
        Ok(Tensor::cat(&kept.collect::<Result<Vec<_>>>()?, 0)?)
    }

    /// The enhanced latent `[1, latent frames, channels, h, w]` of frames `[frames, height, width, 3]` in 0..=255, and
    /// the states of its flow.
    ///
    /// # Errors
    /// As [`enhance`](Self::enhance).
    pub fn latent(
        &self,
        frames: &Tensor,
        options: &ReleasedOptions,
        carry: Carry<'_>,
        progress: &Progress,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (count, ..) = frames.dims4()?;
        if count == 0 {
            return Err(Error::invalid("a clip without frames"));
        }
        let Size { width, height } = options.size;
        let clip = bilinear::prepare(frames, height, width)?;
        let length = (count - 1).next_multiple_of(4) + 1;
        let clip = fill_up(&clip, 2, length, |index| index.min(count - 1))?;
        let clip = fill_up(&clip, 3, height.next_multiple_of(MULTIPLE), |row| {
            reflect(row, height)
        })?;
        let clip = fill_up(&clip, 4, width.next_multiple_of(MULTIPLE), |column| {
            reflect(column, width)
        })?;

        let prompt = format!("{MOTION}{}", options.prompt);
        let context = self.parts.features(&prompt, progress)?;
        let source = NoiseSource::new(options.seed);
        let noise = |what, latent: &Tensor| -> Result<Tensor> {
            let (_, t, c, h, w) = latent.dims5()?;
            source.latent(what, carry.first, (t, c, h, w), latent.device())
        };
        let reference = self.parts.vae.runtime().install(|| {
            let vae = self.vae(progress)?;
            let moments = vae.encode_tiled(&clip, options.encode, progress)?;
            let mean = moments.narrow(1, 0, moments.dim(1)? / 2)?.transpose(1, 2)?;
            let noise = noise(Use::Posterior, &mean)?.transpose(1, 2)?;
            reference_latent(&moments, &noise)
        })?;
        self.parts.finished(&self.parts.vae);
        let mut states = Vec::with_capacity(options.flow.steps);
        let latent = self.parts.dit.runtime().install(|| {
            let dit = self.parts.dit(progress)?;
            let reference = reference.to_device(dit.device())?;
            let noise = noise(Use::Flow, &reference)?;
            let each = |at: FlowTime, x: Tensor| {
                let x = match carry.states.get(at.index) {
                    Some(before) => take_over(&x, before, carry.shared)?,
                    None => x,
                };
                states.push(x.clone());
                Ok(x)
            };
            let patch = dit.config().patch;
            let tile = tile_size(options.size, options.tile, PIXELS * patch);
            let field = TiledField::new(
                GuidedField::new(&dit, options.flow),
                Size::new(tile.width / PIXELS, tile.height / PIXELS),
                patch,
            )?;
            let start = options.flow.start(&reference, &noise)?;
            flow_from(&field, options.flow, start, &context, progress, each)
        })?;
        self.parts.finished(&self.parts.dit);
        Ok((latent, states))
    }

    /// Loads the transformer and the VAE now rather than with the first frames, unless the parts take turns.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when one does not load, [`Error::Cancelled`].
    pub fn preload(&self, progress: &Progress) -> Result<()> {
        if !self.parts.take_turns() {
            self.parts.dit(progress)?;
            self.vae(progress)?;
        }
        Ok(())
    }

    /// The sizes that decide about memory.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a part is absent or damaged.
    pub(crate) fn shapes(&self) -> Result<Shapes> {
        let weights = |checkpoint| Weights::new(checkpoint, &Device::Cpu, DType::F32);
        Ok(Shapes::new(
            DitConfig::infer(&weights(self.parts.open_dit()?))?,
            VaeConfig::infer(&weights(self.parts.open_vae()?))?,
            self.parts.vae.runtime(),
        ))
    }

    /// Estimated peak memory in bytes of enhancing windows of frames to `size` with nothing cut up, beside the weights.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a part is absent or damaged.
    pub fn memory_needed(&self, size: Size) -> Result<u64> {
        Ok(self.shapes()?.bytes(size))
    }

    /// What may be taken for enhancing now, beside the weights that are loaded while it goes on.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the transformer is absent or damaged.
    pub(crate) fn room(&self) -> Result<Room> {
        let room = Room::of(self.parts.vae.runtime());
        if !self.parts.take_turns() {
            return Ok(room);
        }
        // The largest part that works while a window is enhanced.
        let weights = self
            .parts
            .open_dit()?
            .bytes_in(self.parts.dit.runtime().dtype());
        Ok(Room {
            device: room.device.map(|bytes| bytes.saturating_sub(weights)),
            ..room
        })
    }

    /// Where the VAE runs.
    pub(crate) fn vae_runtime(&self) -> &Runtime {
        self.parts.vae.runtime()
    }

    /// The VAE.
    pub(crate) fn vae(&self, progress: &Progress) -> Result<Arc<Vae>> {
        self.parts.vae(progress)
    }
}

/// Which parts of the model at `path` give up their memory, when `limit` bytes may be taken where the text encoder runs.
fn turns(path: &Path, placement: &Placement, limit: Option<u64>) -> Result<Turns> {
    let device = placement.text.spec();
    if device == DeviceSpec::Cpu {
        return Ok(Turns::None);
    }
    let weights = PartWeights::of(&ModelFolder::open(path)?, Stage::Two, placement)?;
    let beside = weights.into_iter().filter(|part| part.device == device);
    Ok(turns_of(&beside.collect::<Vec<_>>(), limit))
}

/// Which of `parts`, all on one GPU, give up their memory.
fn turns_of(parts: &[PartWeights], limit: Option<u64>) -> Turns {
    let all: u64 = parts.iter().map(|part| part.bytes).sum();
    match limit {
        _ if PartWeights::fit(parts, |_| limit) => Turns::None,
        Some(limit) if all > limit => Turns::All,
        _ => Turns::Text,
    }
}

/// What a window of a longer clip takes over from the window before it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Carry<'a> {
    /// Number of the window's first latent frame in the clip.
    pub first: usize,
    /// States of the flow of the window before, at each step.
    pub states: &'a [Tensor],
    /// Latent frames of this window, after its first one, that are the last ones of the window before. The first one
    /// stands for a single frame here and for several there, so it is not taken over.
    pub shared: usize,
}

/// `x` whose latent frames `1..=shared` are replaced with the last ones of `before`.
fn take_over(x: &Tensor, before: &Tensor, shared: usize) -> Result<Tensor> {
    let (frames, old) = (x.dim(1)?, before.dim(1)?);
    let shared = shared.min(frames - 1).min(old);
    if shared == 0 {
        return Ok(x.clone());
    }
    let parts = [
        x.narrow(1, 0, 1)?,
        before.narrow(1, old - shared, shared)?,
        x.narrow(1, 1 + shared, frames - 1 - shared)?,
    ];
    Ok(Tensor::cat(&parts, 1)?)
}

/// The first `count` frames of `frames` `[frames, height, width, 3]`, cropped to `size`.
pub(crate) fn crop(frames: &Tensor, count: usize, size: Size) -> Result<Tensor> {
    let frames = frames.narrow(0, 0, count)?;
    let frames = frames.narrow(1, 0, size.height)?.narrow(2, 0, size.width)?;
    Ok(frames.contiguous()?)
}

/// `x` with dimension `dim` filled up to `size`; position `i` is a copy of position `source(i)`.
fn fill_up(x: &Tensor, dim: usize, size: usize, source: impl Fn(usize) -> usize) -> Result<Tensor> {
    if x.dim(dim)? == size {
        return Ok(x.clone());
    }
    let order: Vec<u32> = (0..size).map(|index| source(index) as u32).collect();
    Ok(x.contiguous()?
        .index_select(&Tensor::new(order, &Device::Cpu)?, dim)?)
}

/// The position below `size` that `index` shows, when everything beyond is a mirror image.
fn reflect(index: usize, size: usize) -> usize {
    let period = (2 * (size - 1)).max(1);
    let index = index % period;
    index.min(period - index).min(size - 1)
}

/// The reference latent `[1, frames, channels, h, w]` of moments `[1, 2 * channels, frames, h, w]`, sampled with `noise`
/// `[1, channels, frames, h, w]`.
///
/// # Errors
/// A failed tensor operation.
pub fn reference_latent(moments: &Tensor, noise: &Tensor) -> Result<Tensor> {
    let latent = sample_posterior(&moments.to_dtype(DType::F32)?, noise)?;
    Ok((latent * LATENT_SCALE)?.transpose(1, 2)?.contiguous()?)
}

/// Carries the reference latent `[1, frames, channels, h, w]`, noised with `noise` of the same shape, to the enhanced one.
///
/// # Errors
/// [`Error::Invalid`] for impossible settings, [`Error::Cancelled`], or a failed tensor operation.
pub fn flow(
    dit: &Transformer,
    options: FlowOptions,
    reference: &Tensor,
    noise: &Tensor,
    context: &Tensor,
    progress: &Progress,
) -> Result<Tensor> {
    let start = options.start(reference, noise)?;
    let field = GuidedField::new(dit, options);
    flow_from(&field, options, start, context, progress, |_, x| Ok(x))
}

fn flow_from(
    field: &impl VelocityField<Condition = Tensor>,
    options: FlowOptions,
    start: Tensor,
    context: &Tensor,
    progress: &Progress,
    each: impl FnMut(FlowTime, Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let grid = options.grid()?;
    let latent = euler::euler(field, start, &grid, context, progress, each)?;
    Ok(latent.to_dtype(DType::F32)?)
}

/// Frames `[frames, height, width, 3]` in 0..=255 of a latent `[1, frames, channels, h, w]` of Stage II.
///
/// # Errors
/// [`Error::Invalid`] for more column tiles than columns or none, [`Error::Cancelled`], or a failed tensor operation.
pub fn decode(vae: &Vae, latent: &Tensor, tiling: Tiling, progress: &Progress) -> Result<Tensor> {
    let (columns, width) = (tiling.columns, latent.dim(D::Minus1)?);
    if columns == 0 || width < columns {
        return Err(Error::invalid(format!(
            "a latent {width} columns wide cannot be decoded in {columns} tiles"
        )));
    }
    let latent = (latent / LATENT_SCALE)?.transpose(1, 2)?.contiguous()?;
    let frames = vae.decode_tiled(&latent, tiling, progress)?;
    Ok(to_bytes_range(&frames)?.to_dtype(DType::F32)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_take_turns_where_there_is_no_room() {
        // Text encoder, transformer and VAE of the release in bf16, in MB.
        let parts = [9_525, 3_393, 431].map(|bytes| PartWeights {
            device: DeviceSpec::Cuda(0),
            bytes,
        });
        for (limit, turns) in [
            (Some(12_000), Turns::All),
            (Some(18_000), Turns::Text),
            (Some(60_000), Turns::None),
            (None, Turns::Text),
        ] {
            assert_eq!(turns_of(&parts, limit), turns, "{limit:?}");
        }
    }

    #[test]
    fn a_window_takes_over_what_it_shares() {
        let latent = |values: &[f32]| {
            let x = Tensor::new(values, &Device::Cpu).unwrap();
            x.reshape((1, values.len(), 1, 1, 1)).unwrap()
        };
        let before = latent(&[1.0, 2.0, 3.0, 4.0]);
        let taken = |x: &[f32], shared| {
            let x = take_over(&latent(x), &before, shared).unwrap();
            x.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(taken(&[0.0; 5], 2), [0.0, 3.0, 4.0, 0.0, 0.0]);
        assert_eq!(taken(&[0.0; 5], 0), [0.0; 5]);
        assert_eq!(taken(&[0.0; 3], 2), [0.0, 3.0, 4.0]);
    }

    #[test]
    fn filling_up_mirrors_and_repeats() {
        let x = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu)
            .unwrap()
            .reshape((1, 3))
            .unwrap();
        let row = |size, source: &dyn Fn(usize) -> usize| {
            let filled = fill_up(&x, 1, size, source).unwrap();
            filled.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(
            row(7, &|i| reflect(i, 3)),
            [1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0]
        );
        assert_eq!(row(5, &|i| i.min(2)), [1.0, 2.0, 3.0, 3.0, 3.0]);
        assert_eq!(row(3, &|_| 9), [1.0, 2.0, 3.0]);
        assert_eq!([0, 1, 5].map(|i| reflect(i, 1)), [0; 3]);
    }
}
