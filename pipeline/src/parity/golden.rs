// SPDX-License-Identifier: MPL-2.0
//! Golden files and the comparison with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::checkpoint::{Checkpoint, ModelFolder};
use crate::error::{Error, Result};
use crate::plan::operands::OperandLimit;
use crate::progress::Progress;

/// Largest difference of transformer, VAE and text encoder.
pub(super) const NETWORK: f64 = 1e-4;
/// Largest difference of guided velocities and what follows from them.
pub(super) const GUIDED: f64 = 5e-4;
/// Largest difference of frames in 0..=255.
pub(super) const FRAMES: f64 = 0.02;
/// Largest difference of tables, float32 rounding.
pub(super) const TABLE: f64 = 2e-6;

/// One golden file: its tensors and what the sidecar says.
pub(super) struct Golden {
    pub name: String,
    pub folder: PathBuf,
    pub config: Value,
    /// Where the VAE works as on a GPU: the limit of its operands, and whether it saves memory.
    pub apart: Option<(OperandLimit, bool)>,
    /// For each tensor its meaning in words.
    meanings: HashMap<String, String>,
    notes: Vec<String>,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    /// Reads the file at `path` and the `.json` beside it.
    pub fn open(path: &Path) -> Result<Self> {
        let sidecar = path.with_extension("json");
        let text = std::fs::read(&sidecar).map_err(|e| Error::io(&sidecar, e))?;
        let mut json: Value = serde_json::from_slice(&text)
            .map_err(|e| Error::checkpoint(&sidecar, format!("not JSON: {e}")))?;
        let meanings = json["tensors"].as_object().map(|tensors| {
            let meaning = |(name, value): (&String, &Value)| {
                Some((name.clone(), value["meaning"].as_str()?.to_owned()))
            };
            tensors.iter().filter_map(meaning).collect()
        });
        Ok(Self {
            name: path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            folder: path.parent().unwrap_or(Path::new(".")).to_owned(),
            config: json["config"].take(),
            apart: None,
            meanings: meanings.unwrap_or_default(),
            notes: (json["notes"].as_array().into_iter().flatten())
                .filter_map(|note| note.as_str().map(str::to_owned))
                .collect(),
            tensors: candle_core::safetensors::load(path, &Device::Cpu)?,
        })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor `name` as it is stored.
    pub fn raw(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| {
            Error::invalid(format!(
                "{}.safetensors has no tensor \"{name}\"",
                self.name
            ))
        })
    }

    /// The tensor `name` in float32.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.raw(name)?.to_dtype(DType::F32)?)
    }

    /// All values of the tensor `name`.
    pub fn values(&self, name: &str) -> Result<Vec<f64>> {
        Ok(self
            .raw(name)?
            .to_dtype(DType::F64)?
            .flatten_all()?
            .to_vec1()?)
    }

    pub fn meaning(&self, name: &str) -> &str {
        self.meanings.get(name).map_or("", String::as_str)
    }

    /// The prompt that `p{index}` stands for, from the list in the notes.
    pub fn prompt(&self, name: &str) -> Option<String> {
        let index = name.strip_prefix('p')?.parse::<usize>().ok()?;
        let list = self
            .notes
            .iter()
            .find_map(|note| note.strip_prefix("prompts:"))?;
        serde_json::from_str::<Vec<String>>(list.trim())
            .ok()?
            .into_iter()
            .nth(index)
    }

    /// The number `key` of the configuration.
    pub fn number(&self, key: &str) -> Result<f64> {
        self.config[key]
            .as_f64()
            .ok_or_else(|| Error::invalid(format!("{}.json has no number config.{key}", self.name)))
    }

    /// The number `key` of the configuration, or what it is in the release.
    pub fn number_or(&self, key: &str, default: f64) -> f64 {
        self.config[key].as_f64().unwrap_or(default)
    }

    pub fn count(&self, key: &str) -> Result<usize> {
        Ok(self.number(key)? as usize)
    }

    /// The checkpoint that the configuration names, or else the one that `find` takes from the folder.
    pub fn checkpoint(
        &self,
        config: &Value,
        find: impl FnOnce(&ModelFolder) -> Result<Checkpoint>,
        rename: impl FnOnce(Checkpoint) -> Result<Checkpoint>,
    ) -> Result<Checkpoint> {
        match config["ckpt"].as_str().map(|name| self.folder.join(name)) {
            Some(file) if file.is_file() => rename(Checkpoint::open(file)?),
            _ => find(&ModelFolder::open(&self.folder)?),
        }
    }
}

/// All comparisons of one golden file.
pub(super) struct Check<'a> {
    pub progress: &'a Progress,
    pub compared: usize,
    /// The comparison that came closest to its tolerance, or went furthest beyond.
    pub worst: Option<Comparison>,
    pub failures: Vec<Comparison>,
}

/// One comparison.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub tensor: String,
    pub error: f64,
    pub tolerance: f64,
}

impl<'a> Check<'a> {
    pub fn new(progress: &'a Progress) -> Self {
        Self {
            progress,
            compared: 0,
            worst: None,
            failures: Vec::new(),
        }
    }

    /// Notes that `tensor` differs by `error`.
    pub fn note(&mut self, tensor: &str, error: f64, tolerance: f64) {
        let comparison = Comparison {
            tensor: tensor.to_owned(),
            error,
            tolerance,
        };
        self.compared += 1;
        // NaN is the worst of all.
        let ratio = |c: &Comparison| {
            if c.error.is_nan() {
                f64::INFINITY
            } else {
                c.error / c.tolerance
            }
        };
        if ratio(&comparison) > 1.0 {
            self.failures.push(comparison.clone());
        }
        if self
            .worst
            .as_ref()
            .is_none_or(|worst| ratio(&comparison) > ratio(worst))
        {
            self.worst = Some(comparison);
        }
    }

    /// Compares numbers.
    pub fn numbers(&mut self, tensor: &str, got: &[f64], want: &[f64], tolerance: f64) {
        let error = if got.len() == want.len() {
            largest(got.iter().zip(want).map(|(a, b)| (a - b).abs()))
        } else {
            f64::INFINITY
        };
        self.note(tensor, error, tolerance);
    }

    /// Compares `got` with the tensor `name` of `golden`; tensors of another shape differ infinitely.
    pub fn tensor(
        &mut self,
        golden: &Golden,
        name: &str,
        got: &Tensor,
        tolerance: f64,
    ) -> Result<()> {
        let want = golden.raw(name)?;
        if got.dims() != want.dims() {
            self.note(
                &format!("{name} {:?} instead of {:?}", got.dims(), want.dims()),
                f64::INFINITY,
                tolerance,
            );
            return Ok(());
        }
        let got: Vec<f64> = got.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let want: Vec<f64> = want.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        self.numbers(name, &got, &want, tolerance);
        Ok(())
    }
}

/// The largest value; NaN if one is.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |largest, value| {
        if value > largest || value.is_nan() {
            value
        } else {
            largest
        }
    })
}

/// All numbers in `text`, a sign directly before one included.
pub(super) fn numbers_in(text: &str) -> Vec<f64> {
    let mut numbers = Vec::new();
    let mut rest = text;
    let mut sign = 1.0;
    while let Some(next) = rest.chars().next() {
        if next.is_ascii_digit() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .unwrap_or(rest.len());
            let (number, tail) = rest.split_at(end);
            numbers.extend(
                number
                    .trim_end_matches('.')
                    .parse::<f64>()
                    .map(|value| sign * value),
            );
            rest = tail;
            sign = 1.0;
        } else {
            sign = if next == '-' { -1.0 } else { 1.0 };
            rest = &rest[next.len_utf8()..];
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_words() {
        assert_eq!(
            numbers_in("0.4*x+0.3*ctx*sin(x+0.002*idx)-0.1*ctx (cond 0.7, uncond -0.2)"),
            [0.4, 0.3, 0.002, -0.1, 0.7, -0.2]
        );
        assert_eq!(
            numbers_in("rows: t=0,1,613.4375; cos"),
            [0.0, 1.0, 613.4375]
        );
        assert_eq!(numbers_in("the 13x67x120 grid."), [13.0, 67.0, 120.0]);
        assert!(numbers_in("none").is_empty());
    }

    #[test]
    fn nan_and_other_lengths_fail() {
        let progress = Progress::none();
        let mut check = Check::new(&progress);
        check.numbers("close", &[1.0], &[1.0 + 1e-5], 1e-4);
        assert!(check.failures.is_empty());
        check.numbers("nan", &[f64::NAN, 1.0], &[1.0, 1.0], 1e-4);
        check.numbers("short", &[1.0], &[1.0, 1.0], 1e-4);
        assert_eq!(check.failures.len(), 2);
        assert_eq!(check.compared, 3);
        assert_eq!(check.worst.unwrap().tensor, "nan");
    }
}
