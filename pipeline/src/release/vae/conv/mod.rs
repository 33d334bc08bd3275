// SPDX-License-Identifier: MPL-2.0
//! Convolutions over clips `[frames, channels, height, width]`, causal in time.
//!
//! candle has no conv3d. On the CPU 3x3 convolutions of stride 1 have a kernel ([`cpu::conv3d`]); others, and
//! all where there are no vector instructions for it, are a sum of matrix products, one for each kernel tap, on tiles
//! that fit into the cache. On other devices frames go through one by one ([`banded`](super::banded)).
//!
//! [`cpu::conv3d`]: crate::cpu::conv3d

use std::cell::Cell;
use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use half::bf16;

use super::activation::{Activation, Bands};
use super::tap_products::{Shape, Task};
use crate::checkpoint::Weights;
use crate::cpu::conv3d::Conv3d;
use crate::cpu::elementwise::converted;
use crate::cpu::level::CpuLevel;
use crate::cpu::tensors::with_f32;
use crate::error::{Error, Result};
use crate::plan::operands::OperandLimit;
use crate::progress::{CancelToken, Progress};

/// The frames that causal convolutions remember from the chunk before, by convolution. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    remembered: HashMap<usize, Activation>,
    frugal: bool,
}

impl Cache {
    /// Nothing is remembered: a clip begins.
    ///
    /// `frugal` saves memory of a GPU at the cost of time and changes no result: what is remembered waits in the memory
    /// of the CPU, and what the second half of a residual block needs of the first is computed again instead of kept.
    pub fn new(frugal: bool) -> Self {
        Self {
            frugal,
            ..Self::default()
        }
    }

    /// Forgets everything: the next chunk begins a clip.
    pub fn clear(&mut self) {
        self.remembered.clear();
    }

    /// Whether a GPU's memory is saved.
    pub(super) fn is_frugal(&self) -> bool {
        self.frugal
    }

    /// The frames that the convolution `slot` remembers.
    pub(super) fn frames(&self, slot: usize) -> Result<&[Bands]> {
        match self.remembered.get(&slot) {
            Some(remembered) => remembered.frames(),
            None => Ok(&[]),
        }
    }

    /// Lets the convolution `slot` remember `frames`, or nothing.
    pub(super) fn remember(&mut self, slot: usize, frames: Option<Vec<Bands>>) -> Result<()> {
        self.remembered.remove(&slot);
        if let Some(mut frames) = frames {
            if self.frugal {
                let moved = frames.iter().map(|frame| frame.to_device(&Device::Cpu));
                frames = moved.collect::<Result<_>>()?;
            }
            self.remembered.insert(slot, Activation::Frames(frames));
        }
        Ok(())
    }
}

/// One chunk's way through the encoder or the decoder.
pub struct Pass<'a> {
    /// What was left by the chunk before; empty at the start of a clip.
    pub cache: &'a mut Cache,
    /// Whether more chunks of the clip follow.
    pub more: bool,
    /// Whether the first frame stands apart in time, as the first of a clip does.
    pub split: bool,
    /// Who listens and who cancels.
    pub progress: &'a Progress,
}

/// Weights below a prefix, and a number for each convolution that remembers frames.
pub(super) struct Builder<'a> {
    pub weights: Weights,
    pub slots: &'a Cell<usize>,
    /// Groups of every normalisation.
    pub groups: usize,
    /// For devices whose operands are limited.
    pub limit: Option<&'a OperandLimit>,
}

impl Builder<'_> {
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            weights: self.weights.pp(name),
            slots: self.slots,
            groups: self.groups,
            limit: self.limit,
        }
    }
}

#[derive(Debug)]
enum Kernel {
    /// `[taps, outputs, inputs]`, taps in the order time, row, column.
    Cpu(Tensor),
    /// 3x3 in space, packed for the CPU's kernels: f32 products.
    PackedF32(Conv3d<f32>),
    /// The same in bf16 dot products.
    PackedBf16(Conv3d<bf16>),
    /// `[outputs, time * inputs, rows, columns]`, for frames one below the other in the channels.
    Device(Tensor, OperandLimit),
}

/// A convolution with a bias.
#[derive(Debug)]
pub struct Conv {
    pub(super) shape: Shape,
    kernel: Kernel,
    /// `[outputs]`
    pub(super) bias: Tensor,
    /// Unique among causal convolutions.
    pub(super) slot: usize,
}

impl Conv {
    /// A causal convolution `k x k x k` that keeps the size: `conv.weight` and `conv.bias` below `builder`.
    pub(super) fn causal(
        builder: &Builder<'_>,
        inputs: usize,
        outputs: usize,
        k: usize,
    ) -> Result<Self> {
        let weights = builder.weights.pp("conv");
        let weight = weights.get((outputs, inputs, k, k, k), "weight")?;
        let bias = weights.get(outputs, "bias")?;
        let slot = builder.slots.get();
        builder.slots.set(slot + 1);
        Self::new(&weight, bias, 1, (k / 2, k / 2), slot, builder.limit)
    }

    /// A pointwise convolution whose weight is stored with three spatial dimensions, without the name `conv`.
    pub(super) fn pointwise(builder: &Builder<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = builder.weights.get((outputs, inputs, 1, 1, 1), "weight")?;
        let bias = builder.weights.get(outputs, "bias")?;
        Self::new(&weight, bias, 1, (0, 0), 0, builder.limit)
    }

    /// A 3x3 convolution of single frames: `conv.weight` and `conv.bias` below `builder`.
    pub(super) fn spatial(
        builder: &Builder<'_>,
        channels: usize,
        stride: usize,
        padding: (usize, usize),
    ) -> Result<Self> {
        let weights = builder.weights.pp("conv");
        let weight = weights.get((channels, channels, 3, 3), "weight")?;
        Self::new(
            &weight.unsqueeze(2)?,
            weights.get(channels, "bias")?,
            stride,
            padding,
            0,
            builder.limit,
        )
    }

    /// From `weight` `[outputs, inputs, time, rows, columns]`. `slot` must be unique among causal convolutions. With a
    /// `limit` it takes frames that are apart.
    pub(super) fn new(
        weight: &Tensor,
        bias: Tensor,
        stride: usize,
        padding: (usize, usize),
        slot: usize,
        limit: Option<&OperandLimit>,
    ) -> Result<Self> {
        let (outputs, inputs, time, rows, columns) = weight.dims5()?;
        let kernel = if let Some(limit) = limit {
            let stacked = weight.permute((0, 2, 1, 3, 4))?.force_contiguous()?;
            let stacked = stacked.reshape((outputs, time * inputs, rows, columns))?;
            Kernel::Device(stacked, limit.clone())
        } else if let Some(kernel) = packed(weight, &bias, stride, padding)? {
            kernel
        } else {
            let taps = weight.permute((2, 3, 4, 0, 1))?.contiguous()?;
            Kernel::Cpu(taps.reshape((time * rows * columns, outputs, inputs))?)
        };
        Ok(Self {
            shape: Shape {
                inputs,
                outputs,
                extent: (time, rows),
                stride,
                padding,
            },
            kernel,
            bias,
            slot,
        })
    }

    /// Number of channels that come out.
    pub fn outputs(&self) -> usize {
        self.shape.outputs
    }

    /// The kernel `[outputs, time * inputs, rows, columns]` for frames that are apart, and the limit of its operands.
    pub(super) fn device_kernel(&self) -> Result<(&Tensor, &OperandLimit)> {
        match &self.kernel {
            Kernel::Device(kernel, limit) => Ok((kernel, limit)),
            _ => Err(Error::invalid("a kernel of the CPU for frames of a GPU")),
        }
    }

    /// As [`forward`](Self::forward), for frames in one tensor.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub(super) fn forward_whole(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        pass.progress.check()?;
        let cancel = pass.progress.cancel_token();
        let past = self.shape.extent.0 - 1;
        if past == 0 {
            return self.convolve(None, x, residual, cancel);
        }
        let remembered = pass.cache.remembered.remove(&self.slot);
        let before = match remembered.map(Activation::into_tensor).transpose()? {
            Some(frames) if frames.dims().get(1..) == x.dims().get(1..) => frames,
            Some(frames) => return Err(other_size(x.dims(), frames.dims())),
            None => x.narrow(0, 0, 1)?.repeat((past, 1, 1, 1))?,
        };
        if pass.more {
            let frames = x.dim(0)?;
            // A copy, so that the whole chunk is not kept alive by a view of its end.
            let last = if frames >= past {
                x.narrow(0, frames - past, past)?.force_contiguous()?
            } else {
                Tensor::cat(&[&before.narrow(0, frames, past - frames)?, x], 0)?
            };
            pass.cache.remembered.insert(self.slot, last.into());
        }
        self.convolve(Some(&before), x, residual, cancel)
    }

    /// Convolves `x` by itself; for kernels without extent in time.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub(super) fn forward_still(&self, x: &Tensor, progress: &Progress) -> Result<Tensor> {
        progress.check()?;
        self.convolve(None, x, None, progress.cancel_token())
    }

    fn convolve(
        &self,
        before: Option<&Tensor>,
        x: &Tensor,
        residual: Option<&Tensor>,
        cancel: &CancelToken,
    ) -> Result<Tensor> {
        match &self.kernel {
            Kernel::Cpu(taps) => self.on_cpu(before, x, residual, |task, result| {
                with_f32(taps, |taps| {
                    with_f32(&self.bias, |bias| {
                        let shape = self.shape;
                        task.run(shape, (taps, bias), result, cancel)
                    })
                })
            }),
            Kernel::PackedF32(conv) => self.on_cpu(before, x, residual, |task, result| {
                conv.run(task.clip(), task.residual, result, cancel)
            }),
            Kernel::PackedBf16(conv) => self.on_cpu(before, x, residual, |task, result| {
                conv.run(task.clip(), task.residual, result, cancel)
            }),
            Kernel::Device(..) => Err(Error::invalid("frames of the CPU for a kernel of a GPU")),
        }
    }

    fn on_cpu(
        &self,
        before: Option<&Tensor>,
        x: &Tensor,
        residual: Option<&Tensor>,
        run: impl FnOnce(&Task<'_>, &mut [f32]) -> Result<()>,
    ) -> Result<Tensor> {
        let (frames, inputs, height, width) = x.dims4()?;
        let (low, high) = self.shape.padding;
        let k = self.shape.extent.1;
        if inputs != self.shape.inputs || height + low + high < k || width + low + high < k {
            return Err(Error::invalid(format!(
                "a convolution of {} channels with a {k}x{k} kernel was given {inputs} channels of {width}x{height}",
                self.shape.inputs
            )));
        }
        let out = |size: usize| (size + low + high - k) / self.shape.stride + 1;
        let (out_height, out_width) = (out(height), out(width));
        let mut result = vec![0f32; frames * self.shape.outputs * out_height * out_width];
        let optional =
            |tensor: Option<&Tensor>| tensor.cloned().map_or_else(|| x.narrow(0, 0, 0), Ok);
        with_f32(x, |now| {
            with_f32(&optional(before)?, |past| {
                with_f32(&optional(residual)?, |residual| {
                    let plane = inputs * height * width;
                    let clip: Vec<&[f32]> = past.chunks(plane).chain(now.chunks(plane)).collect();
                    let task = Task {
                        clip: &clip,
                        residual: (!residual.is_empty()).then_some(residual),
                        size: (height, width),
                        out: (out_height, out_width),
                    };
                    run(&task, &mut result)
                })
            })
        })?;
        Ok(Tensor::from_vec(
            result,
            (frames, self.shape.outputs, out_height, out_width),
            &Device::Cpu,
        )?)
    }
}

/// A chunk of `found` frames after one of `before`.
pub(super) fn other_size(found: &[usize], before: &[usize]) -> Error {
    Error::invalid(format!(
        "a chunk of {found:?} follows one whose last frames are {before:?}; all chunks of a clip have one size"
    ))
}

/// The kernel for convolutions that have one: 3x3 in space, stride 1, same size, on CPUs that have AVX2 or more.
/// bf16 weights meet bf16 dot products where there are any.
fn packed(
    weight: &Tensor,
    bias: &Tensor,
    stride: usize,
    padding: (usize, usize),
) -> Result<Option<Kernel>> {
    let (_, inputs, time, rows, columns) = weight.dims5()?;
    let level = CpuLevel::selected()?.for_dtype(weight.dtype());
    let same = stride == 1 && padding == (1, 1) && (rows, columns) == (3, 3);
    if !weight.device().is_cpu() || !same || level < CpuLevel::Avx2 {
        return Ok(None);
    }
    let kernel = with_f32(weight, |weight| {
        with_f32(bias, |bias| {
            Ok(if level == CpuLevel::Bf16 {
                let weight = converted(level, weight);
                Kernel::PackedBf16(Conv3d::new(level, &weight, bias, inputs, time))
            } else {
                Kernel::PackedF32(Conv3d::new(level, weight, bias, inputs, time))
            })
        })
    })?;
    Ok(Some(kernel))
}

/// Number type of activations: f32 on the CPU, that of the weights elsewhere.
pub(super) fn activation_dtype(weights: &Weights) -> DType {
    if weights.device().is_cpu() {
        DType::F32
    } else {
        weights.dtype()
    }
}

#[cfg(test)]
mod tests;
