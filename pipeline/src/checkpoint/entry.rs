// SPDX-License-Identifier: MPL-2.0
//! One tensor of a checkpoint before it is read.

use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{DType, Device, Tensor};

use super::source::Source;
use super::tensor::{self, Extent, TensorType};
use crate::error::{Error, Result};

/// Where a tensor comes from and what it will be.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(super) stored: TensorType,
    pub(super) shape: Vec<usize>,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    File(Arc<Source>, Extent),
    Memory(Tensor),
    /// Rows of other tensors, one below the other.
    Rows(Vec<Entry>),
}

impl Entry {
    pub(super) fn file(
        source: &Arc<Source>,
        stored: TensorType,
        shape: Vec<usize>,
        extent: Extent,
    ) -> Self {
        Self {
            stored,
            shape,
            place: Place::File(source.clone(), extent),
        }
    }

    pub(super) fn memory(tensor: Tensor) -> Result<Self> {
        let stored = TensorType::of(tensor.dtype()).ok_or_else(|| {
            Error::invalid(format!("tensors of {:?} are not supported", tensor.dtype()))
        })?;
        Ok(Self {
            stored,
            shape: tensor.dims().to_vec(),
            place: Place::Memory(tensor),
        })
    }

    /// The `parts` one below the other; they must agree in type and in all but the first dimension.
    pub(super) fn stacked(parts: Vec<Self>) -> Option<Self> {
        let first = parts.first()?;
        let stored = first.stored;
        let inner = first.shape.get(1..)?.to_vec();
        let mut rows = 0usize;
        for part in &parts {
            let (d, rest) = part.shape.split_first()?;
            if part.stored != stored || rest != inner {
                return None;
            }
            rows = rows.checked_add(*d)?;
        }
        let mut shape = vec![rows];
        shape.extend(inner);
        Some(Self {
            stored,
            shape,
            place: Place::Rows(parts),
        })
    }

    /// The rows `rows` of this tensor; `None` when it has not as many.
    pub(super) fn rows(&self, rows: Range<usize>) -> Option<Self> {
        let (&all, inner) = self.shape.split_first()?;
        let whole_blocks = inner
            .last()
            .is_some_and(|d| d.is_multiple_of(self.stored.block().0))
            || self.stored.block().0 == 1;
        if rows.start > rows.end || rows.end > all || !whole_blocks {
            return None;
        }
        let mut shape = vec![rows.len()];
        shape.extend(inner);
        let place = match &self.place {
            Place::File(source, extent) => {
                Place::File(source.clone(), extent.rows(self.stored, &self.shape, rows))
            }
            Place::Memory(tensor) => Place::Memory(tensor.narrow(0, rows.start, rows.len()).ok()?),
            Place::Rows(_) => return None,
        };
        Some(Self {
            stored: self.stored,
            shape,
            place,
        })
    }

    pub(super) fn tensor(&self, device: &Device, dtype: DType) -> Result<Tensor> {
        match &self.place {
            Place::File(source, extent) => {
                tensor::read(source, extent, self.stored, &self.shape, device, dtype)
            }
            Place::Memory(tensor) => Ok(tensor.to_device(device)?.to_dtype(dtype)?.contiguous()?),
            Place::Rows(parts) => {
                let parts = parts
                    .iter()
                    .map(|part| part.tensor(device, dtype))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Tensor::cat(&parts, 0)?)
            }
        }
    }

    /// The blocks of a quantised tensor, or `None` when it has none or they lie apart.
    pub(super) fn blocks(&self, device: &Device) -> Result<Option<Arc<QTensor>>> {
        match (&self.place, self.stored) {
            (Place::File(source, extent), TensorType::Quantized(_)) => {
                tensor::read_blocks(source, extent, self.stored, &self.shape, device).map(Some)
            }
            _ => Ok(None),
        }
    }
}
