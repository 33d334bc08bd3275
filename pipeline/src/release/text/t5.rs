// SPDX-License-Identifier: MPL-2.0
//! The encoder of T5 v1.1 (Raffel et al., arXiv 1910.10683, with gated GELU), as Stage I and II were trained with:
//! no attention mask, so the features of the padding belong to the condition.

use std::sync::Arc;

use candle_core::quantized::QTensor;
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;

use crate::checkpoint::Weights;
use crate::error::{Error, Result};
use crate::linear::Linear;
use crate::progress::Progress;

const EPS: f64 = 1e-6;
/// Distances from here on share a bucket.
const MAX_DISTANCE: f64 = 128.0;

/// Sizes of an encoder. v1.1-XXL: width 4096, 64 heads of 64, 24 layers, feed-forward 10240, 32 buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct T5Config {
    /// Features of a token.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Features of one head.
    pub head_width: usize,
    /// Blocks.
    pub layers: usize,
    /// Features inside of the feed-forward layers.
    pub feed_forward: usize,
    /// Rows of the table of embeddings.
    pub vocabulary: usize,
    /// Buckets of the relative position bias.
    pub buckets: usize,
}

impl T5Config {
    /// The released text encoder, 4 762 310 656 parameters.
    pub const XXL: Self = Self {
        width: 4096,
        heads: 64,
        head_width: 64,
        layers: 24,
        feed_forward: 10240,
        vocabulary: 32128,
        buckets: 32,
    };

    /// Reads the sizes off the shapes of the weights; what is missing counts as in [`T5Config::XXL`], so that loading
    /// reports it.
    pub fn of(weights: &Weights) -> Self {
        let dims = |name: &str| match weights.shape(name) {
            Some(&[rows, columns]) if rows > 0 && columns > 0 => Some((rows, columns)),
            _ => None,
        };
        let attention = "encoder.block.0.layer.0.SelfAttention";
        let (vocabulary, width) =
            dims("shared.weight").unwrap_or((Self::XXL.vocabulary, Self::XXL.width));
        let (buckets, heads) = dims(&format!("{attention}.relative_attention_bias.weight"))
            .unwrap_or((Self::XXL.buckets, Self::XXL.heads));
        let (inner, _) = dims(&format!("{attention}.q.weight"))
            .unwrap_or((Self::XXL.head_width * heads, Self::XXL.width));
        let (feed_forward, _) = dims("encoder.block.0.layer.1.DenseReluDense.wi_0.weight")
            .unwrap_or((Self::XXL.feed_forward, Self::XXL.width));
        let layers = match weights.count("encoder.block") {
            0 => Self::XXL.layers,
            layers => layers,
        };
        Self {
            width,
            heads,
            head_width: inner / heads,
            layers,
            feed_forward,
            vocabulary,
            buckets,
        }
    }
}

impl T5Config {
    /// Parameters of an encoder of these sizes.
    pub fn parameters(&self) -> u64 {
        let inner = self.heads * self.head_width;
        let block = self.width * (4 * inner + 3 * self.feed_forward + 2);
        let table = self.vocabulary * self.width;
        (table + self.layers * block + self.buckets * self.heads + self.width) as u64
    }

    /// The largest operand of every part of the encoder over `tokens` tokens.
    pub fn operands(&self, tokens: usize) -> Vec<(String, usize)> {
        [
            ("t5.embeddings", self.vocabulary * self.width),
            ("t5.layer.weights", self.width * self.feed_forward),
            ("t5.layer.rows", tokens * self.feed_forward.max(self.width)),
            ("t5.layer.scores", self.heads * tokens * tokens),
        ]
        .map(|(name, elements)| (name.to_owned(), elements))
        .into()
    }
}

/// A loaded encoder.
///
/// Activations are f32 on the CPU and for f16 weights, whose range the residual stream of XXL leaves; otherwise
/// they have the type of the weights.
#[derive(Debug)]
pub struct T5Encoder {
    config: T5Config,
    embedding: Embedding,
    /// `[buckets, heads]`, f32: computed by the first block and shared by all.
    position_bias: Tensor,
    blocks: Vec<Block>,
    final_norm: RmsNorm,
    dtype: DType,
    device: Device,
}

#[derive(Debug)]
enum Embedding {
    Plain(Tensor),
    Quantized(Arc<QTensor>),
}

impl T5Encoder {
    /// Loads the encoder from weights under Hugging Face's names.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming all missing and misshapen tensors, [`Error::Cancelled`].
    pub fn load(weights: &Weights) -> Result<Self> {
        let config = T5Config::of(weights);
        let quantized = weights.blocks((config.vocabulary, config.width), "shared.weight")?;
        let embedding = match quantized {
            Some(blocks) => Embedding::Quantized(blocks),
            None => {
                Embedding::Plain(weights.get((config.vocabulary, config.width), "shared.weight")?)
            }
        };
        let encoder = weights.pp("encoder");
        let position_bias = encoder.get_as(
            (config.buckets, config.heads),
            "block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            DType::F32,
        )?;
        let blocks = (0..config.layers)
            .map(|layer| Block::load(&encoder.pp("block").pp(layer).pp("layer"), &config))
            .collect::<Result<_>>()?;
        let final_norm = RmsNorm::load(&encoder.pp("final_layer_norm"), config.width)?;
        weights.finish()?;
        let device = weights.device().clone();
        let dtype = match weights.dtype() {
            DType::BF16 if !device.is_cpu() => DType::BF16,
            _ => DType::F32,
        };
        Ok(Self {
            config,
            embedding,
            position_bias,
            blocks,
            final_norm,
            dtype,
            device,
        })
    }

    /// Sizes of this encoder.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Features `[batch, tokens, width]`, f32, of token ids `[batch, tokens]`.
    ///
    /// # Errors
    /// [`Error::Cancelled`] between layers, [`Error::Invalid`] for ids beyond the vocabulary.
    pub fn forward(&self, ids: &Tensor, progress: &Progress) -> Result<Tensor> {
        self.forward_each(ids, progress, |_, _| Ok(()))
    }

    /// As [`forward`](Self::forward), and calls `each` with the number and the output of every block.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and those of `each`.
    pub fn forward_each(
        &self,
        ids: &Tensor,
        progress: &Progress,
        mut each: impl FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<Tensor> {
        let (batch, tokens) = ids.dims2()?;
        let ids = ids.to_dtype(DType::U32)?.flatten_all()?;
        if let Some(beyond) = ids
            .to_vec1::<u32>()?
            .iter()
            .find(|&&id| id as usize >= self.config.vocabulary)
        {
            return Err(Error::invalid(format!(
                "token {beyond} with a vocabulary of {}; the tokenizer belongs to another model",
                self.config.vocabulary
            )));
        }
        let ids = ids.to_device(&self.device)?;
        let embedded = match &self.embedding {
            Embedding::Plain(table) => table.index_select(&ids, 0)?,
            Embedding::Quantized(table) => table.embedding(&ids)?,
        };
        let mut x = embedded
            .to_dtype(self.dtype)?
            .reshape((batch, tokens, self.config.width))?;
        let bias = self.bias(tokens)?;
        for (index, block) in self.blocks.iter().enumerate() {
            progress.check()?;
            x = block.forward(&x, &bias, &self.config, progress)?;
            each(index, &x)?;
        }
        Ok(self.final_norm.forward(&x)?.to_dtype(DType::F32)?)
    }

    /// What is added to the scores of `tokens` queries and keys: `[1, heads, tokens, tokens]`, f32.
    fn bias(&self, tokens: usize) -> Result<Tensor> {
        let buckets: Vec<u32> = (0..tokens)
            .flat_map(|query| (0..tokens).map(move |key| (query, key)))
            .map(|(query, key)| bucket(key as i64 - query as i64, self.config.buckets))
            .collect();
        let buckets = Tensor::from_vec(buckets, tokens * tokens, &self.device)?;
        let bias = self.position_bias.index_select(&buckets, 0)?;
        let bias = bias.reshape((1, tokens, tokens, self.config.heads))?;
        Ok(bias.permute((0, 3, 1, 2))?.contiguous()?)
    }
}

/// Bucket of the distance from a query to a key: half of the buckets for each direction, half of those one for each
/// distance, the rest in logarithmic steps up to [`MAX_DISTANCE`].
fn bucket(distance: i64, buckets: usize) -> u32 {
    let half = buckets / 2;
    let exact = half / 2;
    let behind = if distance > 0 { half } else { 0 };
    let distance = distance.unsigned_abs() as usize;
    let within = if distance < exact || exact == 0 {
        distance
    } else {
        let steps =
            (distance as f32 / exact as f32).ln() / (MAX_DISTANCE / exact as f64).ln() as f32;
        (exact + (steps * (half - exact) as f32) as usize).min(half - 1)
    };
    (behind + within) as u32
}

#[derive(Debug)]
struct Block {
    attention_norm: RmsNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    o: Linear,
    feed_forward_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    fn load(weights: &Weights, config: &T5Config) -> Result<Self> {
        let attention = weights.pp("0.SelfAttention");
        let feed_forward = weights.pp("1.DenseReluDense");
        let inner = config.heads * config.head_width;
        Ok(Self {
            attention_norm: RmsNorm::load(&weights.pp("0.layer_norm"), config.width)?,
            q: attention.pp("q").linear_no_bias(config.width, inner)?,
            k: attention.pp("k").linear_no_bias(config.width, inner)?,
            v: attention.pp("v").linear_no_bias(config.width, inner)?,
            o: attention.pp("o").linear_no_bias(inner, config.width)?,
            feed_forward_norm: RmsNorm::load(&weights.pp("1.layer_norm"), config.width)?,
            gate: feed_forward
                .pp("wi_0")
                .linear_no_bias(config.width, config.feed_forward)?,
            up: feed_forward
                .pp("wi_1")
                .linear_no_bias(config.width, config.feed_forward)?,
            down: feed_forward
                .pp("wo")
                .linear_no_bias(config.feed_forward, config.width)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        bias: &Tensor,
        config: &T5Config,
        progress: &Progress,
    ) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let heads = |y: Tensor| -> Result<Tensor> {
            let y = y.reshape((batch, tokens, config.heads, config.head_width))?;
            Ok(y.transpose(1, 2)?.contiguous()?)
        };
        let y = self.attention_norm.forward(x)?;
        let q = heads(self.q.forward(&y)?)?;
        let k = heads(self.k.forward(&y)?)?;
        let v = heads(self.v.forward(&y)?)?;
        // 226 tokens: the scores of all heads are 13 MB. They are not divided by the root of the head's width.
        let scores = q
            .matmul(&k.t()?)?
            .to_dtype(DType::F32)?
            .broadcast_add(bias)?;
        let y = softmax_last_dim(&scores)?.to_dtype(v.dtype())?.matmul(&v)?;
        let y = y
            .transpose(1, 2)?
            .reshape((batch, tokens, config.heads * config.head_width))?;
        let x = (x + self.o.forward(&y)?)?;
        progress.check()?;
        let y = self.feed_forward_norm.forward(&x)?;
        let y = (self.gate.forward(&y)?.gelu()? * self.up.forward(&y)?)?;
        progress.check()?;
        Ok((&x + self.down.forward(&y)?)?)
    }
}

/// `x / rms(x) * weight`, the mean taken in f32.
#[derive(Debug)]
struct RmsNorm(Tensor);

impl RmsNorm {
    fn load(weights: &Weights, width: usize) -> Result<Self> {
        weights.get_as(width, "weight", DType::F32).map(Self)
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let rms = (wide.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?;
        let y = wide.broadcast_div(&rms)?.broadcast_mul(&self.0)?;
        Ok(y.to_dtype(x.dtype())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_the_release() {
        assert_eq!(T5Config::XXL.parameters(), 4_762_310_656);
    }

    #[test]
    fn buckets_of_t5() {
        let expected = [
            (0, 0),
            (-1, 1),
            (-7, 7),
            (-8, 8),
            (-15, 9),
            (-16, 10),
            (-127, 15),
            (-500, 15),
            (1, 17),
            (7, 23),
            (8, 24),
            (200, 31),
        ];
        for (distance, want) in expected {
            assert_eq!(bucket(distance, 32), want, "{distance}");
        }
    }
}
