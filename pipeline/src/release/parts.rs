// SPDX-License-Identifier: MPL-2.0
//! Parts of a model that are loaded when they are needed, held once in a process, and dropped on request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use crate::checkpoint::builtin::{self, Builtin};
use crate::checkpoint::{Adapter, Checkpoint, GeneratorFile, ModelFolder, Weights};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::registry::{self, Source};
use crate::release::dit::Transformer;
use crate::release::text::{TOKENS, TextEncoder};
use crate::release::vae::{Vae, VaeConfig};
use crate::runtime::{DeviceSpec, Runtime};

/// Where each part of a model runs.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The text encoder.
    pub text: Runtime,
    /// The diffusion transformer.
    pub dit: Runtime,
    /// The VAE.
    pub vae: Runtime,
}

impl From<Runtime> for Placement {
    /// All parts in one place.
    fn from(runtime: Runtime) -> Self {
        Self {
            text: runtime.clone(),
            dit: runtime.clone(),
            vae: runtime,
        }
    }
}

impl Placement {
    /// Refuses number types that none of the parts has kernels for.
    fn check(&self) -> Result<()> {
        let parts = [&self.text, &self.dit, &self.vae];
        if parts.into_iter().any(Runtime::int8) {
            return Err(Error::invalid(
                "number type int8; it is for compact models, this one computes in f32, bf16 or f16",
            ));
        }
        Ok(())
    }
}

/// Which of a model folder's transformers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Text to clip.
    One,
    /// Clip to larger clip.
    Two,
}

/// Which parts give up their memory when their turn is over; they are read again for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    /// None: all stay.
    None,
    /// The text encoder, which works once for each prompt.
    Text,
    /// Each as soon as the next one is needed.
    All,
}

/// Bytes of a part's weights, and where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartWeights {
    pub device: DeviceSpec,
    pub bytes: u64,
}

impl PartWeights {
    /// Those of the text encoder, the transformer and the VAE in `folder`, as far as these are there.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) when a file is damaged.
    pub fn of(folder: &ModelFolder, stage: Stage, placement: &Placement) -> Result<Vec<Self>> {
        let dit = match stage {
            Stage::One => &folder.stage1,
            Stage::Two => &folder.stage2,
        };
        let parts = [
            (&folder.text_encoder, &placement.text),
            (dit, &placement.dit),
            (&folder.vae, &placement.vae),
        ];
        let there = parts
            .into_iter()
            .filter_map(|(file, runtime)| Some((file.as_ref()?, runtime)));
        let weigh = |(file, runtime): (&PathBuf, &Runtime)| {
            Ok(Self {
                device: runtime.spec(),
                bytes: Checkpoint::open(file)?.bytes_in(runtime.dtype()),
            })
        };
        there.map(weigh).collect()
    }

    /// Whether there is room for all of `parts` at once, where `limit` says what may be taken on a device. On a GPU half
    /// of that is left for the activations. Where nobody knows what may be taken, nothing fits.
    pub fn fit(parts: &[Self], limit: impl Fn(DeviceSpec) -> Option<u64>) -> bool {
        parts.iter().all(|part| {
            let beside = parts.iter().filter(|other| other.device == part.device);
            let bytes: u64 = beside.map(|part| part.bytes).sum();
            let most = limit(part.device).map(|limit| match part.device {
                DeviceSpec::Cpu => limit,
                DeviceSpec::Cuda(_) | DeviceSpec::Metal => limit / 2,
            });
            most.is_some_and(|most| bytes <= most)
        })
    }
}

/// Adapters for the transformer, and what names them with their scale among all others.
#[derive(Clone, Debug)]
pub(crate) struct Lora {
    pub adapter: Adapter,
    pub source: Source,
    pub scale: f64,
}

impl Lora {
    /// The built-in adapters called `lora`, or those in the file or PEFT's folder of that path, `scale` times as strong
    /// as they were trained.
    pub fn find(lora: &str, scale: f64) -> Result<Self> {
        let (adapter, source) = match builtin::adapter(lora) {
            Some(Builtin { name, bytes }) => (
                Adapter::from_static(name, bytes, scale)?,
                Source::Builtin(name),
            ),
            None => {
                let adapter = Adapter::open(Path::new(lora), scale)?;
                let source = Source::path(adapter.checkpoint().path())?;
                (adapter, source)
            }
        };
        Ok(Self {
            adapter,
            source,
            scale,
        })
    }
}

/// Where the weights are.
#[derive(Debug)]
enum Origin {
    Folder(ModelFolder, Stage),
    File(GeneratorFile),
}

/// What a stage of a model consists of. Parts are loaded when they are first needed.
#[derive(Debug)]
pub(crate) struct Parts {
    origin: Origin,
    lora: Option<Lora>,
    pub text: TextEncoder,
    pub dit: Part<Transformer>,
    pub vae: Part<Vae>,
    turns: Turns,
}

impl Parts {
    /// The parts of `stage` in the folder at `path`. Only the tokenizer is read now.
    pub fn open(
        path: impl AsRef<Path>,
        stage: Stage,
        placement: &Placement,
        turns: Turns,
    ) -> Result<Self> {
        placement.check()?;
        let folder = ModelFolder::open(path)?;
        let text = TextEncoder::open(&folder, &placement.text, TOKENS)?;
        let dit = match stage {
            Stage::One => &folder.stage1,
            Stage::Two => &folder.stage2,
        };
        Ok(Self {
            dit: Part::new(dit.as_deref().unwrap_or(&folder.path), &placement.dit),
            vae: Part::new(
                folder.vae.as_deref().unwrap_or(&folder.path),
                &placement.vae,
            ),
            text,
            origin: Origin::Folder(folder, stage),
            lora: None,
            turns,
        })
    }

    /// The parts inside of `file`, which `source` names. Only the tokenizer is read now.
    pub fn of_file(file: GeneratorFile, source: &Source, placement: &Placement) -> Result<Self> {
        placement.check()?;
        Ok(Self {
            text: TextEncoder::of_file(&file, source.clone(), &placement.text)?,
            dit: Part::of(source.clone(), &placement.dit),
            vae: Part::of(source.clone(), &placement.vae),
            origin: Origin::File(file),
            lora: None,
            turns: Turns::None,
        })
    }

    /// The same parts with adapters merged into the transformer.
    pub fn with_lora(mut self, lora: Option<Lora>) -> Self {
        self.dit.variant = lora
            .as_ref()
            .map(|lora| (lora.source.clone(), lora.scale.to_bits()));
        self.lora = lora;
        self
    }

    /// Whether each part is dropped as soon as the next one is needed.
    pub fn take_turns(&self) -> bool {
        self.turns == Turns::All
    }

    /// Loads what stays in memory.
    pub fn preload(&self, progress: &Progress) -> Result<()> {
        match self.turns {
            Turns::None => self.text.preload(progress)?,
            Turns::Text => {}
            Turns::All => return Ok(()),
        }
        self.dit(progress)?;
        self.vae(progress)?;
        Ok(())
    }

    /// Drops all parts; they are read again when they are needed.
    pub fn unload(&self) {
        self.text.unload();
        self.dit.unload();
        self.vae.unload();
    }

    /// The features of `prompt`; the encoder's turn is then over.
    pub fn features(&self, prompt: &str, progress: &Progress) -> Result<Tensor> {
        let features = self.text.features(prompt, progress)?;
        if self.turns != Turns::None {
            self.text.unload();
        }
        Ok(features)
    }

    /// The end of a part's turn.
    pub fn finished<T: Send + Sync + 'static>(&self, part: &Part<T>) {
        if self.turns == Turns::All {
            part.unload();
        }
    }

    /// The VAE.
    pub fn vae(&self, progress: &Progress) -> Result<Arc<Vae>> {
        self.vae.get(|| {
            let weights = weights(self.open_vae()?, self.vae.runtime());
            let groups = match &self.origin {
                Origin::Folder(..) => VaeConfig::GROUPS,
                Origin::File(file) => file.info().vae_groups,
            };
            Vae::load_with_groups(&weights.with_progress(progress), groups)
        })
    }

    /// The VAE's weights.
    pub fn open_vae(&self) -> Result<Checkpoint> {
        match &self.origin {
            Origin::Folder(folder, _) => folder.open_vae(),
            Origin::File(file) => Ok(file.vae()),
        }
    }

    /// The transformer's file.
    pub fn open_dit(&self) -> Result<Checkpoint> {
        match &self.origin {
            Origin::Folder(folder, Stage::One) => folder.open_stage1(),
            Origin::Folder(folder, Stage::Two) => folder.open_stage2(),
            Origin::File(file) => file.dit(),
        }
    }

    /// The transformer, with its adapters merged if it has any.
    pub fn dit(&self, progress: &Progress) -> Result<Arc<Transformer>> {
        self.dit.get(|| {
            let weights = weights(self.open_dit()?, self.dit.runtime());
            let adapters = self.lora.iter().map(|lora| lora.adapter.clone());
            Transformer::load(&weights.with_progress(progress).with_adapters(adapters))
        })
    }
}

fn weights(checkpoint: Checkpoint, runtime: &Runtime) -> Weights {
    Weights::new(checkpoint, runtime.device(), runtime.dtype())
}

/// A part of a model from one file on one device in one number type.
pub struct Part<T> {
    place: Place,
    /// Adapters that are merged into it: where they come from, and the bits of their scale.
    variant: Option<(Source, u64)>,
    runtime: Runtime,
    held: Mutex<Option<Arc<T>>>,
}

/// What names a part in this process.
#[derive(Debug)]
enum Place {
    /// A file that is looked at again whenever the part is loaded.
    File(PathBuf),
    /// A model as it was found.
    Source(Source),
}

impl<T: Send + Sync + 'static> Part<T> {
    /// The part in `file`. Nothing is read yet.
    pub fn new(file: &Path, runtime: &Runtime) -> Self {
        Self::at(Place::File(file.to_owned()), runtime)
    }

    /// The part of the model that `source` names. Nothing is read yet.
    pub fn of(source: Source, runtime: &Runtime) -> Self {
        Self::at(Place::Source(source), runtime)
    }

    fn at(place: Place, runtime: &Runtime) -> Self {
        Self {
            place,
            variant: None,
            runtime: runtime.clone(),
            held: Mutex::new(None),
        }
    }

    /// Where and how the part runs.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The part; `load` reads it when nobody in this process holds it.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn get(&self, load: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut held = lock(&self.held);
        if let Some(part) = &*held {
            return Ok(part.clone());
        }
        let mut source = match &self.place {
            Place::File(file) => Source::path(file)?,
            Place::Source(source) => source.clone(),
        };
        if let Some((adapter, scale)) = &self.variant {
            source = Source::Adapted(Box::new(source), Box::new(adapter.clone()), *scale);
        }
        let part = registry::shared(source, &self.runtime, load)?;
        *held = Some(part.clone());
        Ok(part)
    }

    /// Whether the part is in memory for this owner.
    pub fn is_loaded(&self) -> bool {
        lock(&self.held).is_some()
    }

    /// Lets go of the part. Its memory is free once nobody else uses it.
    pub fn unload(&self) {
        lock(&self.held).take();
    }
}

impl<T> fmt::Debug for Part<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("place", &self.place)
            .field("runtime", &self.runtime)
            .field("loaded", &lock(&self.held).is_some())
            .finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced as a whole, so a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_loaded_once_and_shared() {
        let runtime = Runtime::cpu().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let part = || Part::<u32>::new(file.path(), &runtime);
        let (first, second) = (part(), part());
        assert_eq!(*first.get(|| Ok(7)).unwrap(), 7);
        assert_eq!(
            *second.get(|| Err(Error::invalid("loaded twice"))).unwrap(),
            7
        );
        first.unload();
        assert!(!first.is_loaded() && second.is_loaded());
        second.unload();
        assert_eq!(*first.get(|| Ok(9)).unwrap(), 9);
    }

    #[test]
    fn all_parts_stay_where_there_is_room_for_them() {
        let part = |device, bytes| PartWeights { device, bytes };
        let cpu = [30, 20, 5].map(|bytes| part(DeviceSpec::Cpu, bytes));
        let fit = |parts: &[PartWeights], limit| PartWeights::fit(parts, |_| limit);
        assert!(fit(&cpu, Some(55)) && !fit(&cpu, Some(54)) && !fit(&cpu, None));
        // Half of a GPU is for the activations.
        let gpu = DeviceSpec::Cuda(0);
        let one = [30, 20, 5].map(|bytes| part(gpu, bytes));
        assert!(fit(&one, Some(110)) && !fit(&one, Some(109)));
        // Each device for itself.
        let both = [part(DeviceSpec::Cpu, 60), part(gpu, 20), part(gpu, 5)];
        let limit = |spec| Some(if spec == gpu { 50 } else { 60 });
        assert!(PartWeights::fit(&both, limit));
        let less = |spec| limit(spec).map(|limit| limit - 1);
        assert!(!PartWeights::fit(&both, less));
    }

    #[test]
    fn a_failure_is_not_remembered() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let part = Part::<u8>::new(file.path(), &Runtime::cpu().unwrap());
        assert!(
            part.get(|| Err(Error::Cancelled))
                .unwrap_err()
                .is_cancelled()
        );
        assert!(!part.is_loaded());
        assert_eq!(*part.get(|| Ok(1)).unwrap(), 1);
    }
}
