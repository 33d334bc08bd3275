// SPDX-License-Identifier: MPL-2.0
//! The sizes of a diffusion transformer, told from its weights.

use crate::checkpoint::Weights;
use crate::error::{Error, Result};

/// The sizes of a diffusion transformer; both stages are the same network in two sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct DitConfig {
    /// Number of blocks.
    pub layers: usize,
    /// Features of a token.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Features between the two layers of a block's MLP.
    pub mlp: usize,
    /// Features of the time embedding.
    pub time_dim: usize,
    /// Features of a text token.
    pub text_dim: usize,
    /// Latent channels that go in.
    pub in_channels: usize,
    /// Latent channels that come out.
    pub out_channels: usize,
    /// Latent positions in a token, per direction.
    pub patch: usize,
    /// Whether it is told the number of latent frames and the noise step of the reference (Stage II).
    pub reference: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

impl DitConfig {
    /// The sizes of the transformer in `weights`, whose names are those of the release without a prefix.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the tensors that tell the sizes are missing or do not fit together.
    pub fn infer(weights: &Weights) -> Result<Self> {
        let fail = |problem: String| Error::checkpoint(weights.checkpoint().path(), problem);
        let shape = |name: &str, rank: usize| match weights.shape(name) {
            Some(shape) if shape.len() == rank && !shape.contains(&0) => Ok(shape),
            found => Err(fail(format!(
                "not a diffusion transformer of FlashVideo: {name} should have {rank} dimensions, found {found:?}"
            ))),
        };
        let patch = shape("mixins.patch_embed.proj.weight", 4)?;
        let head_dim = shape("mixins.adaln_layer.query_layernorm_list.0.weight", 1)?[0];
        let (hidden, side) = (patch[0], patch[2]);
        if !hidden.is_multiple_of(head_dim) || !head_dim.is_multiple_of(16) {
            return Err(fail(format!(
                "heads of {head_dim} features in tokens of {hidden}; a head must have a multiple of 16 features and \
                 divide the token"
            )));
        }
        let out = shape("mixins.final_layer.linear.weight", 2)?[0];
        if !out.is_multiple_of(side * side) {
            return Err(fail(format!(
                "{out} features come out for patches of {side}x{side}"
            )));
        }
        Ok(Self {
            layers: weights.count("transformer.layers"),
            hidden,
            heads: hidden / head_dim,
            head_dim,
            mlp: shape("transformer.layers.0.mlp.dense_h_to_4h.bias", 1)?[0],
            time_dim: shape("time_embed.0.bias", 1)?[0],
            text_dim: shape("mixins.patch_embed.text_proj.weight", 2)?[1],
            in_channels: patch[1],
            out_channels: out / (side * side),
            patch: side,
            reference: weights.contains("ref_step_time_embedding.0.weight"),
            rope_theta: 10_000.0,
        })
    }

    /// Image tokens of a latent of `frames` frames of `height` x `width` positions.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the patches do not cover the latent.
    pub fn grid(&self, frames: usize, height: usize, width: usize) -> Result<Grid> {
        let patch = self.patch.max(1);
        if frames * height * width == 0
            || !height.is_multiple_of(patch)
            || !width.is_multiple_of(patch)
        {
            return Err(Error::invalid(format!(
                "a latent of {frames} frames of {width}x{height} cannot be cut into {patch}x{patch} patches; \
                 both sides must be multiples of {patch}"
            )));
        }
        Ok(Grid {
            frames,
            rows: height / patch,
            columns: width / patch,
        })
    }
}

/// Where image tokens lie: row-major in the order time, row, column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Latent frames.
    pub frames: usize,
    /// Rows of patches.
    pub rows: usize,
    /// Columns of patches.
    pub columns: usize,
}

impl Grid {
    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.frames * self.rows * self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    fn weights(shapes: &[(&str, &[usize])]) -> Weights {
        let tensors: HashMap<_, _> = shapes
            .iter()
            .map(|(name, shape)| {
                let zeros = Tensor::zeros(*shape, DType::F32, &Device::Cpu).unwrap();
                ((*name).to_owned(), zeros)
            })
            .collect();
        Weights::new(
            Checkpoint::from_tensors(tensors).unwrap(),
            &Device::Cpu,
            DType::F32,
        )
    }

    const SMALL: [(&str, &[usize]); 6] = [
        ("mixins.patch_embed.proj.weight", &[96, 16, 2, 2]),
        ("mixins.adaln_layer.query_layernorm_list.0.weight", &[32]),
        ("mixins.final_layer.linear.weight", &[64, 96]),
        ("transformer.layers.0.mlp.dense_h_to_4h.bias", &[100]),
        ("time_embed.0.bias", &[24]),
        ("mixins.patch_embed.text_proj.weight", &[96, 48]),
    ];

    #[test]
    fn sizes_come_from_shapes() {
        let config = DitConfig::infer(&weights(&SMALL)).unwrap();
        assert_eq!((config.heads, config.head_dim, config.layers), (3, 32, 1));
        assert_eq!(
            (config.mlp, config.out_channels, config.reference),
            (100, 16, false)
        );
        assert_eq!(config.grid(13, 16, 60).unwrap().tokens(), 13 * 8 * 30);
        assert!(config.grid(13, 15, 60).is_err());
    }

    #[test]
    fn other_files_are_refused() {
        for missing in 0..SMALL.len() {
            let mut shapes = SMALL.to_vec();
            let (name, _) = shapes.remove(missing);
            let error = DitConfig::infer(&weights(&shapes)).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let mut odd = SMALL;
        odd[1].1 = &[24];
        assert!(DitConfig::infer(&weights(&odd)).is_err());
    }
}
