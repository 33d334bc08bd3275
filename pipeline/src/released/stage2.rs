//! The released Stage II: a clip to a larger, sharper one.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};

use super::flow::{FlowOptions, GuidedField};
use super::parts::Part;
use super::resize;
use crate::checkpoint::{ModelFolder, Weights};
use crate::clip::Size;
use crate::dit::Transformer;
use crate::error::{Error, Result};
use crate::noise::{NoiseSource, Use};
use crate::progress::{Event, Progress};
use crate::solver;
use crate::stage1::Placement;
use crate::text::{TOKENS, TextEncoder};
use crate::vae::{TILE_OVERLAP, Vae, sample_posterior, to_bytes_range};

/// What latents of Stage II are multiplied by.
pub const LATENT_SCALE: f64 = 1.152_584_26;

/// How the release begins the prompts of Stage II: how much things move.
pub const MOTION: &str = "medium motion,";

/// Frames must have sides that are multiples of this: eight pixels to a latent position, two of these to a token.
const MULTIPLE: usize = 16;

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
    /// Column tiles in which the result is decoded; 2 in the release.
    pub decode_tiles: usize,
}

/// The released enhancement model. Parts are loaded when they are first needed.
#[derive(Debug)]
pub struct ReleasedEnhancer {
    folder: ModelFolder,
    text: TextEncoder,
    dit: Part<Transformer>,
    vae: Part<Vae>,
    frugal: bool,
}

impl ReleasedEnhancer {
    /// The model in the folder at `path`, a FlashVideo release or a converted one. Only the tokenizer is read now.
    ///
    /// With `frugal` each part is dropped as soon as the next one is needed, so that only one is in memory at a time.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], or [`Error::Checkpoint`] when a part is absent.
    pub fn open(path: impl AsRef<Path>, placement: &Placement, frugal: bool) -> Result<Self> {
        let folder = ModelFolder::open(path)?;
        let text = TextEncoder::open(&folder, &placement.text, TOKENS)?;
        Ok(Self {
            dit: Part::new(
                folder.stage2.as_deref().unwrap_or(&folder.path),
                &placement.dit,
            ),
            vae: Part::new(
                folder.vae.as_deref().unwrap_or(&folder.path),
                &placement.vae,
            ),
            text,
            folder,
            frugal,
        })
    }

    /// Drops all parts; they are read again when they are needed.
    pub fn unload(&self) {
        self.text.unload();
        self.dit.unload();
        self.vae.unload();
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
        let Size { width, height } = options.size;
        let clip = resize::prepare(frames, height, width)?;
        let clip = fill_up(
            &clip,
            2,
            (count.max(1) - 1).next_multiple_of(4) + 1,
            |index| index.min(count - 1),
        )?;
        let clip = fill_up(&clip, 3, height.next_multiple_of(MULTIPLE), |row| {
            reflect(row, height)
        })?;
        let clip = fill_up(&clip, 4, width.next_multiple_of(MULTIPLE), |column| {
            reflect(column, width)
        })?;

        let context = self
            .text
            .features(&format!("{MOTION}{}", options.prompt), progress)?;
        if self.frugal {
            self.text.unload();
        }
        let source = NoiseSource::new(options.seed);
        let noise = |what, latent: &Tensor| -> Result<Tensor> {
            let (_, t, c, h, w) = latent.dims5()?;
            source.latent(what, 0, (t, c, h, w), latent.device())
        };
        let vae_runtime = self.vae.runtime().clone();
        let reference = vae_runtime.install(|| {
            let vae = self.vae.get(|| self.load_vae(progress))?;
            let moments = vae.encode(&clip, progress)?;
            let mean = moments.narrow(1, 0, moments.dim(1)? / 2)?.transpose(1, 2)?;
            let noise = noise(Use::Posterior, &mean)?.transpose(1, 2)?;
            reference_latent(&moments, &noise)
        })?;
        if self.frugal {
            self.vae.unload();
        }
        let dit_runtime = self.dit.runtime().clone();
        let latent = dit_runtime.install(|| {
            let dit = self.dit.get(|| self.load_dit(progress))?;
            let reference = reference.to_device(dit.device())?;
            let noise = noise(Use::Flow, &reference)?;
            flow(&dit, options.flow, &reference, &noise, &context, progress)
        })?;
        if self.frugal {
            self.dit.unload();
        }
        let enhanced = vae_runtime.install(|| {
            let vae = self.vae.get(|| self.load_vae(progress))?;
            decode(&vae, &latent, options.decode_tiles, progress)
        })?;
        if self.frugal {
            self.vae.unload();
        }
        let enhanced = enhanced
            .narrow(0, 0, count)?
            .narrow(1, 0, height)?
            .narrow(2, 0, width)?;
        Ok(enhanced.contiguous()?)
    }

    fn load_dit(&self, progress: &Progress) -> Result<Transformer> {
        let runtime = self.dit.runtime();
        let weights = Weights::new(
            self.folder.open_stage2()?,
            runtime.device(),
            runtime.dtype(),
        );
        Transformer::load(&weights.with_progress(progress))
    }

    fn load_vae(&self, progress: &Progress) -> Result<Vae> {
        let runtime = self.vae.runtime();
        let weights = Weights::new(self.folder.open_vae()?, runtime.device(), runtime.dtype());
        Vae::load(&weights.with_progress(progress))
    }
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
    let grid = options.grid()?;
    progress.emit(Event::Started {
        step: "enhance",
        total: Some(grid.len() as u64),
    });
    let start = options.start(reference, noise)?;
    let field = GuidedField::new(dit, options);
    let latent = solver::euler(&field, start, &grid, context, progress, |at, x| {
        progress.emit(Event::Advanced {
            step: "enhance",
            done: at.index as u64,
        });
        Ok(x)
    })?;
    progress.emit(Event::Finished { step: "enhance" });
    Ok(latent.to_dtype(DType::F32)?)
}

/// Frames `[frames, height, width, 3]` in 0..=255 of a latent `[1, frames, channels, h, w]` of Stage II, decoded in
/// `tiles` columns.
///
/// # Errors
/// [`Error::Invalid`] when `tiles` is 0, [`Error::Cancelled`], or a failed tensor operation.
pub fn decode(vae: &Vae, latent: &Tensor, tiles: usize, progress: &Progress) -> Result<Tensor> {
    if tiles == 0 || latent.dim(D::Minus1)? < tiles {
        return Err(Error::invalid(format!(
            "a latent {} columns wide cannot be decoded in {tiles} tiles",
            latent.dim(D::Minus1)?
        )));
    }
    let latent = (latent / LATENT_SCALE)?.transpose(1, 2)?.contiguous()?;
    let frames = match tiles {
        1 => vae.decode(&latent, progress)?,
        _ => vae.decode_tiled(&latent, tiles, TILE_OVERLAP, progress)?,
    };
    Ok(to_bytes_range(&frames)?.to_dtype(DType::F32)?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
