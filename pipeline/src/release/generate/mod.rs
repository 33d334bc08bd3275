// SPDX-License-Identifier: MPL-2.0
//! Stage I: prompt to clip.

mod pictures;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::checkpoint::{
    GeneratorFile, GeneratorInfo, GuidanceRule, ModelFolder, Weights, builtin,
};
use crate::error::{Error, Result};
use crate::flow::dpmpp::{self, SdeSchedule, SdeStep};
use crate::flow::guidance::{DynamicGuidance, Guidance};
use crate::flow::noise::{NoiseSource, Use};
use crate::media::frame::Frame;
use crate::plan::Budget;
use crate::progress::Progress;
use crate::registry::Source;
use crate::release::dit::{DitConfig, Times, Transformer};
pub use crate::release::parts::Placement;
use crate::release::parts::{Lora, PartWeights, Parts, Stage, Turns};
use crate::release::text::TOKENS;
use crate::release::vae::{Vae, VaeConfig, to_bytes_range};
use crate::runtime::Runtime;
use crate::size::Size;

/// What latents of the released Stage I are multiplied by.
pub const LATENT_SCALE: f64 = 0.7;
/// Name of the built-in model.
pub const BUILTIN: &str = "builtin";
/// Multiple of pixels that the released model generates.
const MULTIPLE: usize = 16;
/// Longest side that may be asked for.
pub const MAX_SIDE: usize = 2048;
/// Most frames that may be asked for.
const MAX_FRAMES: usize = 4097;

/// Settings of one generation.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// What the clip shows.
    pub prompt: String,
    /// Chooses the noise: the same seed gives the same clip.
    pub seed: u64,
    /// Sampling steps, 2 to 1000.
    pub steps: usize,
    /// Strength of the guidance; 6 to 8 for the release.
    pub guidance: f64,
    /// Size of the frames. A model in one file makes its own size only; the released ones make any, best about their
    /// own, of which what is more than a multiple of 16 is cut off on all sides.
    pub size: Size,
    /// Number of frames, 4k + 1.
    pub frames: usize,
}

impl Default for GenerateOptions {
    /// Those of the released model.
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

/// Latent positions for each pixel and channels of a position.
#[derive(Clone, Copy, Debug)]
struct Latent {
    channels: usize,
    space: usize,
}

/// A text-to-video model. Parts are loaded when they are first needed.
#[derive(Debug)]
pub struct Generator {
    info: GeneratorInfo,
    latent: Latent,
    /// Whether it makes clips of one size only.
    fixed: bool,
    parts: Parts,
}

impl Generator {
    /// Finds `model`: `builtin`, the path of a model in one safetensors file, or of a folder as for [`open`](Self::open).
    /// `lora` is the name of built-in adapters or the path of others, and how many times as strong as trained they shall be.
    ///
    /// Of folders each part is dropped as soon as the next one is needed, unless there is memory for all of them.
    /// Within a process the weights of one model for one device and number type are held once.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] when there is no such model, [`Error::Checkpoint`] when a file is damaged or a part is
    /// absent, [`Error::Invalid`] when it is to compute in int8, [`Error::Io`].
    pub fn find(model: &str, lora: Option<(&str, f64)>, placement: &Placement) -> Result<Self> {
        let lora = lora
            .map(|(name, scale)| Lora::find(name, scale))
            .transpose()?;
        let path = Path::new(model);
        let mut found = if let Some(builtin) = builtin::generator(model) {
            let file = GeneratorFile::from_static(builtin.name, builtin.bytes)?;
            Self::of_file(file, &Source::Builtin(builtin.name), placement)?
        } else if path.is_dir() {
            let tight = !has_room(path, placement, |runtime| {
                Budget::of(runtime.device()).limit()
            })?;
            Self::open(path, placement, tight)?
        } else if path.is_file() {
            Self::of_file(GeneratorFile::open(path)?, &Source::path(path)?, placement)?
        } else {
            return Err(Error::ModelNotFound {
                name: model.to_owned(),
                hint: hint(),
            });
        };
        found.parts = found.parts.with_lora(lora);
        Ok(found)
    }

    /// The model in the folder at `path`: a FlashVideo release, a converted one, or a CogVideoX folder of diffusers.
    /// Only the tokenizer is read now.
    ///
    /// With `frugal` each part is dropped as soon as the next one is needed, so that only one is in memory at a time.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`], [`Error::Checkpoint`] when a part is absent, or [`Error::Invalid`] when it is to compute
    /// in int8.
    pub fn open(path: impl AsRef<Path>, placement: &Placement, frugal: bool) -> Result<Self> {
        let path = path.as_ref();
        let defaults = GenerateOptions::default();
        let Size { width, height } = defaults.size;
        let turns = if frugal { Turns::All } else { Turns::None };
        Ok(Self {
            parts: Parts::open(path, Stage::One, placement, turns)?,
            info: GeneratorInfo {
                name: path.display().to_string(),
                width,
                height,
                grid_width: width,
                grid_height: height,
                frames: defaults.frames,
                fps: 8,
                tokens: TOKENS,
                steps: defaults.steps,
                guidance: defaults.guidance,
                guidance_rule: GuidanceRule::Dynamic,
                latent_scale: LATENT_SCALE,
                vae_groups: VaeConfig::GROUPS,
                prompt: String::new(),
                words: Vec::new(),
                world: String::new(),
            },
            latent: Latent {
                channels: 16,
                space: 8,
            },
            fixed: false,
        })
    }

    fn of_file(file: GeneratorFile, source: &Source, placement: &Placement) -> Result<Self> {
        let view = |checkpoint| Weights::new(checkpoint, &Device::Cpu, DType::F32);
        let dit = DitConfig::infer(&view(file.dit()?))?;
        let vae = VaeConfig::infer(&view(file.vae()))?;
        let fail = |problem: String| Err(Error::checkpoint(file.path(), problem));
        let (info, space) = (file.info().clone(), vae.space_factor());
        let multiple = space * dit.patch;
        if !info.grid_width.is_multiple_of(multiple) || !info.grid_height.is_multiple_of(multiple) {
            return fail(format!(
                "its header promises a grid of {}, its weights need multiples of {multiple}",
                info.grid()
            ));
        }
        if vae.time_factor() != 4 || vae.colours != 3 {
            return fail(format!(
                "a VAE of {} colours that reduces time by {}; expected 3 and 4",
                vae.colours,
                vae.time_factor()
            ));
        }
        if dit.in_channels != vae.latent || dit.out_channels != vae.latent || dit.reference {
            return fail(format!(
                "a transformer from {} to {} channels{} beside a VAE of {}",
                dit.in_channels,
                dit.out_channels,
                if dit.reference {
                    " with a reference"
                } else {
                    ""
                },
                vae.latent
            ));
        }
        Ok(Self {
            latent: Latent {
                channels: vae.latent,
                space,
            },
            fixed: true,
            parts: Parts::of_file(file, source, placement)?,
            info,
        })
    }

    /// What the model is and what it does when nothing else is asked for.
    pub fn info(&self) -> &GeneratorInfo {
        &self.info
    }

    /// Whether it makes clips of [`GeneratorInfo::size`] only.
    pub fn has_fixed_size(&self) -> bool {
        self.fixed
    }

    /// The model's own settings, for its own prompt.
    pub fn defaults(&self) -> GenerateOptions {
        GenerateOptions {
            prompt: self.info.prompt.clone(),
            seed: 0,
            steps: self.info.steps,
            guidance: self.info.guidance,
            size: self.info.size(),
            frames: self.info.frames,
        }
    }

    /// Loads what stays in memory, so that the first clip does not wait for it. Does nothing for a model whose parts
    /// take turns.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when a part does not load, [`Error::Cancelled`].
    pub fn preload(&self, progress: &Progress) -> Result<()> {
        self.parts.preload(progress)
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
        let mut parts = Vec::new();
        self.each_chunk(options, progress, |frames| {
            let frames = pictures::cropped(&frames, options.size)?;
            parts.push(to_bytes_range(&frames)?.to_dtype(DType::F32)?);
            Ok(())
        })?;
        Ok(Tensor::cat(&parts, 0)?)
    }

    /// Makes a clip and gives its pictures to `each`, in order, as soon as they are decoded: 8-bit R, G, B.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and those of `each`.
    pub fn pictures(
        &self,
        options: &GenerateOptions,
        progress: &Progress,
        mut each: impl FnMut(Frame) -> Result<()> + Send,
    ) -> Result<()> {
        self.each_chunk(options, progress, |frames| {
            let frames = pictures::cropped(&frames, options.size)?;
            for index in 0..frames.dim(2)? {
                progress.check()?;
                each(pictures::picture(&frames.narrow(2, index, 1)?)?)?;
            }
            Ok(())
        })
    }

    /// Whether a clip with these settings can be made, without making it.
    ///
    /// # Errors
    /// [`Error::Invalid`] that says what is impossible and what is not.
    pub fn check(&self, options: &GenerateOptions) -> Result<()> {
        self.grid(options)?;
        self.schedule(options).map(drop)
    }

    /// Gives the frames of a clip to `each`, chunk by chunk: `[1, 3, frames, grid height, grid width]`, about -1..=1.
    fn each_chunk(
        &self,
        options: &GenerateOptions,
        progress: &Progress,
        mut each: impl FnMut(Tensor) -> Result<()> + Send,
    ) -> Result<()> {
        let grid = self.grid(options)?;
        let schedule = self.schedule(options)?;
        let Latent { channels, space } = self.latent;
        let shape = (
            options.frames / 4 + 1,
            channels,
            grid.height / space,
            grid.width / space,
        );
        let context = self.parts.features(&options.prompt, progress)?;
        let latent = self.parts.dit.runtime().install(|| {
            let dit = self.parts.dit(progress)?;
            let source = NoiseSource::new(options.seed);
            let start = source.latent(Use::Start, 0, shape, dit.device())?;
            let noise =
                |step: &SdeStep| source.latent(Use::Step(step.index), 0, shape, dit.device());
            sample(&dit, &schedule, &context, start, noise, progress)
        })?;
        self.parts.finished(&self.parts.dit);
        self.parts.vae.runtime().install(|| {
            let vae = self.parts.vae(progress)?;
            let latent = for_decoding(&latent, self.info.latent_scale)?;
            let size = (grid.height / space, grid.width / space);
            let frugal = vae.is_tight(size, Budget::of(vae.device()).limit());
            vae.decode_each(&latent, frugal, progress, &mut each)
        })?;
        self.parts.finished(&self.parts.vae);
        Ok(())
    }

    fn schedule(&self, options: &GenerateOptions) -> Result<SdeSchedule> {
        if !options.guidance.is_finite() {
            return Err(Error::invalid(format!(
                "guidance scale of {}",
                options.guidance
            )));
        }
        let guidance = match self.info.guidance_rule {
            GuidanceRule::Constant => Guidance::Constant(options.guidance),
            GuidanceRule::Falling => Guidance::Falling(options.guidance),
            GuidanceRule::Dynamic => DynamicGuidance::new(options.guidance, options.steps).into(),
        };
        SdeSchedule::new(options.steps, guidance, 1.0, 1.0)
    }

    /// Size of what is generated for `options`.
    fn grid(&self, options: &GenerateOptions) -> Result<Size> {
        let most = if self.fixed {
            self.info.frames
        } else {
            MAX_FRAMES
        };
        if options.frames % 4 != 1 || options.frames > most {
            return Err(Error::invalid(format!(
                "{} frames; the number must be one more than a multiple of 4 and at most {most}",
                options.frames
            )));
        }
        let Size { width, height } = options.size;
        if self.fixed && options.size != self.info.size() {
            return Err(Error::invalid(format!(
                "frames of {}; the model {} makes frames of {}",
                options.size,
                self.info.name,
                self.info.size()
            )));
        }
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(Error::invalid(format!(
                "frames of {}; each side must have 1 to {MAX_SIDE} pixels",
                options.size
            )));
        }
        Ok(if self.fixed {
            self.info.grid()
        } else {
            Size::new(
                width.next_multiple_of(MULTIPLE),
                height.next_multiple_of(MULTIPLE),
            )
        })
    }
}

/// What there is instead of a model that was not found.
fn hint() -> String {
    let names: Vec<&str> = builtin::GENERATORS.iter().map(|model| model.name).collect();
    let inside = if names.is_empty() {
        "this build has no text-to-video model inside".to_owned()
    } else {
        format!("built in is {}", names.join(" and "))
    };
    format!(
        "there is no such file or folder; {inside}. Others are given by the path of their .safetensors file or of the \
         folder that `flashvideo fetch` has made"
    )
}

/// Whether the parts in the folder at `path` can be in memory all at once, where `limit` says what may be taken.
fn has_room(
    path: &Path,
    placement: &Placement,
    limit: impl Fn(&Runtime) -> Option<u64>,
) -> Result<bool> {
    let weights = PartWeights::of(&ModelFolder::open(path)?, Stage::One, placement)?;
    let runtimes = [&placement.text, &placement.dit, &placement.vae];
    Ok(PartWeights::fit(&weights, |device| {
        let runtime = runtimes
            .into_iter()
            .find(|runtime| runtime.spec() == device);
        runtime.and_then(&limit)
    }))
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
        let times = Times::new(step.timestep as f64);
        dit.both(x, times, context, step.guidance, progress)
    };
    dpmpp::sample(schedule, start, velocity, noise, progress, |_| Ok(()))
}

/// Frames `[frames, height, width, 3]` in 0..=255 of a latent `[1, frames, channels, height, width]` of the released
/// Stage I.
///
/// # Errors
/// [`Error::Cancelled`], or a failed tensor operation.
pub fn decode(vae: &Vae, latent: &Tensor, progress: &Progress) -> Result<Tensor> {
    let latent = for_decoding(latent, LATENT_SCALE)?;
    Ok(to_bytes_range(&vae.decode(&latent, progress)?)?.to_dtype(DType::F32)?)
}

/// A latent of the sampler as the VAE takes it.
fn for_decoding(latent: &Tensor, scale: f64) -> Result<Tensor> {
    Ok((latent / scale)?.transpose(1, 2)?.contiguous()?)
}
