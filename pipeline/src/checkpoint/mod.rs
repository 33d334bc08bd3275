// SPDX-License-Identifier: MPL-2.0
//! Model files: torch zip pickles, safetensors, GGUF and the built-in weights.
//!
//! [`Checkpoint`] lists what a file or folder holds and reads tensors one by one, [`Weights`] is the view through which
//! models take what they need, and [`ModelFolder`] finds the parts of a model on disk.

mod adapter;
pub mod builtin;
mod entry;
mod folder;
mod generator;
pub mod gguf;
mod naming;
mod pickle;
mod safetensors_file;
mod source;
mod tensor;
mod torch;
mod weights;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use entry::Entry;
use source::Source;

pub use adapter::Adapter;
pub use folder::{Layout, ModelFolder, find_weights};
pub use generator::{GeneratorFile, GeneratorInfo, GuidanceRule};
pub use tensor::TensorType;
pub use weights::{LoraMode, Weights};

/// The tensors of a file, or of the shards of one model, by name. Opening reads headers only; each tensor is read when it
/// is asked for, so that the peak of memory is one tensor above the model itself.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
    /// What a safetensors header says beside the tensors.
    notes: HashMap<String, String>,
}

impl Checkpoint {
    /// Opens a torch file, a safetensors or GGUF file, the index of a sharded model, or the folder of one.
    ///
    /// The format is told from the content, not from the name.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::Checkpoint`] when one is damaged, of no known format, or
    /// contains what no model needs.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = if path.is_dir() {
            find_weights(path)?
        } else {
            path.to_owned()
        };
        if file.extension().is_some_and(|e| e == "json") {
            return Self::open_shards(&file);
        }
        Self::parse(Source::open(&file)?)
    }

    /// Reads `bytes` as a file of the given name, in any of the formats of [`open`](Self::open).
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Result<Self> {
        Self::parse(Source::from_bytes(name, bytes))
    }

    /// Reads `bytes`, which are part of the program, as [`from_bytes`](Self::from_bytes) does; they are not copied.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_static(name: impl Into<PathBuf>, bytes: &'static [u8]) -> Result<Self> {
        Self::parse(Source::from_static(name, bytes))
    }

    /// A checkpoint of tensors that are in memory already.
    ///
    /// # Errors
    /// [`Error::Invalid`] for number types that no model has.
    pub fn from_tensors(tensors: HashMap<String, Tensor>) -> Result<Self> {
        let entries = tensors
            .into_iter()
            .map(|(name, tensor)| Ok((name, Entry::memory(tensor)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            path: PathBuf::from("memory"),
            entries,
            notes: HashMap::new(),
        })
    }

    fn parse(source: Source) -> Result<Self> {
        let source = Arc::new(source);
        let bytes = source.bytes();
        let (entries, notes) = if torch::is_torch(bytes) {
            (torch::entries(&source)?, HashMap::new())
        } else if gguf::is_gguf(bytes) {
            (gguf::entries(&source)?, HashMap::new())
        } else if safetensors_file::is_safetensors(bytes) {
            safetensors_file::entries(&source)?
        } else {
            return Err(source.error(
                "neither a torch, a safetensors nor a GGUF file; if it was downloaded, it is damaged or a web page",
            ));
        };
        Ok(Self {
            path: source.path().to_owned(),
            entries: entries.into_iter().collect(),
            notes,
        })
    }

    /// Opens all shards that the index at `path` names.
    fn open_shards(path: &Path) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let text = fs::read(path).map_err(|e| Error::io(path, e))?;
        let index: Index = serde_json::from_slice(&text).map_err(|e| {
            Error::checkpoint(path, format!("not the index of a sharded model: {e}"))
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut shards: BTreeMap<&str, Self> = BTreeMap::new();
        for file in index.weight_map.values() {
            if Path::new(file)
                .file_name()
                .is_none_or(|name| name != file.as_str())
            {
                return Err(Error::checkpoint(
                    path,
                    format!("the shard \"{file}\" is not a file of this folder"),
                ));
            }
            if !shards.contains_key(file.as_str()) {
                let shard = folder.join(file);
                if shard.extension().is_some_and(|e| e == "json") {
                    return Err(Error::checkpoint(
                        path,
                        format!("the shard \"{file}\" is an index itself"),
                    ));
                }
                shards.insert(file, Self::open(shard)?);
            }
        }
        let mut entries = BTreeMap::new();
        let mut absent = Vec::new();
        for (name, file) in &index.weight_map {
            match shards
                .get_mut(file.as_str())
                .and_then(|shard| shard.entries.remove(name))
            {
                Some(entry) => drop(entries.insert(name.clone(), entry)),
                None => absent.push(format!("  {name}: expected in {file}, not found there")),
            }
        }
        if !absent.is_empty() {
            return Err(Error::checkpoint(
                path,
                format!("shards are incomplete:\n{}", absent.join("\n")),
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            entries,
            notes: HashMap::new(),
        })
    }

    /// The file that was opened; for shards their index.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The note `key` in the header of a safetensors file.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// The tensors below `prefix`, without it: `dit.time_embed.0.bias` is `time_embed.0.bias` under `dit.`.
    #[must_use]
    pub fn under(&self, prefix: &str) -> Self {
        let entries = self
            .entries
            .range(prefix.to_owned()..)
            .map_while(|(name, entry)| Some((name.strip_prefix(prefix)?.to_owned(), entry.clone())))
            .collect();
        Self {
            path: self.path.clone(),
            entries,
            notes: HashMap::new(),
        }
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Names of the tensors that begin with `prefix`, sorted.
    pub fn names_under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.entries
            .range(prefix.to_owned()..)
            .map(|(name, _)| name.as_str())
            .take_while(move |name| name.starts_with(prefix))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all tensors whose name `keep` refuses.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.entries.retain(|name, _| keep(name));
    }

    /// Whether a tensor of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape of the tensor `name`.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// Number type in which the tensor `name` is stored.
    pub fn stored(&self, name: &str) -> Option<TensorType> {
        self.entries.get(name).map(|entry| entry.stored)
    }

    /// Bytes of all tensors as a model takes them: quantised ones as they are stored, all others in `dtype`.
    pub fn bytes_in(&self, dtype: DType) -> u64 {
        let bytes = |entry: &Entry| {
            let values: usize = entry.shape.iter().product();
            let (block, size) = match entry.stored {
                TensorType::Quantized(_) => entry.stored.block(),
                _ => (1, dtype.size_in_bytes()),
            };
            (values.div_ceil(block) * size) as u64
        };
        self.entries.values().map(bytes).sum()
    }

    /// Reads the tensor `name`, converted to `dtype`, onto `device`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when there is none of that name or its type cannot be converted.
    pub fn tensor(&self, name: &str, device: &Device, dtype: DType) -> Result<Tensor> {
        self.entry(name)?.tensor(device, dtype)
    }

    /// The blocks of the quantised tensor `name` as they are stored; `None` for tensors of other types.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn blocks(&self, name: &str, device: &Device) -> Result<Option<Arc<QTensor>>> {
        self.entry(name)?.blocks(device)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries
            .get(name)
            .ok_or_else(|| Error::checkpoint(&self.path, format!("has no tensor \"{name}\"")))
    }
}
