// SPDX-License-Identifier: MPL-2.0
//! Low-rank adapters (LoRA) in a file of their own: the release's names, and those of PEFT and diffusers.

mod names;
mod scale;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use self::names::{Part, Piece, Place};
use self::scale::Scale;
use super::{Checkpoint, TensorType};
use crate::error::{Error, Result};

/// Adapters for the linear layers of a transformer, under the release's names of the layers.
///
/// Files may have them as the release does, `{layer}.matrix_A.{j}` `[rank, inputs]` and `{layer}.matrix_B.{j}`
/// `[outputs / pairs, rank]`, or as PEFT does, `{layer}.lora_A.weight` and `{layer}.lora_B.weight`, with the layers named
/// as in the release or as in diffusers' CogVideoX.
#[derive(Clone, Debug)]
pub struct Adapter {
    checkpoint: Arc<Checkpoint>,
    /// For each layer its products, which lie one below the other.
    layers: BTreeMap<String, Vec<Option<Product>>>,
}

/// `scale * B A`.
#[derive(Clone, Debug)]
pub(super) struct Product {
    /// Name of A `[rank, inputs]`.
    pub a: String,
    /// Name of B `[outputs, rank]`.
    pub b: String,
    /// Which of how many equal parts of B's rows.
    pub rows: (usize, usize),
    /// Alpha over rank, and how much stronger than trained.
    pub scale: f64,
}

/// The two factors and the alpha that belong to a layer of the file.
#[derive(Default)]
struct Found {
    a: Option<String>,
    b: Option<String>,
    alpha: Option<String>,
}

impl Adapter {
    /// The adapters in the file at `path`, or in PEFT's folder there, `scale` times as strong as they were trained.
    ///
    /// Products are multiplied by `scale` * alpha / rank. Alpha is what a tensor `{layer}.alpha` says, or PEFT's
    /// `adapter_config.json` beside the file, or diffusers' note `lora_adapter_metadata` or ours, `flashvideo`, in the
    /// header. Without any it is 1 under the release's names, as there, and the rank under PEFT's, as diffusers have it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Checkpoint`] when the file holds no adapters or others than it says, naming the tensors,
    /// [`Error::Invalid`] for a scale that is no number.
    pub fn open(path: &Path, scale: f64) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let beside = checkpoint.path().with_file_name(scale::CONFIG);
        Self::new(checkpoint, Some(&beside), scale)
    }

    /// The adapters in `bytes`, which are part of the program.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_static(name: &'static str, bytes: &'static [u8], scale: f64) -> Result<Self> {
        Self::new(Checkpoint::from_static(name, bytes)?, None, scale)
    }

    fn new(checkpoint: Checkpoint, config: Option<&Path>, strength: f64) -> Result<Self> {
        if !strength.is_finite() {
            return Err(Error::invalid(format!("adapters scaled by {strength}")));
        }
        let path = checkpoint.path();
        if checkpoint.is_empty() {
            return Err(Error::checkpoint(path, "it holds no tensors"));
        }
        let scale = Scale::read(&checkpoint, config)?;
        let mut found: BTreeMap<Place, Found> = BTreeMap::new();
        for name in checkpoint.names() {
            let fail = |problem: &str| Error::checkpoint(path, format!("{name} {problem}"));
            let (place, part) = names::parse(name).ok_or_else(|| fail(names::EXPECTED))?;
            if matches!(checkpoint.stored(name), Some(TensorType::Quantized(_))) {
                return Err(fail("is quantised"));
            }
            let rank = checkpoint.shape(name).map_or(0, <[usize]>::len);
            if part != Part::Alpha && rank != 2 {
                return Err(fail(&format!(
                    "has {rank} dimensions; adapters of linear layers have two"
                )));
            }
            let found = found.entry(place).or_default();
            let slot = match part {
                Part::A => &mut found.a,
                Part::B => &mut found.b,
                Part::Alpha => &mut found.alpha,
            };
            if let Some(other) = slot.replace(name.to_owned()) {
                return Err(fail(&format!("is for the same layer as {other}")));
            }
        }
        let mut layers: BTreeMap<String, Vec<Option<Product>>> = BTreeMap::new();
        for (place, found) in found {
            let fail = |problem: String| Error::checkpoint(path, problem);
            let (a, b) = match (&found.a, &found.b) {
                (Some(a), Some(b)) => (a, b),
                (Some(one), None) | (None, Some(one)) => {
                    return Err(fail(format!(
                        "{one} has no other half; A and B belong together"
                    )));
                }
                (None, None) => {
                    return Err(fail(format!("{} has an alpha and no adapter", place.layer)));
                }
            };
            let shape = |name: &str| checkpoint.shape(name).unwrap_or_default().to_vec();
            let (of_a, of_b) = (shape(a), shape(b));
            if of_a.first() != of_b.get(1) {
                return Err(fail(format!(
                    "{a} {of_a:?} and {b} {of_b:?} have other ranks"
                )));
            }
            let rank = of_a.first().copied().unwrap_or(0);
            let factor = strength * scale.of(&checkpoint, &place, found.alpha.as_deref(), rank)?;
            if !factor.is_finite() {
                return Err(fail(format!("the alpha of {} is no number", place.layer)));
            }
            for Piece {
                layer,
                index,
                count,
                rows,
            } in place.pieces()
            {
                let pieces = layers.entry(layer.clone()).or_default();
                if place.counted {
                    // The release numbers the pairs of a layer and does not say how many there are.
                    if pieces.len() <= index {
                        pieces.resize(index + 1, None);
                    }
                } else if pieces.is_empty() {
                    pieces.resize(count, None);
                }
                let there = pieces.len();
                match pieces.get_mut(index) {
                    Some(slot) if slot.is_none() && (place.counted || there == count) => {
                        *slot = Some(Product {
                            a: a.clone(),
                            b: b.clone(),
                            rows,
                            scale: factor,
                        });
                    }
                    _ => {
                        return Err(fail(format!(
                            "{a} is for the same part of {layer} as another"
                        )));
                    }
                }
            }
        }
        Ok(Self {
            checkpoint: Arc::new(checkpoint),
            layers,
        })
    }

    /// The tensors, under the names of the file.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The products for the layer of that name; equal parts of its outputs that have none are not adapted.
    pub(super) fn layer(&self, name: &str) -> Option<&[Option<Product>]> {
        self.layers.get(name).map(Vec::as_slice)
    }

    /// The layers that are adapted, by the names of the release.
    pub(super) fn layers(&self) -> impl Iterator<Item = (&str, &[Option<Product>])> {
        let layers = self.layers.iter();
        layers.map(|(name, products)| (name.as_str(), products.as_slice()))
    }
}

#[cfg(test)]
mod tests;
