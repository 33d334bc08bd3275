// SPDX-License-Identifier: MPL-2.0
//! What goes from layer to layer: on the CPU one tensor of all frames, on GPUs single frames in bands of rows.
//!
//! At 1080p a chunk has 4.5e9 values after the first convolution, more than a GPU's kernels can number, and a single
//! layer's windows have more than that. Bands keep every operand small, and frames that are apart can be given up one
//! by one as the next layer takes them.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::plan::operands::OperandLimit;

/// Frames between two layers.
#[derive(Clone, Debug)]
pub enum Activation {
    /// `[frames, channels, height, width]`.
    Whole(Tensor),
    /// Frame by frame, cut into bands.
    Frames(Vec<Bands>),
}

impl From<Tensor> for Activation {
    /// All frames `[frames, channels, height, width]`.
    fn from(frames: Tensor) -> Self {
        Self::Whole(frames)
    }
}

impl Activation {
    /// Frames `[frames, channels, height, width]` on `device` in the type `dtype`; apart with a `limit`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a row is too large, or a failed tensor operation.
    pub fn of(
        frames: &Tensor,
        device: &Device,
        dtype: DType,
        limit: Option<&OperandLimit>,
    ) -> Result<Self> {
        let Some(limit) = limit else {
            let frames = frames.to_device(device)?.to_dtype(dtype)?;
            return Ok(Self::Whole(frames.contiguous()?));
        };
        let upload = |index| Bands::upload(&frames.narrow(0, index, 1)?, device, dtype, limit);
        let frames = (0..frames.dim(0)?).map(upload).collect::<Result<_>>()?;
        Ok(Self::Frames(frames))
    }

    /// The frames in one tensor `[frames, channels, height, width]`, on the CPU in f32 if they were apart.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn into_tensor(self) -> Result<Tensor> {
        match self {
            Self::Whole(frames) => Ok(frames),
            Self::Frames(frames) => {
                let frames = frames.iter().map(Bands::to_cpu);
                Ok(Tensor::cat(&frames.collect::<Result<Vec<_>>>()?, 0)?)
            }
        }
    }

    /// The frames, which must be apart.
    pub(super) fn frames(&self) -> Result<&[Bands]> {
        match self {
            Self::Frames(frames) => Ok(frames),
            Self::Whole(_) => Err(Error::invalid("frames of the CPU for a layer of a GPU")),
        }
    }

    /// The tensor of all frames.
    pub(super) fn whole(&self) -> Result<&Tensor> {
        match self {
            Self::Whole(frames) => Ok(frames),
            Self::Frames(_) => Err(Error::invalid("frames of a GPU for a layer of the CPU")),
        }
    }
}

/// One frame `[channels, height, width]`, cut into bands of rows. Clones share the values.
#[derive(Clone, Debug)]
pub struct Bands {
    /// Each `[1, channels, rows, width]`, from top to bottom; at least one.
    bands: Vec<Tensor>,
}

impl Bands {
    /// From bands `[1, channels, rows, width]`.
    pub(super) fn new(bands: Vec<Tensor>) -> Result<Self> {
        if bands.is_empty() {
            return Err(Error::invalid("a frame without rows"));
        }
        Ok(Self { bands })
    }

    /// The frame `[1, channels, height, width]` on `device` in the type `dtype`.
    pub(super) fn upload(
        frame: &Tensor,
        device: &Device,
        dtype: DType,
        limit: &OperandLimit,
    ) -> Result<Self> {
        let (_, channels, height, width) = frame.dims4()?;
        let bands = limit.parts(height, 0, channels * width)?;
        let bands = bands.into_iter().map(|rows| {
            limit.admit(rows.len() * channels * width)?;
            let band = frame.narrow(2, rows.start, rows.len())?.contiguous()?;
            Ok(band.to_device(device)?.to_dtype(dtype)?)
        });
        Self::new(bands.collect::<Result<_>>()?)
    }

    /// `[1, channels, height, width]` on the CPU in f32.
    fn to_cpu(&self) -> Result<Tensor> {
        let bands = self.bands.iter();
        let bands = bands.map(|band| band.to_device(&Device::Cpu)?.to_dtype(DType::F32));
        let bands = bands.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&bands, 2)?)
    }

    /// The same frame on `device`.
    pub(super) fn to_device(&self, device: &Device) -> Result<Self> {
        let bands = self.bands.iter().map(|band| band.to_device(device));
        Self::new(bands.collect::<candle_core::Result<_>>()?)
    }

    /// Channels, height and width.
    pub fn size(&self) -> Result<(usize, usize, usize)> {
        let mut height = 0;
        let mut size = (0, 0);
        for band in &self.bands {
            let (_, channels, rows, width) = band.dims4()?;
            height += rows;
            size = (channels, width);
        }
        Ok((size.0, height, size.1))
    }

    /// The rows `rows` as one tensor `[1, channels, rows, width]`.
    pub(super) fn rows(&self, rows: Range<usize>, limit: &OperandLimit) -> Result<Tensor> {
        let mut parts = Vec::new();
        let mut top = 0;
        for band in &self.bands {
            let bottom = top + band.dim(2)?;
            let (start, end) = (rows.start.max(top), rows.end.min(bottom));
            if start < end {
                parts.push(band.narrow(2, start - top, end - start)?);
            }
            top = bottom;
        }
        if rows.is_empty() || rows.end > top {
            return Err(Error::invalid(format!(
                "rows {rows:?} of a frame of {top} rows"
            )));
        }
        limit.cat(&parts, 2)
    }

    /// The frame whose bands are `work` of this one's bands and of the rows that these are.
    pub(super) fn map(
        &self,
        mut work: impl FnMut(Range<usize>, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        let mut top = 0;
        let bands = self.bands.iter().map(|band| {
            let rows = top..top + band.dim(2)?;
            top = rows.end;
            work(rows, band)
        });
        Self::new(bands.collect::<Result<_>>()?)
    }

    /// Calls `work` with every band.
    pub(super) fn each(&self, mut work: impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
        self.bands.iter().try_for_each(&mut work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_in_whatever_bands() {
        let frame = Tensor::arange(0f32, 2.0 * 7.0 * 3.0, &Device::Cpu).unwrap();
        let frame = frame.reshape((1, 2, 7, 3)).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Bands of one, two and seven rows.
        for elements in [7, 14, 1000] {
            let limit = OperandLimit::new(elements);
            let bands = Bands::upload(&frame, &Device::Cpu, DType::F32, &limit).unwrap();
            assert_eq!(bands.size().unwrap(), (2, 7, 3));
            assert_eq!(values(&bands.to_cpu().unwrap()), values(&frame));
            assert!(limit.largest() < elements);
            let limit = OperandLimit::new(1000);
            for (start, end) in [(0, 7), (0, 1), (2, 5), (6, 7)] {
                let want = frame.narrow(2, start, end - start).unwrap();
                let got = bands.rows(start..end, &limit).unwrap();
                assert_eq!(values(&got), values(&want), "{start}..{end}");
            }
            assert!(bands.rows(5..8, &limit).is_err());
            assert!(bands.rows(3..3, &limit).is_err());
        }
    }

    #[test]
    fn bands_know_their_rows() {
        let frame = Tensor::zeros((1, 1, 5, 2), DType::F32, &Device::Cpu).unwrap();
        let bands = Bands::upload(&frame, &Device::Cpu, DType::F32, &OperandLimit::new(5)).unwrap();
        let mut seen = Vec::new();
        bands
            .map(|rows, band| {
                assert_eq!(band.dim(2).unwrap(), rows.len());
                seen.push(rows);
                Ok(band.clone())
            })
            .unwrap();
        assert_eq!(seen, [0..1, 1..3, 3..5]);
    }
}
