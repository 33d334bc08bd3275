// SPDX-License-Identifier: MPL-2.0
//! The view through which models take their weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Display, Write};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::LayerNorm;

use super::adapter::Product;
use super::{Adapter, Checkpoint, TensorType};
use crate::error::{Error, Result};
use crate::linear::{Linear, Lora};
use crate::progress::Progress;

/// What becomes of adapters (LoRA) beside a linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoraMode {
    /// Added to the weights while loading: no cost later. Layers with quantised weights keep theirs apart.
    #[default]
    Merge,
    /// Kept apart and added to each result.
    Apart,
    /// Left out: the model before its fine-tuning.
    Ignore,
}

/// Tensors of a [`Checkpoint`] below a prefix, on one device and in one number type.
///
/// Missing and misshapen tensors do not end loading at once. They are noted and stand in as zeros without memory, so
/// that [`finish`](Self::finish) can report all of them; a model is usable only after `finish` returned `Ok`.
#[derive(Clone, Debug)]
pub struct Weights {
    shared: Arc<Shared>,
    prefix: String,
}

#[derive(Debug)]
struct Shared {
    checkpoint: Arc<Checkpoint>,
    device: Device,
    dtype: DType,
    lora: LoraMode,
    lora_alpha: f64,
    /// From files of their own.
    adapters: Vec<Adapter>,
    progress: Progress,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    used: BTreeSet<String>,
    /// Name to expected and found.
    problems: BTreeMap<String, (String, String)>,
    /// Layers that have taken what an adapter, by its number, has for them; for others why not.
    adapted: BTreeSet<(usize, String)>,
    misfits: BTreeMap<(usize, String), String>,
}

impl Weights {
    /// All tensors of `checkpoint`. Adapters are merged with alpha = 1, as the release was trained.
    pub fn new(checkpoint: impl Into<Arc<Checkpoint>>, device: &Device, dtype: DType) -> Self {
        Self {
            shared: Arc::new(Shared {
                checkpoint: checkpoint.into(),
                device: device.clone(),
                dtype,
                lora: LoraMode::default(),
                lora_alpha: 1.0,
                adapters: Vec::new(),
                progress: Progress::none(),
                log: Mutex::default(),
            }),
            prefix: String::new(),
        }
    }

    /// What to do with adapters, and their alpha: products are scaled by alpha / rank.
    #[must_use]
    pub fn with_lora(self, mode: LoraMode, alpha: f64) -> Self {
        self.rebuilt(|shared| {
            shared.lora = mode;
            shared.lora_alpha = alpha;
        })
    }

    /// Adds adapters from files of their own to the linear layers that they name, beside those of the checkpoint.
    #[must_use]
    pub fn with_adapters(self, adapters: impl IntoIterator<Item = Adapter>) -> Self {
        self.rebuilt(|shared| shared.adapters.extend(adapters))
    }

    /// Checks the token of `progress` before each tensor.
    #[must_use]
    pub fn with_progress(self, progress: &Progress) -> Self {
        self.rebuilt(|shared| shared.progress = progress.clone())
    }

    fn rebuilt(self, change: impl FnOnce(&mut Shared)) -> Self {
        let old = &self.shared;
        let mut shared = Shared {
            checkpoint: old.checkpoint.clone(),
            device: old.device.clone(),
            dtype: old.dtype,
            lora: old.lora,
            lora_alpha: old.lora_alpha,
            adapters: old.adapters.clone(),
            progress: old.progress.clone(),
            log: Mutex::default(),
        };
        change(&mut shared);
        Self {
            shared: Arc::new(shared),
            prefix: self.prefix,
        }
    }

    /// The tensors below `name`: `w.pp("transformer").pp("layers").pp(3)`, or `w.pp("transformer.layers.3")`.
    #[must_use]
    pub fn pp(&self, name: impl Display) -> Self {
        Self {
            shared: self.shared.clone(),
            prefix: self.full(name),
        }
    }

    /// Full name of the tensor that is `name` here.
    fn full(&self, name: impl Display) -> String {
        if self.prefix.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    /// Where tensors go.
    pub fn device(&self) -> &Device {
        &self.shared.device
    }

    /// Number type that tensors get.
    pub fn dtype(&self) -> DType {
        self.shared.dtype
    }

    /// The checkpoint under this view.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.shared.checkpoint
    }

    /// Whether a tensor `name` exists here.
    pub fn contains(&self, name: &str) -> bool {
        self.shared.checkpoint.contains(&self.full(name))
    }

    /// Shape of the tensor `name`, if there is one. For models that derive their configuration from their weights.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shared.checkpoint.shape(&self.full(name))
    }

    /// Number of consecutive children `name.0`, `name.1`, … that have tensors.
    pub fn count(&self, name: &str) -> usize {
        let has = |index: &usize| {
            let prefix = format!("{}.{index}.", self.full(name));
            self.shared.checkpoint.names_under(&prefix).next().is_some()
        };
        (0..).take_while(has).count()
    }

    /// The tensor `name`, which must have `shape`, in the number type of this view.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or a failed read. A missing or misshapen tensor is noted for [`finish`](Self::finish).
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor> {
        self.get_as(shape, name, self.shared.dtype)
    }

    /// As [`get`](Self::get) with a number type of its own.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_as(&self, shape: impl Into<Shape>, name: &str, dtype: DType) -> Result<Tensor> {
        let shape = shape.into();
        let shared = &*self.shared;
        shared.progress.check()?;
        let name = self.full(name);
        if self.expect(&name, &shape) {
            return shared.checkpoint.tensor(&name, &shared.device, dtype);
        }
        // One zero, seen from everywhere.
        Ok(Tensor::zeros((), dtype, &shared.device)?.broadcast_as(shape)?)
    }

    /// The blocks of the tensor `name` when it is quantised and has `shape`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn blocks(&self, shape: impl Into<Shape>, name: &str) -> Result<Option<Arc<QTensor>>> {
        let shared = &*self.shared;
        shared.progress.check()?;
        let name = self.full(name);
        let quantized = matches!(
            shared.checkpoint.stored(&name),
            Some(TensorType::Quantized(_))
        );
        if quantized && self.expect(&name, &shape.into()) {
            return shared.checkpoint.blocks(&name, &shared.device);
        }
        Ok(None)
    }

    /// Whether the tensor `name` (in full) can be read as `shape`; notes what is wrong with it.
    fn expect(&self, name: &str, shape: &Shape) -> bool {
        let mut log = self
            .shared
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        log.used.insert(name.to_owned());
        let found = match self.shared.checkpoint.shape(name) {
            Some(found) if found == shape.dims() => return log.problems.is_empty(),
            Some(found) => format!("{found:?}"),
            None => "nothing".to_owned(),
        };
        log.problems
            .insert(name.to_owned(), (format!("{:?}", shape.dims()), found));
        false
    }

    /// A linear layer from `inputs` to `outputs` features with a bias.
    ///
    /// Reads `weight`, or `original.weight` with the adapters `matrix_A.j` and `matrix_B.j` beside it: f32, f16 and
    /// bf16 weights get the type of this view, quantised ones stay as they are.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn linear(&self, inputs: usize, outputs: usize) -> Result<Linear> {
        self.linear_layer(inputs, outputs, true)
    }

    /// A linear layer without a bias.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn linear_no_bias(&self, inputs: usize, outputs: usize) -> Result<Linear> {
        self.linear_layer(inputs, outputs, false)
    }

    fn linear_layer(&self, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        // A file that was merged before it was saved has the plain name.
        let base = if self.contains("original.weight") {
            self.pp("original")
        } else {
            self.clone()
        };
        let shared = &*self.shared;
        let bias = bias.then(|| base.get(outputs, "bias")).transpose()?;
        let mut loras: Vec<Lora> = self.lora(inputs, outputs)?.into_iter().collect();
        for number in 0..shared.adapters.len() {
            loras.extend(self.adapted(number, inputs, outputs)?);
        }
        if let Some(blocks) = base.blocks((outputs, inputs), "weight")? {
            return Ok(Linear::quantized(blocks, bias)?.with_loras(loras));
        }
        if loras.is_empty() || shared.lora != LoraMode::Merge {
            let weight = base.get((outputs, inputs), "weight")?;
            return Ok(Linear::new(weight, bias).with_loras(loras));
        }
        let mut weight = base.get_as((outputs, inputs), "weight", DType::F32)?;
        for lora in &loras {
            weight = lora.merge(&weight)?;
        }
        Ok(Linear::new(weight.to_dtype(shared.dtype)?, bias))
    }

    /// What adapter `number` has for the layer here. Products of another shape stay unused, which
    /// [`finish`](Self::finish) reports.
    fn adapted(&self, number: usize, inputs: usize, outputs: usize) -> Result<Option<Lora>> {
        let shared = &*self.shared;
        let Some(adapter) = shared.adapters.get(number) else {
            return Ok(None);
        };
        let (checkpoint, layer) = (adapter.checkpoint(), self.prefix.as_str());
        let Some(products) = adapter.layer(layer) else {
            return Ok(None);
        };
        let log = || shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        let count = products.len();
        let rows = outputs / count.max(1);
        let fits = |product: &Product| {
            let a = checkpoint
                .shape(&product.a)
                .is_some_and(|shape| shape.get(1) == Some(&inputs));
            let whole = rows * product.rows.1;
            let b = checkpoint
                .shape(&product.b)
                .is_some_and(|shape| shape.first() == Some(&whole));
            a && b && rows * count == outputs
        };
        if !products.iter().flatten().all(fits) {
            let reason = match count {
                1 => format!("{layer} has {inputs} inputs and {outputs} outputs"),
                _ => format!(
                    "{layer} has {inputs} inputs and {outputs} outputs, of which each of {count} is for a part"
                ),
            };
            log().misfits.insert((number, layer.to_owned()), reason);
            return Ok(None);
        }
        let (device, dtype) = match shared.lora {
            LoraMode::Merge => (&shared.device, DType::F32),
            _ => (&shared.device, shared.dtype),
        };
        let mut pairs = Vec::with_capacity(count);
        for product in products {
            shared.progress.check()?;
            pairs.push(match product {
                Some(Product {
                    a,
                    b,
                    rows: (index, _),
                    scale,
                }) => {
                    let b = checkpoint.tensor(b, device, dtype)?;
                    let part = b.narrow(0, index * rows, rows)?.contiguous()?;
                    (checkpoint.tensor(a, device, dtype)?, part, *scale)
                }
                // A part that is not adapted.
                None => (
                    Tensor::zeros((1, inputs), dtype, device)?,
                    Tensor::zeros((rows, 1), dtype, device)?,
                    0.0,
                ),
            });
        }
        log().adapted.insert((number, layer.to_owned()));
        Ok(Some(Lora::scaled(pairs)))
    }

    fn lora(&self, inputs: usize, outputs: usize) -> Result<Option<Lora>> {
        let shared = &*self.shared;
        let pairs = (0..)
            .take_while(|j| self.contains(&format!("matrix_A.{j}")))
            .count();
        if pairs == 0 {
            return Ok(None);
        }
        // The products are rounded once, after the sum with the weight.
        let dtype = match shared.lora {
            LoraMode::Merge => DType::F32,
            _ => shared.dtype,
        };
        let rank = self
            .shape("matrix_A.0")
            .and_then(|shape| shape.first().copied())
            .unwrap_or(0);
        let mut all = Vec::with_capacity(pairs);
        for j in 0..pairs {
            let a = self.get_as((rank, inputs), &format!("matrix_A.{j}"), dtype)?;
            let b = self.get_as((outputs / pairs, rank), &format!("matrix_B.{j}"), dtype)?;
            all.push((a, b));
        }
        if shared.lora == LoraMode::Ignore {
            return Ok(None);
        }
        Ok(Some(Lora::new(all, shared.lora_alpha / rank.max(1) as f64)))
    }

    /// A layer norm over `size` features with weight and bias.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn layer_norm(&self, size: usize, eps: f64) -> Result<LayerNorm> {
        Ok(LayerNorm::new(
            self.get(size, "weight")?,
            self.get(size, "bias")?,
            eps,
        ))
    }

    /// Ends loading. Adapters whose tensors fit no layer are an error too. Returns the names of tensors that the model did not ask for, which is worth a warning.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming every missing and every misshapen tensor with what was expected and found, and
    /// the superfluous ones, which are often the same under other names.
    pub fn finish(&self) -> Result<Vec<String>> {
        let log = self
            .shared
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (number, adapter) in self.shared.adapters.iter().enumerate() {
            let tensors = adapter.checkpoint();
            let shape = |name: &str| tensors.shape(name).unwrap_or_default().to_vec();
            let mut unused = Vec::new();
            for (layer, products) in adapter.layers() {
                let key = (number, layer.to_owned());
                if log.adapted.contains(&key) {
                    continue;
                }
                let none = format!("the model has no layer {layer}");
                let reason = log.misfits.get(&key).unwrap_or(&none);
                let mut lines: Vec<String> = (products.iter().flatten())
                    .map(|Product { a, b, .. }| {
                        format!("  {a} {:?}, {b} {:?}: {reason}", shape(a), shape(b))
                    })
                    .collect();
                lines.dedup();
                unused.push(lines.join("\n"));
            }
            if !unused.is_empty() {
                return Err(Error::checkpoint(
                    tensors.path(),
                    format!(
                        "{} of the {} layers that it adapts fit no layer of this model; is the adapter for another \
                         one?\n{}",
                        unused.len(),
                        adapter.layers().count(),
                        unused.join("\n")
                    ),
                ));
            }
        }
        let checkpoint = &self.shared.checkpoint;
        let extra: Vec<String> = checkpoint
            .names()
            .filter(|name| !log.used.contains(*name))
            .map(str::to_owned)
            .collect();
        if log.problems.is_empty() {
            return Ok(extra);
        }
        let mut text = format!(
            "{} of the {} tensors of the model are missing or of another shape; is this the file of another model?",
            log.problems.len(),
            log.used.len()
        );
        for (name, (expected, found)) in &log.problems {
            let _ = write!(text, "\n  {name}: expected {expected}, found {found}");
        }
        for name in &extra {
            let shape = checkpoint.shape(name).unwrap_or_default();
            let _ = write!(text, "\n  {name}: not expected, found {shape:?}");
        }
        Err(Error::checkpoint(checkpoint.path(), text))
    }
}
