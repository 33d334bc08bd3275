// SPDX-License-Identifier: MPL-2.0
//! The residual block of encoder and decoder.

use std::cell::Cell;
use std::collections::VecDeque;

use candle_core::Tensor;

use super::activation::{Activation, Bands};
use super::banded::Running;
use super::conv::{Builder, Conv, Pass};
use super::norm::Norm;
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::plan::operands::OperandLimit;

/// `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))`.
#[derive(Debug)]
pub struct ResBlock {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
    shortcut: Option<Conv>,
}

impl ResBlock {
    /// A block of its own, whose tensors are directly below `weights`; with a `limit` for frames that are apart.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming all tensors that are missing or of another shape.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        latent: Option<usize>,
        groups: usize,
        limit: Option<&OperandLimit>,
    ) -> Result<Self> {
        let slots = Cell::new(0);
        let builder = Builder {
            weights: weights.clone(),
            slots: &slots,
            groups,
            limit,
        };
        let block = Self::new(&builder, inputs, outputs, latent)?;
        weights.finish()?;
        Ok(block)
    }

    /// A block from `inputs` to `outputs` channels; `latent` is the number of latent channels in the decoder.
    pub(super) fn new(
        builder: &Builder<'_>,
        inputs: usize,
        outputs: usize,
        latent: Option<usize>,
    ) -> Result<Self> {
        let norm = |name: &str, channels| match latent {
            Some(latent) => Norm::spatial(&builder.pp(name), channels, latent),
            None => Norm::plain(&builder.pp(name), channels),
        };
        Ok(Self {
            norm1: norm("norm1", inputs)?,
            conv1: Conv::causal(&builder.pp("conv1"), inputs, outputs, 3)?,
            norm2: norm("norm2", outputs)?,
            conv2: Conv::causal(&builder.pp("conv2"), outputs, outputs, 3)?,
            shortcut: (inputs != outputs)
                .then(|| Conv::pointwise(&builder.pp("nin_shortcut"), inputs, outputs))
                .transpose()?,
        })
    }

    /// Frames of `inputs` channels to frames of `outputs` channels; `latent` as for the norms of the decoder.
    ///
    /// # Errors
    /// [`Error::Cancelled`], or a failed tensor operation.
    pub fn forward(
        &self,
        x: Activation,
        latent: Option<&Activation>,
        pass: &mut Pass<'_>,
    ) -> Result<Activation> {
        match x {
            Activation::Whole(x) => self.forward_whole(&x, latent, pass).map(Into::into),
            Activation::Frames(x) => self.forward_frames(x, latent, pass).map(Activation::Frames),
        }
    }

    fn forward_whole(
        &self,
        x: &Tensor,
        latent: Option<&Activation>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let split = pass.split;
        // Every value is given up as soon as the next one is there.
        let normed = self.norm1.forward_whole(x, latent, split, pass.progress)?;
        let h = self.conv1.forward_whole(&normed, None, pass)?;
        drop(normed);
        let normed = self.norm2.forward_whole(&h, latent, split, pass.progress)?;
        drop(h);
        match &self.shortcut {
            Some(shortcut) => {
                let x = shortcut.forward_still(x, pass.progress)?;
                self.conv2.forward_whole(&normed, Some(&x), pass)
            }
            None => self.conv2.forward_whole(&normed, Some(x), pass),
        }
    }

    /// Frames that are apart; each of `x` is given up as soon as its sum is there.
    ///
    /// The second norm needs the statistics of all frames between the convolutions. A frugal pass does not keep these
    /// frames: it convolves again for the second half.
    fn forward_frames(
        &self,
        x: Vec<Bands>,
        latent: Option<&Activation>,
        pass: &mut Pass<'_>,
    ) -> Result<Vec<Bands>> {
        let (count, split, progress) = (x.len(), pass.split, pass.progress);
        let mut moments = self.norm1.moments();
        x.iter().try_for_each(|frame| moments.add(frame))?;
        let norm1 = self.norm1.scaled(moments, count, latent, split, progress)?;

        let mut between = VecDeque::new();
        let mut moments = self.norm2.moments();
        let mut first = Running::new(&self.conv1, pass)?;
        for (index, frame) in x.iter().enumerate() {
            let h = first.push(norm1.frame(index, frame)?, None, progress)?;
            moments.add(&h)?;
            if !pass.cache.is_frugal() {
                between.push_back(h);
            }
        }
        let mut again = match pass.cache.is_frugal() {
            true => Some(Running::new(&self.conv1, pass)?),
            false => None,
        };
        first.end(pass)?;
        let norm2 = self.norm2.scaled(moments, count, latent, split, progress)?;

        let mut second = Running::new(&self.conv2, pass)?;
        let mut sums = Vec::with_capacity(count);
        for (index, frame) in x.into_iter().enumerate() {
            let h = match (&mut again, between.pop_front()) {
                (Some(first), _) => first.push(norm1.frame(index, &frame)?, None, progress)?,
                (None, Some(h)) => h,
                (None, None) => return Err(Error::invalid("a block lost a frame")),
            };
            let h = norm2.frame(index, &h)?;
            let shortcut = match &self.shortcut {
                Some(shortcut) => shortcut.frame(&frame, progress)?,
                None => frame,
            };
            sums.push(second.push(h, Some(&shortcut), progress)?);
        }
        second.end(pass)?;
        Ok(sums)
    }
}
