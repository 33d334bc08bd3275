//! The residual block of encoder and decoder.

use std::cell::Cell;

use candle_core::Tensor;

use super::conv::{Builder, Conv, Pass};
use super::norm::Norm;
use crate::checkpoint::Weights;
use crate::error::Result;

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
    /// A block of its own, whose tensors are directly below `weights`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) naming all tensors that are missing or of another shape.
    pub fn load(
        weights: &Weights,
        inputs: usize,
        outputs: usize,
        latent: Option<usize>,
        groups: usize,
    ) -> Result<Self> {
        let slots = Cell::new(0);
        let builder = Builder {
            weights: weights.clone(),
            slots: &slots,
            groups,
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

    /// `x` `[frames, inputs, height, width]` to `[frames, outputs, height, width]`; `latent` as for [`Norm::forward`].
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), or a failed tensor operation.
    pub fn forward(
        &self,
        x: &Tensor,
        latent: Option<&Tensor>,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let h = self.norm1.forward(x, latent, pass.split, pass.progress)?;
        let h = self.conv1.forward(&h, None, pass)?;
        let h = self.norm2.forward(&h, latent, pass.split, pass.progress)?;
        match &self.shortcut {
            Some(shortcut) => {
                let x = shortcut.forward_still(x, pass.progress)?;
                self.conv2.forward(&h, Some(&x), pass)
            }
            None => self.conv2.forward(&h, Some(x), pass),
        }
    }
}
