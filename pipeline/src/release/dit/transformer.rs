// SPDX-License-Identifier: MPL-2.0
//! The whole network: latent, time and text in, velocity (or v-prediction) out.

use candle_core::{DType, Device, Tensor};

use super::adaln::LayerNorm;
use super::block::{Block, Tokens};
use super::config::DitConfig;
use super::embed::{NumberEmbedding, PatchEmbedding, unpatchify};
use super::rope::Rope;
use super::{Probe, ProbePoint};
use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::plan::operands::OperandLimit;
use crate::progress::Progress;

/// The numbers that a network is told beside the latent and the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Diffusion time, 0 to 1000; may be fractional.
    pub timestep: f64,
    /// Noise step of the reference latent; read by networks with [`DitConfig::reference`].
    pub reference_step: f64,
}

impl Times {
    /// A timestep for a network that reads no reference step.
    pub const fn new(timestep: f64) -> Self {
        Self {
            timestep,
            reference_step: 0.0,
        }
    }
}

/// A diffusion transformer with its weights.
#[derive(Debug)]
pub struct Transformer {
    config: DitConfig,
    patches: PatchEmbedding,
    time: NumberEmbedding,
    /// Number of latent frames and noise step of the reference.
    reference: Option<(NumberEmbedding, NumberEmbedding)>,
    blocks: Vec<Block>,
    final_norm: LayerNorm,
    out_norm: LayerNorm,
    out_modulation: Linear,
    out: Linear,
    device: Device,
    dtype: DType,
}

impl Transformer {
    /// Loads the network at `weights`, whose names are those of the release without a prefix. Activations are f32 on
    /// the CPU and have the type of `weights` elsewhere.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming all tensors that are missing or of another shape; [`Error::Cancelled`].
    pub fn load(weights: &Weights) -> Result<Self> {
        let config = DitConfig::infer(weights)?;
        let d = config.hidden;
        let number = |name: &str| NumberEmbedding::new(&weights.pp(name), &config);
        let layer = weights.pp("mixins.final_layer");
        let mut blocks = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            blocks.push(Block::new(weights, &config, index)?);
        }
        let patch = config.patch * config.patch;
        let model = Self {
            patches: PatchEmbedding::new(&weights.pp("mixins.patch_embed"), &config)?,
            time: number("time_embed")?,
            reference: config
                .reference
                .then(|| {
                    Ok::<_, Error>((
                        number("time_size_embedding")?,
                        number("ref_step_time_embedding")?,
                    ))
                })
                .transpose()?,
            blocks,
            final_norm: LayerNorm::new(&weights.pp("transformer.final_layernorm"), d, 1e-5)?,
            out_norm: LayerNorm::new(&layer.pp("norm_final"), d, 1e-6)?,
            out_modulation: layer
                .pp("adaLN_modulation.1")
                .linear(config.time_dim, 2 * d)?,
            out: layer.pp("linear").linear(d, config.out_channels * patch)?,
            device: weights.device().clone(),
            dtype: if weights.device().is_cpu() {
                DType::F32
            } else {
                weights.dtype()
            },
            config,
        };
        weights.finish()?;
        Ok(model)
    }

    /// The same network with another base of the rotary frequencies.
    #[must_use]
    pub fn with_rope_theta(mut self, theta: f64) -> Self {
        self.config.rope_theta = theta;
        self
    }

    /// The sizes.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// The device it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The output `[batch, frames, channels, height, width]` for `latent` of that shape, one of `times` and one row of
    /// `context` `[batch, length, text_dim]` for each sample. Samples go through one after another.
    ///
    /// # Errors
    /// [`Error::Invalid`] for shapes that do not fit together, [`Error::Cancelled`], or a failed tensor operation.
    pub fn forward(
        &self,
        latent: &Tensor,
        times: &[Times],
        context: &Tensor,
        progress: &Progress,
    ) -> Result<Tensor> {
        let (batch, ..) = latent.dims5()?;
        if times.len() != batch || context.dim(0)? != batch {
            return Err(Error::invalid(format!(
                "{batch} latents, {} times and text features {:?}; there must be one of each for each sample",
                times.len(),
                context.dims()
            )));
        }
        let samples = times
            .iter()
            .enumerate()
            .map(|(index, times)| {
                self.sample(
                    &latent.get(index)?,
                    *times,
                    &context.get(index)?,
                    progress,
                    None,
                )
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&samples, 0)?)
    }

    /// One sample: `latent` `[frames, channels, height, width]` and `text` `[length, text_dim]` to a result of the
    /// shape of the latent, in float32. `probe` sees intermediate values.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and those of `probe`.
    pub fn sample(
        &self,
        latent: &Tensor,
        times: Times,
        text: &Tensor,
        progress: &Progress,
        mut probe: Option<&mut Probe<'_>>,
    ) -> Result<Tensor> {
        progress.check()?;
        let (frames, channels, height, width) = latent.dims4()?;
        let (length, features) = text.dims2()?;
        if channels != self.config.in_channels || features != self.config.text_dim {
            return Err(Error::invalid(format!(
                "a latent of {channels} channels and text of {features} features; the model takes {} and {}",
                self.config.in_channels, self.config.text_dim
            )));
        }
        let grid = self.config.grid(frames, height, width)?;
        if let Some(limit) = OperandLimit::of(&self.device) {
            limit.admit((length + grid.tokens()) * self.config.hidden)?;
        }
        let latent = latent.to_device(&self.device)?.to_dtype(self.dtype)?;
        let text = text.to_device(&self.device)?.to_dtype(self.dtype)?;
        let embedding = self.embedding(times, frames, &mut probe)?;
        let rope = Rope::new(grid, self.config.head_dim, self.config.rope_theta);
        let tokens = Tokens {
            rows: self.patches.forward(&latent, &text, grid)?,
            text: length,
        };
        for (index, block) in self.blocks.iter().enumerate() {
            if let Some(probe) = &mut probe {
                probe(ProbePoint::Tokens(index), &tokens.rows.copy()?)?;
            }
            block.forward(
                &self.config,
                &tokens,
                &embedding,
                &rope,
                progress,
                &mut probe,
            )?;
        }
        if let Some(probe) = &mut probe {
            probe(ProbePoint::Tokens(self.blocks.len()), &tokens.rows.copy()?)?;
            probe(
                ProbePoint::FinalNorm,
                &self.final_norm.forward(&tokens.rows, None)?,
            )?;
        }
        progress.check()?;
        let image = self
            .final_norm
            .forward(&tokens.rows.narrow(0, length, grid.tokens())?, None)?;
        let modulation = self.out_modulation.forward(&embedding.silu()?)?;
        let shift = modulation.narrow(1, 0, self.config.hidden)?;
        let scale = modulation.narrow(1, self.config.hidden, self.config.hidden)?;
        let out = self
            .out
            .forward(&self.out_norm.forward(&image, Some((&shift, &scale)))?)?;
        Ok(unpatchify(&out, grid, &self.config)?.to_dtype(DType::F32)?)
    }

    /// Carries `rows` `[text + image, hidden]`, the first `text` of which are text, through block `index` in place;
    /// `embedding` is `[1, time_dim]`, `rope` has an entry for each image token.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no such block, [`Error::Cancelled`], or a failed tensor operation.
    pub fn block(
        &self,
        index: usize,
        (rows, text): (&Tensor, usize),
        embedding: &Tensor,
        rope: &Rope,
        progress: &Progress,
    ) -> Result<()> {
        let block = self
            .blocks
            .get(index)
            .ok_or_else(|| Error::invalid(format!("block {index} of {}", self.blocks.len())))?;
        let rows = rows.clone();
        let tokens = Tokens { rows, text };
        block.forward(&self.config, &tokens, embedding, rope, progress, &mut None)
    }

    /// The sum of the time embeddings, `[1, time_dim]`.
    fn embedding(
        &self,
        times: Times,
        frames: usize,
        probe: &mut Option<&mut Probe<'_>>,
    ) -> Result<Tensor> {
        let (device, dtype) = (&self.device, self.dtype);
        let mut sum = self.time.forward(times.timestep, device, dtype)?;
        if let Some((size, step)) = &self.reference {
            let time = sum;
            let size = size.forward(frames as f64, device, dtype)?;
            let step = step.forward(times.reference_step, device, dtype)?;
            sum = ((&time + &size)? + &step)?;
            if let Some(probe) = probe {
                probe(ProbePoint::TimeEmbedding, &time)?;
                probe(ProbePoint::SizeEmbedding, &size)?;
                probe(ProbePoint::ReferenceEmbedding, &step)?;
            }
        }
        if let Some(probe) = probe {
            probe(ProbePoint::Embedding, &sum)?;
        }
        Ok(sum)
    }

    /// The outputs without and with the prompt for one latent `[1, frames, channels, height, width]`; `context` is
    /// `[1, length, text_dim]`. Without a prompt the features are zeros. Where guidance of `scale` weighs one of them with
    /// nothing (0 or 1), the network is evaluated once, and the other's output stands for both.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn both(
        &self,
        latent: &Tensor,
        times: Times,
        context: &Tensor,
        scale: f64,
        progress: &Progress,
    ) -> Result<(Tensor, Tensor)> {
        if latent.dim(0)? != 1 || context.dim(0)? != 1 {
            return Err(Error::invalid(format!(
                "guidance takes one latent and one prompt, found {:?} and {:?}",
                latent.dims(),
                context.dims()
            )));
        }
        let (latent, context) = (latent.squeeze(0)?, context.squeeze(0)?);
        let device = latent.device();
        let one = |text: &Tensor| {
            let out = self.sample(&latent, times, text, progress, None)?;
            Ok::<_, Error>(out.to_device(device)?.unsqueeze(0)?)
        };
        let same = |out: Tensor| (out.clone(), out);
        if scale == 1.0 {
            return Ok(same(one(&context)?));
        }
        let without = one(&context.zeros_like()?)?;
        if scale == 0.0 {
            return Ok(same(without));
        }
        Ok((without, one(&context)?))
    }
}
