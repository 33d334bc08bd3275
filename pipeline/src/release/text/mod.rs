// SPDX-License-Identifier: MPL-2.0
//! Prompt to features: sentencepiece tokens and the T5 encoder.

mod sentencepiece;
mod t5;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};

use crate::checkpoint::{Checkpoint, GeneratorFile, ModelFolder, Weights};
use crate::error::{Error, Result};
use crate::progress::{Event, Progress};
use crate::registry::{self, Source};
use crate::runtime::Runtime;

pub use sentencepiece::Tokenizer;
pub use t5::{T5Config, T5Encoder};

/// Tokens of a prompt in the released models, end and padding included.
pub const TOKENS: usize = 226;
/// Prompts whose features are kept; those of one prompt are 3.7 MB for T5-v1.1-XXL.
const CACHED: usize = 16;

/// Turns prompts into features. The weights are loaded for the first prompt that is not in the cache and can be dropped
/// between prompts: T5-v1.1-XXL alone is larger than either stage.
#[derive(Debug)]
pub struct TextEncoder {
    origin: Origin,
    tokenizer: Tokenizer,
    runtime: Runtime,
    tokens: usize,
    model: Mutex<Option<Arc<T5Encoder>>>,
    recent: Mutex<VecDeque<(String, Tensor)>>,
}

/// Where the weights are.
#[derive(Debug)]
enum Origin {
    Folder(ModelFolder),
    File(GeneratorFile, Source),
}

impl Origin {
    fn open(&self) -> Result<Checkpoint> {
        match self {
            Self::Folder(folder) => folder.open_text_encoder(),
            Self::File(file, _) => Ok(file.text()),
        }
    }

    fn source(&self) -> Result<Source> {
        match self {
            Self::Folder(folder) => {
                Source::path(folder.text_encoder.as_deref().unwrap_or(&folder.path))
            }
            Self::File(_, source) => Ok(source.clone()),
        }
    }
}

impl TextEncoder {
    /// Opens the tokenizer of `folder`; the weights follow when they are needed.
    ///
    /// `tokens` is the length that every prompt is cut or filled up to: [`TOKENS`] for the release.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the tokenizer is absent or damaged.
    pub fn open(folder: &ModelFolder, runtime: &Runtime, tokens: usize) -> Result<Self> {
        Ok(Self {
            origin: Origin::Folder(folder.clone()),
            tokenizer: Tokenizer::open(folder.tokenizer()?)?,
            runtime: runtime.clone(),
            tokens,
            model: Mutex::default(),
            recent: Mutex::default(),
        })
    }

    /// Opens the tokenizer inside of `file`, which `source` names; the weights follow when they are needed.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the tokenizer is absent or damaged.
    pub fn of_file(file: &GeneratorFile, source: Source, runtime: &Runtime) -> Result<Self> {
        let tokenizer = Tokenizer::from_bytes(&file.tokenizer()?).map_err(|problem| {
            Error::checkpoint(
                file.path(),
                format!("\"tokenizer\" is not a sentencepiece model of T5: {problem}"),
            )
        })?;
        Ok(Self {
            origin: Origin::File(file.clone(), source),
            tokenizer,
            runtime: runtime.clone(),
            tokens: file.info().tokens,
            model: Mutex::default(),
            recent: Mutex::default(),
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Features `[1, tokens, width]` of `prompt`, f32, on the device of the runtime.
    ///
    /// The unconditional branch of guidance has features of exact zeros and needs no encoder.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or what [`T5Encoder::load`] says about the weights.
    pub fn features(&self, prompt: &str, progress: &Progress) -> Result<Tensor> {
        if let Some(features) = self.cached(prompt) {
            return Ok(features);
        }
        let ids = self.tokenizer.encode_padded(prompt, self.tokens)?;
        let model = self.model(progress)?;
        progress.emit(Event::Started {
            step: "text",
            total: None,
        });
        let ids = Tensor::from_vec(ids, (1, self.tokens), &Device::Cpu)?;
        let features = self.runtime.install(|| model.forward(&ids, progress))?;
        progress.emit(Event::Finished { step: "text" });
        let mut recent = lock(&self.recent);
        recent.truncate(CACHED - 1);
        recent.push_front((prompt.to_owned(), features.clone()));
        Ok(features)
    }

    fn cached(&self, prompt: &str) -> Option<Tensor> {
        let mut recent = lock(&self.recent);
        let index = recent.iter().position(|(known, _)| known == prompt)?;
        let hit = recent.remove(index)?;
        let features = hit.1.clone();
        recent.push_front(hit);
        Some(features)
    }

    fn model(&self, progress: &Progress) -> Result<Arc<T5Encoder>> {
        let mut model = lock(&self.model);
        if let Some(model) = &*model {
            return Ok(model.clone());
        }
        progress.emit(Event::Started {
            step: "load",
            total: None,
        });
        let loaded = registry::shared(self.origin.source()?, &self.runtime, || {
            let (device, dtype) = (self.runtime.device(), self.runtime.dtype());
            let weights = Weights::new(self.origin.open()?, device, dtype);
            T5Encoder::load(&weights.with_progress(progress))
        })?;
        progress.emit(Event::Finished { step: "load" });
        *model = Some(loaded.clone());
        Ok(loaded)
    }

    /// Loads the weights before the first prompt.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn preload(&self, progress: &Progress) -> Result<()> {
        self.model(progress).map(drop)
    }

    /// Whether the weights are in memory.
    pub fn is_loaded(&self) -> bool {
        lock(&self.model).is_some()
    }

    /// Drops the weights; the features of recent prompts stay.
    pub fn unload(&self) {
        *lock(&self.model) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
