// SPDX-License-Identifier: MPL-2.0
//! Between candle tensors on the CPU and the slices that the kernels work on.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Storage, Tensor};

use crate::error::{Error, Result};

/// Calls `work` with the values of `tensor` in row-major order.
///
/// Nothing is copied when the tensor is f32 and contiguous; else a converted copy lives for the call.
///
/// # Errors
/// [`Error::Invalid`] when the tensor is not on the CPU, else those of `work`.
pub fn with_f32<R>(tensor: &Tensor, work: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let values = match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => layout
            .contiguous_offsets()
            .and_then(|(a, b)| values.get(a..b)),
        _ => None,
    };
    match values {
        Some(values) => work(values),
        None => Err(Error::invalid(format!(
            "a kernel of the CPU was called with a {:?} tensor on {:?}",
            tensor.dtype(),
            tensor.device().location()
        ))),
    }
}

/// Calls `work` with the values of `tensor`, an f32 tensor on the CPU in row-major order, to change them in place.
///
/// # Errors
/// [`Error::Invalid`] when the tensor is of another kind, else those of `work`.
pub fn with_f32_mut<R>(tensor: &Tensor, work: impl FnOnce(&mut [f32]) -> Result<R>) -> Result<R> {
    let change = Change {
        work: RefCell::new(Some(work)),
        outcome: RefCell::new(None),
    };
    tensor.inplace_op1(&change)?;
    change.outcome.into_inner().unwrap_or_else(|| {
        Err(Error::invalid(format!(
            "a kernel of the CPU cannot change a {:?} tensor on {:?} in place",
            tensor.dtype(),
            tensor.device().location()
        )))
    })
}

/// One call of `work`, whose outcome candle's own error type could not carry.
struct Change<F, R> {
    work: RefCell<Option<F>>,
    outcome: RefCell<Option<Result<R>>>,
}

impl<R, F: FnOnce(&mut [f32]) -> Result<R>> InplaceOp1 for Change<F, R> {
    fn name(&self) -> &'static str {
        "kernel of the CPU"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        if let (CpuStorage::F32(values), Some((start, end))) =
            (storage, layout.contiguous_offsets())
            && let Some(values) = values.get_mut(start..end)
            && let Some(work) = self.work.take()
        {
            self.outcome.replace(Some(work(values)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn views_and_half_floats_arrive_in_order() {
        let tensor = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::Cpu).unwrap();
        let sum = |t: &Tensor| with_f32(t, |v| Ok(v.to_vec())).unwrap();
        assert_eq!(sum(&tensor), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(sum(&tensor.t().unwrap()), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let row = tensor
            .narrow(0, 1, 1)
            .unwrap()
            .to_dtype(DType::BF16)
            .unwrap();
        assert_eq!(sum(&row), [4.0, 5.0, 6.0]);
    }

    #[test]
    fn values_change_in_place_and_errors_arrive() {
        let tensor = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
        let double = |values: &mut [f32]| {
            values.iter_mut().for_each(|v| *v *= 2.0);
            Ok(())
        };
        with_f32_mut(&tensor.narrow(0, 1, 2).unwrap(), double).unwrap();
        assert_eq!(tensor.to_vec1::<f32>().unwrap(), [1.0, 4.0, 6.0]);
        let failed = with_f32_mut(&tensor, |_| Err::<(), _>(Error::invalid("why")));
        assert!(failed.unwrap_err().to_string().contains("why"));
        let wrong = tensor.to_dtype(DType::BF16).unwrap();
        assert!(with_f32_mut(&wrong, double).is_err());
    }
}
