//! Convolutions over clips `[frames, channels, height, width]`, causal in time.
//!
//! candle has no conv3d. On the processor 3x3 convolutions of stride 1 have a kernel ([`kernels::conv3d`]); others, and
//! all where there are no vector instructions for it, are a sum of matrix products, one for each kernel tap, on tiles
//! that fit into the cache. On other devices it is a sum of 2D convolutions, one for each tap in time. Kernel
//! slices are made contiguous once, at load.
//!
//! [`kernels::conv3d`]: crate::kernels::conv3d

use std::cell::Cell;
use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use half::bf16;

use super::taps::{Shape, Task};
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::kernels::conv3d::Conv3d;
use crate::kernels::cpu::CpuLevel;
use crate::kernels::elementwise::converted;
use crate::kernels::tensors::with_f32;
use crate::progress::{CancelToken, Progress};

/// The frames that causal convolutions remember from the chunk before, by convolution.
#[derive(Debug, Default)]
pub struct Cache(HashMap<usize, Tensor>);

impl Cache {
    /// Forgets everything: the next chunk begins a clip.
    pub fn clear(&mut self) {
        self.0.clear();
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
}

impl Builder<'_> {
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            weights: self.weights.pp(name),
            slots: self.slots,
            groups: self.groups,
        }
    }
}

#[derive(Debug)]
enum Kernel {
    /// `[taps, outputs, inputs]`, taps in the order time, row, column.
    Processor(Tensor),
    /// 3x3 in space, packed for the processor's kernels: f32 products.
    PackedF32(Conv3d<f32>),
    /// The same in bf16 dot products.
    PackedBf16(Conv3d<bf16>),
    /// For each tap in time `[outputs, inputs, rows, columns]`.
    Device(Vec<Tensor>),
}

/// A convolution with a bias.
#[derive(Debug)]
pub struct Conv {
    shape: Shape,
    kernel: Kernel,
    bias: Tensor,
    slot: usize,
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
        Self::new(&weight, bias, 1, (k / 2, k / 2), slot)
    }

    /// A pointwise convolution whose weight is stored with three spatial dimensions, without the name `conv`.
    pub(super) fn pointwise(builder: &Builder<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = builder.weights.get((outputs, inputs, 1, 1, 1), "weight")?;
        Self::new(&weight, builder.weights.get(outputs, "bias")?, 1, (0, 0), 0)
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
        )
    }

    /// From `weight` `[outputs, inputs, time, rows, columns]`. `slot` must be unique among causal convolutions.
    fn new(
        weight: &Tensor,
        bias: Tensor,
        stride: usize,
        padding: (usize, usize),
        slot: usize,
    ) -> Result<Self> {
        let (outputs, inputs, time, rows, columns) = weight.dims5()?;
        let kernel = if let Some(kernel) = packed(weight, &bias, stride, padding)? {
            kernel
        } else if weight.device().is_cpu() {
            let taps = weight.permute((2, 3, 4, 0, 1))?.contiguous()?;
            Kernel::Processor(taps.reshape((time * rows * columns, outputs, inputs))?)
        } else {
            // A view into the kernel would be read from the wrong place by candle 0.11's conv2d.
            let slices = (0..time).map(|t| weight.narrow(2, t, 1)?.squeeze(2)?.force_contiguous());
            Kernel::Device(slices.collect::<candle_core::Result<_>>()?)
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

    /// Convolves `x` `[frames, inputs, height, width]`, preceded by the frames that `pass` remembers or, at the start
    /// of a clip, by copies of the first one; adds `residual` of the result's shape.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or a failed tensor operation.
    pub fn forward(
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
        let before = match pass.cache.0.remove(&self.slot) {
            Some(frames) if frames.dims().get(1..) == x.dims().get(1..) => frames,
            Some(frames) => {
                return Err(Error::invalid(format!(
                    "a chunk of {:?} follows one whose last frames are {:?}; all chunks of a clip have one size",
                    x.dims(),
                    frames.dims()
                )));
            }
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
            pass.cache.0.insert(self.slot, last);
        }
        self.convolve(Some(&before), x, residual, cancel)
    }

    /// Convolves `x` by itself; for kernels without extent in time.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_still(&self, x: &Tensor, progress: &Progress) -> Result<Tensor> {
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
            Kernel::Processor(taps) => self.on_processor(before, x, residual, |task, result| {
                with_f32(taps, |taps| {
                    with_f32(&self.bias, |bias| {
                        let shape = self.shape;
                        task.run(shape, (taps, bias), result, cancel)
                    })
                })
            }),
            Kernel::PackedF32(conv) => self.on_processor(before, x, residual, |task, result| {
                conv.run(task.clip(), task.residual, result, cancel)
            }),
            Kernel::PackedBf16(conv) => self.on_processor(before, x, residual, |task, result| {
                conv.run(task.clip(), task.residual, result, cancel)
            }),
            Kernel::Device(slices) => {
                let y = self.on_device(slices, before, x)?;
                Ok(match residual {
                    Some(residual) => (y + residual)?,
                    None => y,
                })
            }
        }
    }

    /// The sum of one 2D convolution for each tap in time, frames being the batch.
    fn on_device(&self, slices: &[Tensor], before: Option<&Tensor>, x: &Tensor) -> Result<Tensor> {
        let frames = x.dim(0)?;
        let mut clip = match before {
            Some(before) => Tensor::cat(&[before, x], 0)?,
            None => x.clone(),
        };
        let (low, high) = self.shape.padding;
        let padding = if low == high {
            low
        } else {
            clip = clip
                .pad_with_zeros(2, low, high)?
                .pad_with_zeros(3, low, high)?;
            0
        };
        let mut sum: Option<Tensor> = None;
        for (t, slice) in slices.iter().enumerate() {
            let y = clip
                .narrow(0, t, frames)?
                .conv2d(slice, padding, self.shape.stride, 1, 1)?;
            sum = Some(match sum {
                Some(sum) => (sum + y)?,
                None => y,
            });
        }
        let sum = sum.ok_or_else(|| Error::invalid("a convolution without taps"))?;
        Ok(sum.broadcast_add(&self.bias.reshape((1, self.shape.outputs, 1, 1))?)?)
    }

    fn on_processor(
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

/// The kernel for convolutions that have one: 3x3 in space, stride 1, same size, on processors that have AVX2 or more.
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

/// Number type of activations: f32 on the processor, that of the weights elsewhere.
pub(super) fn activation_dtype(weights: &Weights) -> DType {
    if weights.device().is_cpu() {
        DType::F32
    } else {
        weights.dtype()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(shape: &[usize], frequency: f32) -> Tensor {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len).map(|i| (i as f32 * frequency).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        assert_eq!(a.dims(), b.dims());
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        d.max(0).unwrap().to_scalar().unwrap()
    }

    fn both_ways(weight: &[usize], stride: usize, padding: (usize, usize), x: &Tensor) {
        let weight = wave(weight, 0.71);
        let bias = wave(&weight.dims()[..1], 1.3);
        let conv = Conv::new(&weight, bias, stride, padding, 0).unwrap();
        let past =
            (weight.dims()[2] > 1).then(|| wave(&[2, x.dims()[1], x.dims()[2], x.dims()[3]], 0.05));
        let slices: Vec<Tensor> = (0..weight.dims()[2])
            .map(|t| {
                weight
                    .narrow(2, t, 1)
                    .unwrap()
                    .squeeze(2)
                    .unwrap()
                    .force_contiguous()
                    .unwrap()
            })
            .collect();
        let want = conv.on_device(&slices, past.as_ref(), x).unwrap();
        let residual = wave(want.dims(), 0.013);
        let cancel = CancelToken::new();
        let got = conv.convolve(past.as_ref(), x, None, &cancel).unwrap();
        assert!(
            difference(&got, &want) < 1e-4,
            "{:?} stride {stride}",
            weight.dims()
        );
        let got = conv
            .convolve(past.as_ref(), x, Some(&residual), &cancel)
            .unwrap();
        assert!(difference(&got, &(want + residual).unwrap()) < 1e-4);
    }

    #[test]
    fn tap_products_equal_conv2d() {
        both_ways(&[5, 3, 3, 3, 3], 1, (1, 1), &wave(&[3, 3, 21, 70], 0.37));
        both_ways(&[2, 4, 1, 3, 3], 2, (0, 1), &wave(&[2, 4, 18, 140], 0.37));
        both_ways(&[2, 4, 1, 3, 3], 2, (0, 1), &wave(&[1, 4, 7, 9], 0.37));
        both_ways(&[7, 2, 1, 1, 1], 1, (0, 0), &wave(&[2, 2, 1, 1], 0.37));
    }

    #[test]
    fn chunks_join_without_a_seam() {
        let conv = Conv::new(&wave(&[3, 2, 3, 3, 3], 0.9), wave(&[3], 0.4), 1, (1, 1), 5).unwrap();
        let x = wave(&[6, 2, 4, 5], 0.21);
        let progress = Progress::none();
        let mut cache = Cache::default();
        let mut run = |from, len, more| {
            let mut pass = Pass {
                cache: &mut cache,
                more,
                split: false,
                progress: &progress,
            };
            conv.forward(&x.narrow(0, from, len).unwrap(), None, &mut pass)
                .unwrap()
        };
        let whole = run(0, 6, false);
        let parts = [
            run(0, 1, true),
            run(1, 1, true),
            run(2, 3, true),
            run(5, 1, false),
        ];
        assert!(difference(&Tensor::cat(&parts, 0).unwrap(), &whole) < 1e-5);
        assert!(cache.0.is_empty(), "the end of a clip clears the cache");
    }

    #[test]
    fn a_cancelled_convolution_ends() {
        let conv = Conv::new(&wave(&[3, 2, 1, 1, 1], 0.9), wave(&[3], 0.4), 1, (0, 0), 0).unwrap();
        let cancel = CancelToken::new();
        cancel.cancel();
        let result = conv.convolve(None, &wave(&[1, 2, 4, 5], 0.21), None, &cancel);
        assert!(result.unwrap_err().is_cancelled());
    }
}
