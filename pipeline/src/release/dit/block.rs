// SPDX-License-Identifier: MPL-2.0
//! The weights of one block, and the tokens that go through it.

use candle_core::{DType, Tensor};

use super::adaln::LayerNorm;
use super::attention::{Heads, QkNorm};
use super::config::DitConfig;
use super::{Probe, ProbePoint};
use crate::checkpoint::Weights;
use crate::cpu::level::best_dtype;
use crate::error::Result;
use crate::linear::Linear;

/// Tokens `[text + image, hidden]`, text first. Blocks change the rows in place.
pub(super) struct Tokens {
    pub rows: Tensor,
    pub text: usize,
}

impl Tokens {
    /// Ranges of at most `size` rows, none of which is partly text and partly image.
    pub(super) fn steps(&self, size: usize) -> Result<Vec<(usize, usize)>> {
        let all = self.rows.dim(0)?;
        let mut steps = Vec::new();
        for (first, end) in [(0, self.text), (self.text, all)] {
            steps.extend(
                (first..end)
                    .step_by(size)
                    .map(|start| (start, size.min(end - start))),
            );
        }
        Ok(steps)
    }
}

/// One block of the transformer.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) index: usize,
    pub(super) modulation: Linear,
    pub(super) norm1: LayerNorm,
    pub(super) qkv: Linear,
    pub(super) qk_norm: QkNorm,
    pub(super) dense: Linear,
    pub(super) norm2: LayerNorm,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

impl Block {
    /// Block `index` of the model at `weights`.
    pub fn new(weights: &Weights, config: &DitConfig, index: usize) -> Result<Self> {
        let d = config.hidden;
        let layer = weights.pp("transformer.layers").pp(index);
        let adaln = weights.pp("mixins.adaln_layer");
        let head_norm =
            |name: &str| LayerNorm::new(&adaln.pp(name).pp(index), config.head_dim, 1e-6);
        Ok(Self {
            index,
            modulation: adaln
                .pp("adaLN_modulations")
                .pp(index)
                .pp(1)
                .linear(config.time_dim, 12 * d)?
                .packed()?,
            norm1: LayerNorm::new(&layer.pp("input_layernorm"), d, 1e-5)?,
            qkv: layer
                .pp("attention.query_key_value")
                .linear(d, 3 * d)?
                .packed()?,
            qk_norm: QkNorm {
                query: head_norm("query_layernorm_list")?,
                key: head_norm("key_layernorm_list")?,
            },
            dense: layer.pp("attention.dense").linear(d, d)?.packed()?,
            norm2: LayerNorm::new(&layer.pp("post_attention_layernorm"), d, 1e-5)?,
            up: layer
                .pp("mlp.dense_h_to_4h")
                .linear(d, config.mlp)?
                .packed()?,
            down: layer
                .pp("mlp.dense_4h_to_h")
                .linear(config.mlp, d)?
                .packed()?,
        })
    }

    /// Whether activations are bf16 where they are operands: the model is, and all layers have kernels for it.
    pub(super) fn takes_bf16(&self) -> bool {
        let layers = [&self.qkv, &self.dense, &self.up, &self.down];
        self.norm1.weight.dtype() == DType::BF16
            && best_dtype() == DType::BF16
            && layers.into_iter().all(Linear::takes_bf16)
    }

    /// Shows `probe` the queries, keys and values.
    pub(super) fn show_heads(
        &self,
        heads: &Heads<'_>,
        probe: &mut Option<&mut Probe<'_>>,
    ) -> Result<()> {
        if let Some(probe) = probe {
            let [query, key, value] = heads.tensors()?;
            probe(ProbePoint::Query(self.index), &query)?;
            probe(ProbePoint::Key(self.index), &key)?;
            probe(ProbePoint::Value(self.index), &value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn steps_do_not_mix_text_and_image() {
        let tokens = Tokens {
            rows: Tensor::zeros((10, 2), DType::F32, &Device::Cpu).unwrap(),
            text: 3,
        };
        assert_eq!(tokens.steps(4).unwrap(), [(0, 3), (3, 4), (7, 3)]);
        assert_eq!(
            tokens.steps(2).unwrap(),
            [(0, 2), (2, 1), (3, 2), (5, 2), (7, 2), (9, 1)]
        );
    }
}
