//! Between candle tensors on the processor and the slices that the kernels work on.

use candle_core::{CpuStorage, DType, Storage, Tensor};

use crate::error::{Error, Result};

/// Calls `work` with the values of `tensor` in row-major order.
///
/// Nothing is copied when the tensor is f32 and contiguous; else a converted copy lives for the call.
///
/// # Errors
/// [`Error::Invalid`] when the tensor is not on the processor, else those of `work`.
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
            "a processor kernel was called with a {:?} tensor on {:?}",
            tensor.dtype(),
            tensor.device().location()
        ))),
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
}
