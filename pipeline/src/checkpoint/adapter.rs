//! Low-rank adapters (LoRA) in a file of their own.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::generator::{NOTE, note};
use super::{Checkpoint, Stored};
use crate::error::{Error, Result};

/// What a file of this kind calls itself.
const KIND: &str = "lora";
/// Beginnings that the names may have beside the release's.
const PREFIXES: [&str; 2] = ["model.diffusion_model.", "dit."];

#[derive(Deserialize)]
struct AdapterNote {
    rank: usize,
    alpha: f64,
}

/// Adapters for the linear layers of a transformer: pairs `{layer}.matrix_A.{j}` `[rank, inputs]` and
/// `{layer}.matrix_B.{j}` `[outputs / pairs, rank]`, as the release names them.
#[derive(Clone, Debug)]
pub struct Adapter {
    checkpoint: Arc<Checkpoint>,
    alpha: f64,
}

impl Adapter {
    /// The adapters in the file at `path`, `scale` times as strong as they were trained.
    ///
    /// Products are multiplied by `scale` * alpha / rank. Alpha and rank are read from the note `flashvideo` in the
    /// header; without one alpha is 1, as in the release.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Checkpoint`] when the file holds no adapters or others than its note says,
    /// [`Error::Invalid`] for a scale that is no number.
    pub fn open(path: &Path, scale: f64) -> Result<Self> {
        Self::new(Checkpoint::open(path)?, scale)
    }

    /// The adapters in `bytes`, which are part of the program.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_static(name: &'static str, bytes: &'static [u8], scale: f64) -> Result<Self> {
        Self::new(Checkpoint::from_static(name, bytes)?, scale)
    }

    fn new(mut checkpoint: Checkpoint, scale: f64) -> Result<Self> {
        if !scale.is_finite() {
            return Err(Error::invalid(format!("adapters scaled by {scale}")));
        }
        let said = match checkpoint.note(NOTE) {
            Some(_) => Some(note::<AdapterNote>(&checkpoint, KIND, "a LoRA adapter")?),
            None => None,
        };
        for prefix in PREFIXES {
            if checkpoint.names_under(prefix).next().is_some() {
                checkpoint = checkpoint.under(prefix);
            }
        }
        let path = checkpoint.path();
        if checkpoint.is_empty() {
            return Err(Error::checkpoint(path, "it holds no tensors"));
        }
        for name in checkpoint.names() {
            let rank = match checkpoint.shape(name) {
                Some(&[rank, _]) if name.contains(".matrix_A.") => rank,
                Some(&[_, rank]) if name.contains(".matrix_B.") => rank,
                found => {
                    return Err(Error::checkpoint(
                        path,
                        format!(
                            "{name} {found:?} is no part of an adapter: names end with matrix_A.0, matrix_B.0, … and \
                             have two dimensions"
                        ),
                    ));
                }
            };
            if let Some(said) = &said
                && said.rank != rank
            {
                return Err(Error::checkpoint(
                    path,
                    format!("{name} has rank {rank}, the header says {}", said.rank),
                ));
            }
            if matches!(checkpoint.stored(name), Some(Stored::Quantized(_))) {
                return Err(Error::checkpoint(path, format!("{name} is quantised")));
            }
        }
        let alpha = said.map_or(1.0, |said| said.alpha) * scale;
        if !alpha.is_finite() {
            return Err(Error::checkpoint(
                path,
                "the alpha in its header is no number",
            ));
        }
        Ok(Self {
            checkpoint: Arc::new(checkpoint),
            alpha,
        })
    }

    /// The tensors, under the names of the model's layers.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Products are multiplied by this over the rank.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }
}
