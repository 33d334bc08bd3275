// SPDX-License-Identifier: MPL-2.0
//! The diffusion transformer of both stages (CogVideoX with 3D RoPE).

mod adaln;
mod attention;
mod block;
pub mod config;
mod cpu_heads;
pub mod embed;
mod forward;
mod fused;
pub mod rope;
mod sizes;
pub mod transformer;

pub use config::{DitConfig, Grid};
pub use transformer::{Times, Transformer};

use candle_core::Tensor;

use crate::error::Result;

/// Sees intermediate values of one sample. Tensors are copies or never change afterwards.
pub type Probe<'a> = dyn FnMut(ProbePoint, &Tensor) -> Result<()> + 'a;

/// Where a [`Probe`] looks. Blocks count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbePoint {
    /// Embedding of the timestep, `[1, time_dim]`; only with [`DitConfig::reference`], as are the next two.
    TimeEmbedding,
    /// Embedding of the number of latent frames.
    SizeEmbedding,
    /// Embedding of the reference's noise step.
    ReferenceEmbedding,
    /// Sum of the embeddings, `[1, time_dim]`.
    Embedding,
    /// Tokens before this block, `[text + image, hidden]`; after the last one for the number of blocks.
    Tokens(usize),
    /// Queries of a block after norm and rotation, `[heads, tokens, head_dim]`.
    Query(usize),
    /// Keys of a block, likewise.
    Key(usize),
    /// Values of a block.
    Value(usize),
    /// Result of the attention of a block before its projection, `[heads, tokens, head_dim]`.
    Attention(usize),
    /// Tokens after the norm that follows the last block.
    FinalNorm,
}
