// SPDX-License-Identifier: MPL-2.0
//! Tensor operations small enough for kernels that count with 32 bits.
//!
//! candle 0.11's kernels for CUDA and Metal number the elements of an operand with 32 bits. From 2^32 elements on their
//! loops never end, and sums of an index and a stride wrap before that. So whatever runs on such a device is cut into
//! [`parts`](OperandLimit::parts), and operations that make more elements than they are given go through an
//! [`OperandLimit`], which refuses what is too large before it is begun. All others keep the size of an operand that
//! was admitted.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};

/// No operand on a GPU has this many elements.
pub const ELEMENTS: usize = 1 << 31;
/// Elements of the largest operand of a part, about: far below [`ELEMENTS`], so that the buffers of a part are small
/// beside what it is a part of.
const PART: usize = 1 << 27;

/// How many elements an operand may have, and what the largest one had.
#[derive(Clone, Debug)]
pub struct OperandLimit {
    /// An operand has fewer elements than this.
    elements: usize,
    /// What parts aim at.
    part: usize,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    largest: AtomicUsize,
    operations: AtomicUsize,
}

impl OperandLimit {
    /// The limit of GPUs.
    pub fn gpu() -> Self {
        Self {
            part: PART,
            ..Self::new(ELEMENTS)
        }
    }

    /// The limit on `device`; none on the CPU, whose kernels count with 64 bits.
    pub fn of(device: &Device) -> Option<Self> {
        (!device.is_cpu()).then(Self::gpu)
    }

    /// Operands of fewer than `elements` elements.
    pub fn new(elements: usize) -> Self {
        Self {
            elements,
            part: elements.saturating_sub(1),
            seen: Arc::default(),
        }
    }

    /// An operand of `elements` elements is about to be made.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is too large.
    pub fn admit(&self, elements: usize) -> Result<()> {
        if elements >= self.elements {
            return Err(Error::invalid(format!(
                "an operand of {elements} elements on a device that takes fewer than {}; use a smaller frame or \
                 fewer frames",
                self.elements
            )));
        }
        self.seen.largest.fetch_max(elements, Ordering::Relaxed);
        self.seen.operations.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Elements of the largest operand that was admitted so far.
    pub fn largest(&self) -> usize {
        self.seen.largest.load(Ordering::Relaxed)
    }

    /// Elements that the operands of a part aim at.
    pub(crate) fn part(&self) -> usize {
        self.part
    }

    /// Positions of `each` elements in a part, at least one.
    pub(crate) fn most(&self, each: usize) -> usize {
        (self.part / each.max(1)).max(1)
    }

    /// Operands admitted so far.
    pub fn operations(&self) -> usize {
        self.seen.operations.load(Ordering::Relaxed)
    }

    /// `0..length` cut into parts of nearly equal length, whose operands have `fixed` elements and `each` more for
    /// each position: as few parts as keep all operands small, at least one position in each.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a single position is too large.
    pub fn parts(&self, length: usize, fixed: usize, each: usize) -> Result<Vec<Range<usize>>> {
        if length == 0 {
            return Ok(Vec::new());
        }
        // What does not grow with its length needs no parts.
        let room = self.part.saturating_sub(fixed);
        let most = room.checked_div(each).unwrap_or(length);
        let count = length.div_ceil(most.clamp(1, length));
        let longest = length.div_ceil(count);
        if fixed + longest * each >= self.elements {
            return Err(Error::invalid(format!(
                "an operand of {} elements on a device that takes fewer than {}; use a smaller frame",
                fixed + longest * each,
                self.elements
            )));
        }
        Ok((0..count)
            .map(|index| index * length / count..(index + 1) * length / count)
            .collect())
    }

    /// `tensors` one after another along `dim`.
    ///
    /// # Errors
    /// As [`admit`](Self::admit), or a failed tensor operation.
    pub fn cat(&self, tensors: &[Tensor], dim: usize) -> Result<Tensor> {
        if let [one] = tensors {
            return Ok(one.clone());
        }
        self.admit(tensors.iter().map(Tensor::elem_count).sum())?;
        Ok(Tensor::cat(tensors, dim)?)
    }

    /// `x` with `low` zeros before and `high` after it along `dim`.
    ///
    /// # Errors
    /// As [`cat`](Self::cat).
    pub fn pad(&self, x: &Tensor, dim: usize, low: usize, high: usize) -> Result<Tensor> {
        if low + high == 0 {
            return Ok(x.clone());
        }
        let size = x.dim(dim)?;
        self.admit(x.elem_count() / size.max(1) * (size + low + high))?;
        Ok(x.pad_with_zeros(dim, low, high)?)
    }

    /// `x` `[1, inputs, height, width]` convolved with `kernel` `[outputs, inputs, k, k]`, without padding. The windows
    /// of all positions are an operand, too.
    ///
    /// # Errors
    /// As [`cat`](Self::cat).
    pub fn conv2d(&self, x: &Tensor, kernel: &Tensor, stride: usize) -> Result<Tensor> {
        let (_, inputs, height, width) = x.dims4()?;
        let (outputs, _, k, _) = kernel.dims4()?;
        let size = |side: usize| side.saturating_sub(k) / stride.max(1) + 1;
        let positions = size(height) * size(width);
        self.admit(positions * (inputs * k * k).max(outputs))?;
        Ok(x.conv2d(kernel, 0, stride, 1, 1)?)
    }

    /// `x` `[1, channels, height, width]` with every value `down` x `across` times.
    ///
    /// # Errors
    /// As [`cat`](Self::cat).
    pub fn repeat(&self, x: &Tensor, down: usize, across: usize) -> Result<Tensor> {
        if down * across == 1 {
            return Ok(x.clone());
        }
        let (_, _, height, width) = x.dims4()?;
        self.admit(x.elem_count() * down * across)?;
        Ok(x.upsample_nearest2d(height * down, width * across)?)
    }

    /// The matrix products `a b` of `[batch, m, k]` and `[batch, k, n]`.
    ///
    /// # Errors
    /// As [`cat`](Self::cat).
    pub fn matmul(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let ((batch, m, _), (.., n)) = (a.dims3()?, b.dims3()?);
        self.admit(batch * m * n)?;
        Ok(a.matmul(b)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_cover_everything_once_and_stay_small(
            length in 0usize..5000,
            fixed in 0usize..500,
            each in 0usize..300,
            elements in 1usize..20_000,
        ) {
            let limit = OperandLimit::new(elements);
            match limit.parts(length, fixed, each) {
                Ok(parts) => {
                    let covered: Vec<usize> = parts.iter().cloned().flatten().collect();
                    prop_assert_eq!(covered, (0..length).collect::<Vec<_>>());
                    for part in &parts {
                        prop_assert!(!part.is_empty() && fixed + part.len() * each < elements);
                    }
                    // One part fewer would be too few.
                    if let Some(fewer) = parts.len().checked_sub(1).filter(|count| *count > 0) {
                        prop_assert!(fixed + length.div_ceil(fewer) * each >= elements);
                    }
                }
                Err(_) => prop_assert!(length > 0 && fixed + each >= elements),
            }
        }
    }

    #[test]
    fn parts_on_a_gpu_are_small_where_they_can_be() {
        let gpu = OperandLimit::gpu();
        // Rows of a frame of 1072x1920 with 128 channels, windows of 3x3x3.
        let rows = gpu.parts(1072, 0, 27 * 128 * 1920).unwrap();
        assert_eq!((rows.len(), rows[0].clone()), (54, 0..19));
        // A row beyond the aim but below the limit is a part of its own.
        assert_eq!(gpu.parts(3, 0, PART + 1).unwrap(), [0..1, 1..2, 2..3]);
        assert!(gpu.parts(3, 0, ELEMENTS).is_err());
    }

    #[test]
    fn too_large_operands_are_refused_before_they_are_made() {
        let limit = OperandLimit::new(100);
        let x = Tensor::zeros((1, 2, 5, 5), DType::F32, &Device::Cpu).unwrap();
        let kernel = Tensor::zeros((3, 2, 3, 3), DType::F32, &Device::Cpu).unwrap();
        assert!(limit.cat(&[x.clone(), x.clone()], 1).is_err());
        assert!(limit.pad(&x, 2, 3, 2).is_err());
        assert!(limit.repeat(&x, 1, 2).is_err());
        assert_eq!(limit.operations(), 0);
        // 3x3 positions with windows of 18 values.
        assert!(limit.conv2d(&x, &kernel, 1).is_err());
        assert_eq!(limit.conv2d(&x, &kernel, 2).unwrap().dims(), [1, 3, 2, 2]);
        assert_eq!((limit.operations(), limit.largest()), (1, 72));
        assert_eq!(limit.pad(&x, 3, 1, 0).unwrap().dims(), [1, 2, 5, 6]);
        assert!(limit.admit(100).is_err() && limit.admit(99).is_ok());
    }
}
