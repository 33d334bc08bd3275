//! Stage I: prompt to clip.

use std::path::Path;

use candle_core::{DType, Tensor};

use crate::clip::{Frame, FrameFormat, Samples, Size};
use crate::dit::{Times, Transformer};
use crate::error::{Error, Result};
use crate::guidance::DynamicGuidance;
use crate::noise::{NoiseSource, Use};
use crate::progress::{Event, Progress};
pub use crate::released::parts::Placement;
use crate::released::parts::{Parts, Stage};
use crate::solver_dpmpp::{self, SdeSchedule, SdeStep};
use crate::vae::{Vae, to_bytes_range};

/// What latents of Stage I are multiplied by.
pub const LATENT_SCALE: f64 = 0.7;

/// Settings of one generation.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// What the clip shows.
    pub prompt: String,
    /// Chooses the noise: the same seed gives the same clip.
    pub seed: u64,
    /// Sampling steps, 2 to 1000.
    pub steps: usize,
    /// Strength of the guidance, 6 to 8.
    pub guidance: f64,
    /// Size of the frames; both sides are multiples of 16.
    pub size: Size,
    /// Number of frames, 4k + 1.
    pub frames: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            prompt: String::new(),
            seed: 0,
            steps: 51,
            guidance: 8.0,
            size: Size::new(480, 256),
            frames: 49,
        }
    }
}

/// A text-to-video model. Parts are loaded when they are first needed.
#[derive(Debug)]
pub struct Generator {
    parts: Parts,
}

impl Generator {
    /// The model in the folder at `path`: a FlashVideo release, a converted one, or a CogVideoX folder of diffusers.
    /// Only the tokenizer is read now.
    ///
    /// With `frugal` each part is dropped as soon as the next one is needed, so that only one is in memory at a time.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], or [`Error::Checkpoint`] when a part is absent.
    pub fn open(path: impl AsRef<Path>, placement: &Placement, frugal: bool) -> Result<Self> {
        Ok(Self {
            parts: Parts::open(path, Stage::One, placement, frugal)?,
        })
    }

    /// Drops all parts; they are read again when they are needed.
    pub fn unload(&self) {
        self.parts.unload();
    }

    /// Makes a clip: frames `[frames, height, width, 3]` in 0..=255, float32.
    ///
    /// # Errors
    /// [`Error::Invalid`] for impossible settings, [`Error::Checkpoint`] when a part does not load,
    /// [`Error::Cancelled`], or a failed tensor operation.
    pub fn generate(&self, options: &GenerateOptions, progress: &Progress) -> Result<Tensor> {
        let shape = latent_shape(options)?;
        let guidance = DynamicGuidance::new(options.guidance, options.steps);
        let schedule = SdeSchedule::new(options.steps, guidance, 1.0, 1.0)?;
        progress.emit(Event::Started {
            step: "text",
            total: None,
        });
        let context = self.parts.features(&options.prompt, progress)?;
        progress.emit(Event::Finished { step: "text" });
        let latent = self.parts.dit.runtime().install(|| {
            let dit = self.parts.dit(progress)?;
            let source = NoiseSource::new(options.seed);
            let start = source.latent(Use::Start, 0, shape, dit.device())?;
            let noise =
                |step: &SdeStep| source.latent(Use::Step(step.index), 0, shape, dit.device());
            sample(&dit, &schedule, &context, start, noise, progress)
        })?;
        self.parts.finished(&self.parts.dit);
        let vae = self.parts.vae.runtime();
        let frames = vae.install(|| decode(&*self.parts.vae(progress)?, &latent, progress))?;
        self.parts.finished(&self.parts.vae);
        Ok(frames)
    }
}

/// Frames, channels, height and width of the latent.
fn latent_shape(options: &GenerateOptions) -> Result<(usize, usize, usize, usize)> {
    let Size { width, height } = options.size;
    if width * height == 0 || !width.is_multiple_of(16) || !height.is_multiple_of(16) {
        return Err(Error::invalid(format!(
            "frames of {}; width and height must be multiples of 16",
            options.size
        )));
    }
    if options.frames % 4 != 1 {
        return Err(Error::invalid(format!(
            "{} frames; the number must be one more than a multiple of 4",
            options.frames
        )));
    }
    Ok((options.frames / 4 + 1, 16, height / 8, width / 8))
}

/// The latent `[1, frames, channels, height, width]` for a prompt's features `[1, length, width]`, from the gaussian
/// `start`; `noise` gives the gaussian of each step.
///
/// # Errors
/// Those of `noise`, [`Error::Cancelled`], or a failed tensor operation.
pub fn sample(
    dit: &Transformer,
    schedule: &SdeSchedule,
    context: &Tensor,
    start: Tensor,
    noise: impl FnMut(&SdeStep) -> Result<Tensor>,
    progress: &Progress,
) -> Result<Tensor> {
    let velocity = |x: &Tensor, step: &SdeStep| {
        dit.both(x, Times::new(step.timestep as f64), context, progress)
    };
    solver_dpmpp::sample(schedule, start, velocity, noise, progress, |_| Ok(()))
}

/// Frames `[frames, height, width, 3]` in 0..=255 of a latent `[1, frames, channels, height, width]` of Stage I.
///
/// # Errors
/// [`Error::Cancelled`], or a failed tensor operation.
pub fn decode(vae: &Vae, latent: &Tensor, progress: &Progress) -> Result<Tensor> {
    let latent = (latent / LATENT_SCALE)?.transpose(1, 2)?.contiguous()?;
    Ok(to_bytes_range(&vae.decode(&latent, progress)?)?.to_dtype(DType::F32)?)
}

/// Frames `[frames, height, width, 3]` in 0..=255 as RGB pictures; values are rounded.
///
/// # Errors
/// [`Error::Invalid`] for a tensor of another shape, or a failed tensor operation.
pub fn to_pictures(frames: &Tensor) -> Result<Vec<Frame>> {
    let (count, height, width, colours) = frames.dims4()?;
    if colours != 3 {
        return Err(Error::invalid(format!(
            "{colours} colours in a frame, expected 3"
        )));
    }
    let bytes = frames.round()?.clamp(0f32, 255f32)?.to_dtype(DType::U8)?;
    (0..count)
        .map(|index| {
            let planes = bytes.get(index)?.permute((2, 0, 1))?.contiguous()?;
            let planes = (0..3)
                .map(|plane| Ok(Samples::U8(planes.get(plane)?.flatten_all()?.to_vec1()?)))
                .collect::<Result<_>>()?;
            Frame::new(FrameFormat::rgb(), Size::new(width, height), planes)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn impossible_sizes_are_refused() {
        let shape = |size, frames| {
            latent_shape(&GenerateOptions {
                size,
                frames,
                ..GenerateOptions::default()
            })
        };
        assert_eq!(shape(Size::new(480, 256), 49).unwrap(), (13, 16, 32, 60));
        assert_eq!(shape(Size::new(16, 16), 1).unwrap(), (1, 16, 2, 2));
        for (size, frames) in [
            (Size::new(480, 250), 49),
            (Size::new(0, 256), 49),
            (Size::new(480, 256), 48),
            (Size::new(480, 256), 0),
        ] {
            assert!(shape(size, frames).is_err(), "{size}, {frames} frames");
        }
    }

    #[test]
    fn pictures_have_rounded_planes() {
        let values: Vec<f32> = (0..12).map(|i| i as f32 * 30.0 - 20.4).collect();
        let frames = Tensor::from_vec(values, (1, 2, 2, 3), &Device::Cpu).unwrap();
        let pictures = to_pictures(&frames).unwrap();
        assert_eq!(*pictures[0].planes()[0], Samples::U8(vec![0, 70, 160, 250]));
        assert_eq!(
            *pictures[0].planes()[1],
            Samples::U8(vec![10, 100, 190, 255])
        );
        assert!(to_pictures(&frames.narrow(3, 0, 2).unwrap()).is_err());
    }
}
