// SPDX-License-Identifier: MPL-2.0
//! How much the products of an adapter are scaled: alpha over rank, from wherever the file's writer put alpha.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use serde::Deserialize;
use serde_json::Value;

use super::names::Place;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::generator::{NOTE, note};
use crate::error::{Error, Result};

/// What PEFT writes beside the tensors.
pub(super) const CONFIG: &str = "adapter_config.json";
/// The note in which diffusers keep the same.
const METADATA: &str = "lora_adapter_metadata";
/// What diffusers put before the keys of a transformer's adapter.
const METADATA_PREFIX: &str = "transformer.";
/// What a file of ours calls itself.
const KIND: &str = "lora";

/// Our own note.
#[derive(Deserialize)]
struct AdapterNote {
    rank: usize,
    alpha: f64,
}

/// What PEFT's configuration says about scales.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    lora_alpha: Option<f64>,
    /// Alphas of single layers, by the end of their names.
    alpha_pattern: BTreeMap<String, f64>,
    use_rslora: bool,
    use_dora: bool,
}

/// Where scales come from, beside tensors of their own.
#[derive(Debug, Default)]
pub(super) struct Scale {
    note: Option<(usize, f64)>,
    config: Option<Config>,
}

impl Scale {
    /// From the header of `checkpoint` and the file `config`, if that is there.
    pub fn read(checkpoint: &Checkpoint, config: Option<&Path>) -> Result<Self> {
        let note = match checkpoint.note(NOTE) {
            Some(_) => Some(note::<AdapterNote>(checkpoint, KIND, "a LoRA adapter")?),
            None => None,
        };
        let beside = match config.filter(|path| path.is_file()) {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
                Some(Config::parse(path, &text)?)
            }
            None => None,
        };
        let metadata = || match checkpoint.note(METADATA) {
            Some(text) => Config::parse(checkpoint.path(), text).map(Some),
            None => Ok(None),
        };
        Ok(Self {
            note: note.map(|note| (note.rank, note.alpha)),
            config: match beside {
                Some(config) => Some(config),
                None => metadata()?,
            },
        })
    }

    /// The scale of the adapter at `place`, of rank `rank` and with the tensor `alpha` if it has one.
    pub fn of(
        &self,
        checkpoint: &Checkpoint,
        place: &Place,
        alpha: Option<&str>,
        rank: usize,
    ) -> Result<f64> {
        let fail = |problem: String| Error::checkpoint(checkpoint.path(), problem);
        if let Some((said, _)) = self.note
            && said != rank
        {
            return Err(fail(format!(
                "the adapter of {} has rank {rank}, the header says {said}",
                place.layer
            )));
        }
        let own = match alpha {
            Some(name) => {
                let alpha = checkpoint.tensor(name, &Device::Cpu, DType::F32)?;
                let alpha = alpha.flatten_all()?.to_vec1::<f32>()?;
                let [alpha] = alpha[..] else {
                    return Err(fail(format!("{name} is no single number")));
                };
                Some(f64::from(alpha))
            }
            None => None,
        };
        let config = self.config.as_ref();
        let alpha = own
            .or_else(|| config.and_then(|config| config.alpha(&place.layer)))
            .or_else(|| self.note.map(|(_, alpha)| alpha))
            .unwrap_or(if place.counted { 1.0 } else { rank as f64 });
        let rank = rank.max(1) as f64;
        Ok(match config {
            // Rank-stabilised: Kalajdzievski, arXiv 2312.03732.
            Some(config) if config.use_rslora => alpha / rank.sqrt(),
            _ => alpha / rank,
        })
    }
}

impl Config {
    fn parse(path: &Path, text: &str) -> Result<Self> {
        let fail = |problem: String| Error::checkpoint(path, problem);
        let wrong =
            |e: serde_json::Error| fail(format!("not PEFT's configuration of an adapter: {e}"));
        let mut json: Value = serde_json::from_str(text).map_err(wrong)?;
        if let Value::Object(map) = &mut json {
            let own: Vec<String> = map.keys().cloned().collect();
            for key in own {
                if let Some(short) = key.strip_prefix(METADATA_PREFIX)
                    && let Some(value) = map.remove(&key)
                {
                    map.insert(short.to_owned(), value);
                }
            }
            // PEFT writes null for what is not set.
            map.retain(|_, value| !value.is_null());
        }
        let config: Self = serde_json::from_value(json).map_err(wrong)?;
        if config.use_dora {
            return Err(fail("it uses DoRA, which is not supported".to_owned()));
        }
        let literal = |pattern: &String| {
            let word = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
            pattern.trim_start_matches('^').chars().all(word)
        };
        match config
            .alpha_pattern
            .keys()
            .find(|pattern| !literal(pattern))
        {
            Some(pattern) => Err(fail(format!(
                "the pattern \"{pattern}\" in alpha_pattern; only names of layers or their ends are supported"
            ))),
            None => Ok(config),
        }
    }

    /// The alpha of `layer`.
    fn alpha(&self, layer: &str) -> Option<f64> {
        let matches = |pattern: &str| match pattern.strip_prefix('^') {
            Some(whole) => whole == layer,
            None => {
                let before = layer.strip_suffix(pattern);
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }
        };
        let mut patterns = self.alpha_pattern.iter();
        let own = patterns.find(|(pattern, _)| matches(pattern));
        own.map(|(_, alpha)| *alpha).or(self.lora_alpha)
    }
}
