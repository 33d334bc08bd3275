// SPDX-License-Identifier: MPL-2.0
//! Arithmetic about the way through the transformer: the memory that it takes and the largest operands, without a
//! tensor.

use super::attention::block;
use super::config::DitConfig;
use crate::error::Result;
use crate::plan::operands::OperandLimit;

impl DitConfig {
    /// Peak bytes of the activations over `tokens` tokens, text and image, on the CPU in f32: tokens, queries, keys and
    /// values, and the result of the attention.
    pub fn cpu_bytes(&self, tokens: usize) -> u64 {
        4 * 5 * (tokens * self.hidden) as u64
    }

    /// The same on a GPU, in values of `element` bytes.
    pub fn gpu_bytes(&self, tokens: usize, element: usize) -> u64 {
        let limit = OperandLimit::gpu();
        let all = tokens * self.hidden;
        // Tokens, queries, keys and values, the pieces of one of these while they are joined, and the result; scores of
        // a block before and after the softmax.
        let (group, queries) = block(self.heads, tokens, &limit);
        let attention = 6 * all + 2 * group * queries * tokens;
        // Tokens and the result of the attention; of a step the wide values before and after their activation, and a
        // few rows of tokens.
        let rows = limit.most(self.widest()).min(tokens);
        let mlp = 2 * all + rows * (2 * self.mlp + 4 * self.hidden);
        (attention.max(mlp) * element) as u64
    }

    /// The largest operand of every part of the network over `text` and `image` tokens on a device with `limit`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when there are more tokens than the device can number.
    pub fn operands(
        &self,
        (text, image): (usize, usize),
        limit: &OperandLimit,
    ) -> Result<Vec<(String, usize)>> {
        let tokens = text + image;
        limit.admit(tokens * self.hidden)?;
        let (group, queries) = block(self.heads, tokens, limit);
        let rows = limit.most(self.widest()).min(tokens);
        let modulation = 12 * self.hidden * self.time_dim;
        Ok([
            ("dit.tokens", tokens * self.hidden),
            (
                "dit.layer.weights",
                (self.widest() * self.hidden).max(modulation),
            ),
            ("dit.layer.rows", rows * self.widest()),
            ("dit.layer.scores", group * queries * tokens),
        ]
        .map(|(name, elements)| (name.to_owned(), elements))
        .into())
    }

    /// Features of the widest result of a layer.
    pub(super) fn widest(&self) -> usize {
        self.mlp.max(3 * self.hidden)
    }
}
