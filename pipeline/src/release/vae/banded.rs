// SPDX-License-Identifier: MPL-2.0
//! Convolutions of frames that are apart, for devices whose operands are limited.
//!
//! A frame of the result is one 2D convolution: the frames that its taps in time see lie one below the other in the
//! channels. It is cut into bands of rows, each with the rows around it that the kernel reaches, so that the windows of
//! all its positions, which candle writes out, stay below the limit. The numbers are those of the whole.

use std::collections::VecDeque;
use std::ops::Range;

use candle_core::Tensor;

use super::activation::{Activation, Bands};
use super::conv::{Conv, Pass, other_size};
use super::tap_products::Shape;
use crate::error::{Error, Result};
use crate::plan::operands::OperandLimit;
use crate::progress::Progress;

/// A causal convolution on its way through the frames of a chunk.
pub(super) struct Running<'a> {
    conv: &'a Conv,
    limit: &'a OperandLimit,
    /// The last frames, oldest first: as many as the kernel looks back, none before the first frame of a clip.
    past: VecDeque<Bands>,
}

impl<'a> Running<'a> {
    /// After the frames that `pass` remembers, which it goes on to remember.
    pub fn new(conv: &'a Conv, pass: &Pass<'_>) -> Result<Self> {
        let (kernel, limit) = conv.device_kernel()?;
        let remembered = match conv.shape.extent.0 {
            1 => &[],
            _ => pass.cache.frames(conv.slot)?,
        };
        let past = remembered
            .iter()
            .map(|frame| frame.to_device(kernel.device()));
        Ok(Self {
            conv,
            limit,
            past: past.collect::<Result<_>>()?,
        })
    }

    /// The next frame of the result, plus `residual`.
    ///
    /// # Errors
    /// [`Error::Cancelled`], [`Error::Invalid`] for a frame of another size than those before, or a failed tensor
    /// operation.
    pub fn push(
        &mut self,
        frame: Bands,
        residual: Option<&Bands>,
        progress: &Progress,
    ) -> Result<Bands> {
        if let Some(before) = self.past.front() {
            let dims = |(channels, height, width)| [channels, height, width];
            let (found, before) = (dims(frame.size()?), dims(before.size()?));
            if found != before {
                return Err(other_size(&found, &before));
            }
        }
        let past = self.conv.shape.extent.0 - 1;
        while self.past.len() < past {
            self.past.push_back(frame.clone());
        }
        self.past.push_back(frame);
        let result = self.convolve(residual, progress)?;
        self.past.pop_front();
        Ok(result)
    }

    /// The end of the chunk: what the next one needs is remembered.
    pub fn end(self, pass: &mut Pass<'_>) -> Result<()> {
        if self.conv.shape.extent.0 == 1 {
            return Ok(());
        }
        let past = pass.more.then(|| self.past.into());
        pass.cache.remember(self.conv.slot, past)
    }

    /// The convolution of the frames in `past`.
    fn convolve(&self, residual: Option<&Bands>, progress: &Progress) -> Result<Bands> {
        let size = match self.past.front() {
            Some(frame) => frame.size()?,
            None => return Err(Error::invalid("a convolution without frames")),
        };
        let read = |rows: Range<usize>| {
            let taps = self.past.iter();
            let taps = taps.map(|frame| frame.rows(rows.clone(), self.limit));
            self.limit.cat(&taps.collect::<Result<Vec<_>>>()?, 1)
        };
        self.conv.bands(size, read, residual, progress)
    }
}

impl Conv {
    /// Convolves `x` `[frames, inputs, height, width]`, preceded by the frames that `pass` remembers or, at the start
    /// of a clip, by copies of the first one; adds `residual` of the result's shape. Frames that are apart are given up
    /// one by one.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or a failed tensor operation.
    pub(super) fn forward(
        &self,
        x: Activation,
        residual: Option<&Tensor>,
        pass: &mut Pass<'_>,
    ) -> Result<Activation> {
        match x {
            Activation::Whole(x) => self.forward_whole(&x, residual, pass).map(Into::into),
            Activation::Frames(frames) => {
                let mut running = Running::new(self, pass)?;
                let frames = (frames.into_iter())
                    .map(|frame| running.push(frame, None, pass.progress))
                    .collect::<Result<_>>()?;
                running.end(pass)?;
                Ok(Activation::Frames(frames))
            }
        }
    }

    /// One frame by itself; for kernels without extent in time.
    ///
    /// # Errors
    /// As [`Running::push`].
    pub(super) fn frame(&self, frame: &Bands, progress: &Progress) -> Result<Bands> {
        let (_, limit) = self.device_kernel()?;
        let read = |rows| frame.rows(rows, limit);
        self.bands(frame.size()?, read, None, progress)
    }

    /// One frame by itself, enlarged to twice its size by repetition before.
    ///
    /// # Errors
    /// As [`Running::push`].
    pub(super) fn frame_enlarged(&self, frame: &Bands, progress: &Progress) -> Result<Bands> {
        let (_, limit) = self.device_kernel()?;
        let (channels, height, width) = frame.size()?;
        let read = |rows: Range<usize>| {
            let (first, end) = (rows.start / 2, rows.end.div_ceil(2));
            let twice = limit.repeat(&frame.rows(first..end, limit)?, 2, 2)?;
            Ok(twice.narrow(2, rows.start - 2 * first, rows.len())?)
        };
        self.bands((channels, 2 * height, 2 * width), read, None, progress)
    }

    /// The bands of the result for a frame of `size` (channels, height, width), whose rows, one tap below the other,
    /// `read` gives.
    fn bands(
        &self,
        (channels, height, width): (usize, usize, usize),
        read: impl Fn(Range<usize>) -> Result<Tensor>,
        residual: Option<&Bands>,
        progress: &Progress,
    ) -> Result<Bands> {
        let (shape, (kernel, limit)) = (&self.shape, self.device_kernel()?);
        let (low, high) = shape.padding;
        let k = shape.extent.1;
        if channels != shape.inputs || height + low + high < k || width + low + high < k {
            return Err(Error::invalid(format!(
                "a convolution of {} channels with a {k}x{k} kernel was given {channels} channels of {width}x{height}",
                shape.inputs
            )));
        }
        let bias = self.bias.reshape((1, shape.outputs, 1, 1))?;
        let bands = shape
            .bands((height, width), limit)?
            .into_iter()
            .map(|rows| {
                progress.check()?;
                // In rows of the padded frame.
                let (first, end) = (rows.start * shape.stride, (rows.end - 1) * shape.stride + k);
                let top = low.saturating_sub(first);
                let bottom = end.saturating_sub(low + height);
                let x = limit.pad(
                    &read(first + top - low..end - bottom - low)?,
                    2,
                    top,
                    bottom,
                )?;
                let x = limit.pad(&x, 3, low, high)?;
                let y = limit.conv2d(&x, kernel, shape.stride)?;
                let y = y.broadcast_add(&bias)?;
                Ok(match residual {
                    Some(residual) => (y + residual.rows(rows, limit)?)?,
                    None => y,
                })
            });
        Bands::new(bands.collect::<Result<_>>()?)
    }
}

impl Shape {
    /// Rows or columns that come out of `side`.
    pub fn out(&self, side: usize) -> usize {
        (side + self.padding.0 + self.padding.1).saturating_sub(self.extent.1) / self.stride + 1
    }

    /// The bands of rows in which a frame of `size` (height, width) is convolved.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a single row is too large.
    pub fn bands(&self, size: (usize, usize), limit: &OperandLimit) -> Result<Vec<Range<usize>>> {
        limit.parts(self.out(size.0), 0, self.row(size.1))
    }

    /// Elements of the largest operand that a row of the result takes: the windows of its positions, or its values. The
    /// rows that a band reads have fewer.
    pub fn row(&self, width: usize) -> usize {
        let window = self.extent.0 * self.extent.1 * self.extent.1 * self.inputs;
        self.out(width) * window.max(self.outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::release::vae::conv::Cache;
    use candle_core::{DType, Device};

    fn wave(shape: &[usize], frequency: f32) -> Tensor {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len).map(|i| (i as f32 * frequency).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn frames(x: &Tensor, limit: &OperandLimit) -> Vec<Bands> {
        let frame = |index| x.narrow(0, index, 1).unwrap();
        (0..x.dim(0).unwrap())
            .map(|index| Bands::upload(&frame(index), &Device::Cpu, DType::F32, limit).unwrap())
            .collect()
    }

    /// `frames` `[frames + taps - 1, inputs, ...]` convolved as the definition says.
    fn want(
        clip: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        stride: usize,
        pads: (usize, usize),
    ) -> Tensor {
        let taps = weight.dim(2).unwrap();
        let clip = clip.pad_with_zeros(2, pads.0, pads.1).unwrap();
        let clip = clip.pad_with_zeros(3, pads.0, pads.1).unwrap();
        let frames = clip.dim(0).unwrap() + 1 - taps;
        let bias = bias.reshape((1, bias.elem_count(), 1, 1)).unwrap();
        (0..taps)
            .map(|t| {
                let slice = weight.narrow(2, t, 1).unwrap().squeeze(2).unwrap();
                let slice = slice.force_contiguous().unwrap();
                let clip = clip.narrow(0, t, frames).unwrap();
                clip.conv2d(&slice, 0, stride, 1, 1).unwrap()
            })
            .reduce(|a, b| (a + b).unwrap())
            .unwrap()
            .broadcast_add(&bias)
            .unwrap()
    }

    fn close(got: Vec<Bands>, want: &Tensor) {
        let got = super::super::activation::Activation::Frames(got)
            .into_tensor()
            .unwrap();
        assert_eq!(got.dims(), want.dims());
        let d = (got - want).unwrap().abs().unwrap().flatten_all().unwrap();
        assert!(d.max(0).unwrap().to_scalar::<f32>().unwrap() < 1e-5);
    }

    /// From one row a band to all of them.
    const ELEMENTS: [usize; 4] = [1000, 2500, 6000, 1 << 20];

    #[test]
    fn bands_equal_the_whole_and_stay_below_the_limit() {
        let (weight, bias) = (wave(&[4, 3, 3, 3, 3], 0.71), wave(&[4], 1.3));
        let x = wave(&[4, 3, 11, 12], 0.37);
        let first = x.narrow(0, 0, 1).unwrap();
        let clip = Tensor::cat(&[&first, &first, &x], 0).unwrap();
        let want = want(&clip, &weight, &bias, 1, (1, 1));
        let residual = wave(want.dims(), 0.013);
        let want_sum = (&want + &residual).unwrap();
        for elements in ELEMENTS {
            let limit = OperandLimit::new(elements);
            let conv = Conv::new(&weight, bias.clone(), 1, (1, 1), 0, Some(&limit)).unwrap();
            let progress = Progress::none();
            let mut cache = Cache::default();
            // In chunks, which join without a seam.
            for (sum, chunks) in [(false, vec![4]), (true, vec![1, 1, 2])] {
                let (mut inputs, mut sums) = (frames(&x, &limit), frames(&residual, &limit));
                let (count, mut got) = (chunks.len(), Vec::new());
                for (index, chunk) in chunks.into_iter().enumerate() {
                    let mut pass = Pass {
                        cache: &mut cache,
                        more: index + 1 < count,
                        split: false,
                        progress: &progress,
                    };
                    let mut running = Running::new(&conv, &pass).unwrap();
                    for (x, residual) in inputs.drain(..chunk).zip(sums.drain(..chunk)) {
                        let residual = sum.then_some(&residual);
                        got.push(running.push(x, residual, &progress).unwrap());
                    }
                    running.end(&mut pass).unwrap();
                }
                close(got, if sum { &want_sum } else { &want });
                assert!(cache.frames(0).unwrap().is_empty(), "the clip ended");
            }
            assert!(limit.operations() > 0 && limit.largest() < elements);
        }
    }

    #[test]
    fn strides_and_enlargements_equal_the_whole() {
        let x = wave(&[2, 3, 10, 8], 0.37);
        let (weight, bias) = (wave(&[3, 3, 1, 3, 3], 0.71), wave(&[3], 1.3));
        let halved = want(&x, &weight, &bias, 2, (0, 1));
        let twice = x.upsample_nearest2d(20, 16).unwrap();
        let doubled = want(&twice, &weight, &bias, 1, (1, 1));
        let (point, more) = (wave(&[20, 3, 1, 1, 1], 0.9), wave(&[20], 0.2));
        let points = want(&x, &point, &more, 1, (0, 0));
        for elements in ELEMENTS {
            let limit = OperandLimit::new(elements);
            let progress = Progress::none();
            let new = |weight: &Tensor, bias: &Tensor, stride, pads| {
                Conv::new(weight, bias.clone(), stride, pads, 0, Some(&limit)).unwrap()
            };
            let each = |conv: &dyn Fn(&Bands) -> Result<Bands>| {
                let frames = frames(&x, &limit);
                frames.iter().map(|frame| conv(frame).unwrap()).collect()
            };
            let conv = new(&weight, &bias, 2, (0, 1));
            close(each(&|frame| conv.frame(frame, &progress)), &halved);
            let conv = new(&weight, &bias, 1, (1, 1));
            close(
                each(&|frame| conv.frame_enlarged(frame, &progress)),
                &doubled,
            );
            let conv = new(&point, &more, 1, (0, 0));
            close(each(&|frame| conv.frame(frame, &progress)), &points);
            assert!(limit.largest() < elements);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let limit = OperandLimit::new(200);
        let weight = wave(&[2, 3, 3, 3, 3], 0.7);
        let conv = Conv::new(&weight, wave(&[2], 0.1), 1, (1, 1), 0, Some(&limit)).unwrap();
        let progress = Progress::none();
        let mut cache = Cache::default();
        let pass = Pass {
            cache: &mut cache,
            more: true,
            split: false,
            progress: &progress,
        };
        let push = |x: Tensor| {
            let mut running = Running::new(&conv, &pass)?;
            running.push(frames(&x, &limit).remove(0), None, &progress)
        };
        // A row of windows has 81 values for each of four columns.
        let error = push(wave(&[1, 3, 4, 4], 0.3)).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        assert!(push(wave(&[1, 3, 4, 2], 0.3)).is_ok());
        assert!(push(wave(&[1, 2, 4, 2], 0.3)).is_err());
        let mut running = Running::new(&conv, &pass).unwrap();
        let frame = |height| frames(&wave(&[1, 3, height, 2], 0.3), &limit).remove(0);
        running.push(frame(4), None, &progress).unwrap();
        assert!(running.push(frame(5), None, &progress).is_err());
    }
}
