//! Parts of a model that are loaded when they are needed, held once in a process, and dropped on request.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;

use crate::checkpoint::{Checkpoint, ModelFolder, Weights};
use crate::dit::Transformer;
use crate::error::Result;
use crate::progress::Progress;
use crate::registry::{self, Source};
use crate::runtime::Runtime;
use crate::text::{TOKENS, TextEncoder};
use crate::vae::Vae;

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

/// Which of a model folder's transformers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Text to clip.
    One,
    /// Clip to larger clip.
    Two,
}

/// What a stage of a released model consists of. Parts are loaded when they are first needed.
#[derive(Debug)]
pub(crate) struct Parts {
    pub folder: ModelFolder,
    pub text: TextEncoder,
    pub dit: Part<Transformer>,
    pub vae: Part<Vae>,
    stage: Stage,
    /// Whether each part is dropped as soon as the next one is needed.
    frugal: bool,
}

impl Parts {
    /// The parts of `stage` in the folder at `path`. Only the tokenizer is read now.
    pub fn open(
        path: impl AsRef<Path>,
        stage: Stage,
        placement: &Placement,
        frugal: bool,
    ) -> Result<Self> {
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
            folder,
            stage,
            frugal,
        })
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
        if self.frugal {
            self.text.unload();
        }
        Ok(features)
    }

    /// The end of a part's turn.
    pub fn finished<T: Send + Sync + 'static>(&self, part: &Part<T>) {
        if self.frugal {
            part.unload();
        }
    }

    /// The VAE.
    pub fn vae(&self, progress: &Progress) -> Result<Arc<Vae>> {
        self.vae.get(|| {
            let weights = weights(self.folder.open_vae()?, self.vae.runtime());
            Vae::load(&weights.with_progress(progress))
        })
    }

    /// The transformer's file.
    pub fn open_dit(&self) -> Result<Checkpoint> {
        match self.stage {
            Stage::One => self.folder.open_stage1(),
            Stage::Two => self.folder.open_stage2(),
        }
    }

    /// The transformer, with its adapters merged if it has any.
    pub fn dit(&self, progress: &Progress) -> Result<Arc<Transformer>> {
        self.dit.get(|| {
            let weights = weights(self.open_dit()?, self.dit.runtime());
            Transformer::load(&weights.with_progress(progress))
        })
    }
}

fn weights(checkpoint: Checkpoint, runtime: &Runtime) -> Weights {
    Weights::new(checkpoint, runtime.device(), runtime.dtype())
}

/// A part of a model from one file on one device in one number type.
pub struct Part<T> {
    file: PathBuf,
    runtime: Runtime,
    held: Mutex<Option<Arc<T>>>,
}

impl<T: Send + Sync + 'static> Part<T> {
    /// The part in `file`. Nothing is read yet.
    pub fn new(file: &Path, runtime: &Runtime) -> Self {
        Self {
            file: file.to_owned(),
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
        let part = registry::shared(Source::path(&self.file)?, &self.runtime, load)?;
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
            .field("file", &self.file)
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
    use crate::error::Error;

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
