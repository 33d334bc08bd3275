// SPDX-License-Identifier: MPL-2.0
//! Names and shapes of the released models, derived from their configurations.

use std::collections::BTreeMap;

use flashvideo::Result;
use flashvideo::checkpoint::Checkpoint;
use flashvideo::release::text::T5Config;

/// Names to shapes.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// The models of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Text to a small clip: 5.57 B parameters and adapters.
    Stage1,
    /// A small clip to a large one: 1.70 B parameters.
    Stage2,
    /// The causal 3D VAE: 216 M parameters.
    Vae,
    /// The encoder of T5-v1.1-XXL: 4.76 B parameters.
    T5,
}

impl Kind {
    /// Guesses the model that a checkpoint under normalised names holds.
    pub fn of(checkpoint: &Checkpoint) -> Option<Self> {
        let has = |name| checkpoint.contains(name);
        if has("time_size_embedding.0.weight") {
            Some(Self::Stage2)
        } else if has("time_embed.0.weight") || has("mixins.patch_embed.proj.weight") {
            Some(Self::Stage1)
        } else if has("encoder.conv_in.conv.weight") || has("decoder.conv_in.conv.weight") {
            Some(Self::Vae)
        } else if has("encoder.final_layer_norm.weight") || has("shared.weight") {
            Some(Self::T5)
        } else {
            None
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stage1 => "Stage I",
            Self::Stage2 => "Stage II",
            Self::Vae => "causal 3D VAE",
            Self::T5 => "T5-v1.1-XXL encoder",
        }
    }

    /// All tensors of the released model; those of a transformer without `model.diffusion_model.`.
    pub fn shapes(self) -> Shapes {
        match self {
            Self::Stage1 => dit(&Dit {
                width: 3072,
                head_width: 64,
                layers: 42,
                rank: Some(128),
                reference: false,
            }),
            Self::Stage2 => dit(&Dit {
                width: 1920,
                head_width: 64,
                layers: 30,
                rank: None,
                reference: true,
            }),
            Self::Vae => vae(),
            Self::T5 => t5(&T5Config::XXL),
        }
    }
}

/// Names of any layout as the models ask for them.
pub fn normalised(checkpoint: Checkpoint) -> Result<Checkpoint> {
    let checkpoint = checkpoint.into_dit()?;
    Ok(match Kind::of(&checkpoint) {
        Some(Kind::Stage1 | Kind::Stage2) => checkpoint,
        // The names of a VAE by diffusers and of a T5 by llama.cpp are not known yet.
        _ if checkpoint
            .names()
            .any(|name| name.contains("down_blocks") || name.starts_with("first_stage_model.")) =>
        {
            checkpoint.into_vae()
        }
        Some(Kind::Vae) => checkpoint.into_vae(),
        _ => checkpoint.into_t5(),
    })
}

struct Dit {
    width: usize,
    head_width: usize,
    layers: usize,
    /// Rank of the adapters.
    rank: Option<usize>,
    /// Whether the number of frames and the noise of a reference clip are embedded (Stage II).
    reference: bool,
}

const TIME: usize = 512;
const TEXT: usize = 4096;
const LATENT: usize = 16;
const PATCH: usize = 2;

fn layer(out: &mut Shapes, name: &str, weight: &[usize]) {
    out.insert(format!("{name}.weight"), weight.to_vec());
    out.insert(format!("{name}.bias"), weight[..1].to_vec());
}

fn dit(config: &Dit) -> Shapes {
    let out = &mut Shapes::new();
    let d = config.width;
    layer(out, "mixins.patch_embed.proj", &[d, LATENT, PATCH, PATCH]);
    layer(out, "mixins.patch_embed.text_proj", &[d, TEXT]);
    let embeddings: &[&str] = match config.reference {
        true => &[
            "time_embed",
            "time_size_embedding",
            "ref_step_time_embedding",
        ],
        false => &["time_embed"],
    };
    for name in embeddings {
        layer(out, &format!("{name}.0"), &[TIME, d]);
        layer(out, &format!("{name}.2"), &[TIME, TIME]);
    }
    let adapted =
        |out: &mut Shapes, name: &str, outputs: usize, inputs: usize, pairs: usize| match config
            .rank
        {
            None => layer(out, name, &[outputs, inputs]),
            Some(rank) => {
                layer(out, &format!("{name}.original"), &[outputs, inputs]);
                for pair in 0..pairs {
                    out.insert(format!("{name}.matrix_A.{pair}"), vec![rank, inputs]);
                    out.insert(
                        format!("{name}.matrix_B.{pair}"),
                        vec![outputs / pairs, rank],
                    );
                }
            }
        };
    for index in 0..config.layers {
        let block = format!("transformer.layers.{index}");
        layer(out, &format!("{block}.input_layernorm"), &[d]);
        layer(out, &format!("{block}.post_attention_layernorm"), &[d]);
        adapted(
            out,
            &format!("{block}.attention.query_key_value"),
            3 * d,
            d,
            3,
        );
        adapted(out, &format!("{block}.attention.dense"), d, d, 1);
        layer(out, &format!("{block}.mlp.dense_h_to_4h"), &[4 * d, d]);
        layer(out, &format!("{block}.mlp.dense_4h_to_h"), &[d, 4 * d]);
        let adaln = "mixins.adaln_layer";
        adapted(
            out,
            &format!("{adaln}.adaLN_modulations.{index}.1"),
            12 * d,
            TIME,
            1,
        );
        for side in ["query", "key"] {
            layer(
                out,
                &format!("{adaln}.{side}_layernorm_list.{index}"),
                &[config.head_width],
            );
        }
    }
    layer(out, "transformer.final_layernorm", &[d]);
    layer(out, "mixins.final_layer.norm_final", &[d]);
    layer(out, "mixins.final_layer.adaLN_modulation.1", &[2 * d, TIME]);
    layer(
        out,
        "mixins.final_layer.linear",
        &[LATENT * PATCH * PATCH, d],
    );
    std::mem::take(out)
}

fn vae() -> Shapes {
    let out = &mut Shapes::new();
    let conv = |out: &mut Shapes, name: &str, to: usize, from: usize, k: usize| {
        layer(out, name, &[to, from, k, k, k]);
    };
    let norm = |out: &mut Shapes, name: &str, channels: usize, spatial: bool| {
        if spatial {
            layer(out, &format!("{name}.norm_layer"), &[channels]);
            conv(out, &format!("{name}.conv_y.conv"), channels, LATENT, 1);
            conv(out, &format!("{name}.conv_b.conv"), channels, LATENT, 1);
        } else {
            layer(out, name, &[channels]);
        }
    };
    let block = |out: &mut Shapes, name: &str, from: usize, to: usize, spatial: bool| {
        norm(out, &format!("{name}.norm1"), from, spatial);
        conv(out, &format!("{name}.conv1.conv"), to, from, 3);
        norm(out, &format!("{name}.norm2"), to, spatial);
        conv(out, &format!("{name}.conv2.conv"), to, to, 3);
        if from != to {
            conv(out, &format!("{name}.nin_shortcut"), to, from, 1);
        }
    };
    const CHANNELS: [usize; 4] = [128, 256, 256, 512];
    let widest = CHANNELS[3];
    conv(out, "encoder.conv_in.conv", CHANNELS[0], 3, 3);
    let mut from = CHANNELS[0];
    for (level, &to) in CHANNELS.iter().enumerate() {
        for index in 0..3 {
            block(
                out,
                &format!("encoder.down.{level}.block.{index}"),
                from,
                to,
                false,
            );
            from = to;
        }
        if level < 3 {
            layer(
                out,
                &format!("encoder.down.{level}.downsample.conv"),
                &[to, to, 3, 3],
            );
        }
    }
    norm(out, "encoder.norm_out", widest, false);
    conv(out, "encoder.conv_out.conv", 2 * LATENT, widest, 3);
    conv(out, "decoder.conv_in.conv", widest, LATENT, 3);
    for side in ["encoder", "decoder"] {
        for index in [1, 2] {
            block(
                out,
                &format!("{side}.mid.block_{index}"),
                widest,
                widest,
                side == "decoder",
            );
        }
    }
    from = widest;
    for (level, &to) in CHANNELS.iter().enumerate().rev() {
        for index in 0..4 {
            block(
                out,
                &format!("decoder.up.{level}.block.{index}"),
                from,
                to,
                true,
            );
            from = to;
        }
        if level > 0 {
            layer(
                out,
                &format!("decoder.up.{level}.upsample.conv"),
                &[to, to, 3, 3],
            );
        }
    }
    norm(out, "decoder.norm_out", CHANNELS[0], true);
    conv(out, "decoder.conv_out.conv", 3, CHANNELS[0], 3);
    std::mem::take(out)
}

fn t5(config: &T5Config) -> Shapes {
    let mut out = Shapes::new();
    let mut weight =
        |name: String, shape: &[usize]| out.insert(format!("{name}.weight"), shape.to_vec());
    let (d, inner) = (config.width, config.heads * config.head_width);
    weight("shared".to_owned(), &[config.vocabulary, d]);
    weight("encoder.final_layer_norm".to_owned(), &[d]);
    weight(
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias".to_owned(),
        &[config.buckets, config.heads],
    );
    for index in 0..config.layers {
        let block = format!("encoder.block.{index}.layer");
        for side in ["q", "k", "v"] {
            weight(format!("{block}.0.SelfAttention.{side}"), &[inner, d]);
        }
        weight(format!("{block}.0.SelfAttention.o"), &[d, inner]);
        weight(format!("{block}.0.layer_norm"), &[d]);
        weight(format!("{block}.1.layer_norm"), &[d]);
        weight(
            format!("{block}.1.DenseReluDense.wi_0"),
            &[config.feed_forward, d],
        );
        weight(
            format!("{block}.1.DenseReluDense.wi_1"),
            &[config.feed_forward, d],
        );
        weight(
            format!("{block}.1.DenseReluDense.wo"),
            &[d, config.feed_forward],
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn parameters(shapes: &Shapes) -> usize {
        shapes
            .values()
            .map(|shape| shape.iter().product::<usize>())
            .sum()
    }

    #[test]
    fn shapes_of_the_release() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/golden/real_shapes.json"
        );
        let real: HashMap<String, Shapes> =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (kind, name) in [
            (Kind::Stage1, "stage1"),
            (Kind::Stage2, "stage2"),
            (Kind::Vae, "vae"),
        ] {
            let mut expected: Shapes = real[name]
                .iter()
                .map(|(name, shape)| (name.replace("model.diffusion_model.", ""), shape.clone()))
                .collect();
            expected.remove("transformer.position_embeddings.weight");
            let found = kind.shapes();
            for (name, shape) in &expected {
                assert_eq!(found.get(name), Some(shape), "{kind:?} {name}");
            }
            assert_eq!(found.len(), expected.len(), "{kind:?}");
        }
    }

    #[test]
    fn parameters_of_the_release() {
        // The count of the transformers includes a table of 64 x width that is never read.
        assert_eq!(
            parameters(&Kind::Stage1.shapes()),
            5_570_479_680 + 333_053_952 - 64 * 3072
        );
        assert_eq!(
            parameters(&Kind::Stage2.shapes()),
            1_696_399_168 - 64 * 1920
        );
        assert_eq!(parameters(&Kind::Vae.shapes()), 215_583_907);
        assert_eq!(parameters(&Kind::T5.shapes()), 4_762_310_656);
    }
}
