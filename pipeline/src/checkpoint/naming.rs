// SPDX-License-Identifier: MPL-2.0
//! One set of names for all files of a model: those of the release, without its prefixes.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Checkpoint;
use super::entry::Entry;
use crate::error::{Error, Result};

/// Names from the release's own files, as SwissArmyTransformer wrote them.
const DIT_PREFIX: &str = "model.diffusion_model.";
const VAE_PREFIX: &str = "first_stage_model.";
const T5_PREFIXES: [&str; 2] = ["conditioner.embedders.0.transformer.", "text_encoder."];

/// Parts of a file that its own code computes or never reads.
const DIT_UNUSED: [&str; 3] = [
    "mixins.pos_embed.freqs_sin",
    "mixins.pos_embed.freqs_cos",
    "transformer.position_embeddings.weight",
];

/// The release's and diffusers' names of what stands once in a transformer.
pub(super) const OUTER: [(&str, &str); 8] = [
    ("mixins.patch_embed.proj", "patch_embed.proj"),
    ("mixins.patch_embed.text_proj", "patch_embed.text_proj"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("transformer.final_layernorm", "norm_final"),
    ("mixins.final_layer.norm_final", "norm_out.norm"),
    ("mixins.final_layer.adaLN_modulation.1", "norm_out.linear"),
    ("mixins.final_layer.linear", "proj_out"),
];
/// The same for what stands in every block, below `transformer.layers.N` and `transformer_blocks.N`.
pub(super) const BLOCK: [(&str, &str); 5] = [
    ("input_layernorm", "norm1.norm"),
    ("post_attention_layernorm", "norm2.norm"),
    ("attention.dense", "attn1.to_out.0"),
    ("mlp.dense_h_to_4h", "ff.net.0.proj"),
    ("mlp.dense_4h_to_h", "ff.net.2"),
];
/// The release's layer that diffusers have in three, and these.
pub(super) const QKV: (&str, [&str; 3]) = (
    "attention.query_key_value",
    ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
);
/// The layers whose rows, in sixths, are those of the release's modulation of a block: shift, scale and gate of image and
/// text for attention, then the same for the MLP, are in the release in the order attention image, MLP image, attention
/// text, MLP text.
pub(super) const MODULATION: [(&str, Range<usize>); 4] = [
    ("norm1.linear", 0..3),
    ("norm2.linear", 0..3),
    ("norm1.linear", 3..6),
    ("norm2.linear", 3..6),
];

/// The release's name of the modulation of block `layer`.
pub(super) fn modulation(layer: &str) -> String {
    format!("mixins.adaln_layer.adaLN_modulations.{layer}.1")
}

impl Checkpoint {
    /// The tensors of a diffusion transformer under the release's names without `model.diffusion_model.`, whether the
    /// file is from the release, converted, or from a diffusers-style CogVideoX folder.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] listing the tensors of a diffusers file that its mapping needs and that are not there.
    pub fn into_dit(mut self) -> Result<Self> {
        self.strip(DIT_PREFIX);
        self.entries
            .retain(|name, _| !DIT_UNUSED.contains(&name.as_str()));
        if self.contains("transformer_blocks.0.attn1.to_q.weight") {
            self.dit_from_diffusers()?;
        }
        Ok(self)
    }

    /// The tensors of the VAE under the release's names (`encoder.`, `decoder.`).
    pub fn into_vae(mut self) -> Self {
        self.strip(VAE_PREFIX);
        self.entries.retain(|name, _| !name.starts_with("loss"));
        if self.names_under("encoder.down_blocks.").next().is_some() {
            let old = std::mem::take(&mut self.entries);
            self.entries = old
                .into_iter()
                .map(|(name, e)| (vae_name(&name), e))
                .collect();
        }
        self
    }

    /// The tensors of a T5 encoder under Hugging Face's names; those of a decoder are left out.
    pub fn into_t5(mut self) -> Self {
        for prefix in T5_PREFIXES {
            self.strip(prefix);
        }
        if self.contains("token_embd.weight") {
            let old = std::mem::take(&mut self.entries);
            self.entries = old
                .into_iter()
                .filter_map(|(name, e)| Some((t5_name(&name)?, e)))
                .collect();
        }
        self.entries
            .retain(|name, _| !name.starts_with("decoder.") && !name.starts_with("lm_head."));
        if let Some(tokens) = self.entries.remove("encoder.embed_tokens.weight") {
            self.entries
                .entry("shared.weight".to_owned())
                .or_insert(tokens);
        }
        self
    }

    /// Takes `prefix` off the names that have it. Other names stay: they are reported as superfluous.
    fn strip(&mut self, prefix: &str) {
        if self.names_under(prefix).next().is_none() {
            return;
        }
        let old = std::mem::take(&mut self.entries);
        self.entries = old
            .into_iter()
            .map(|(name, e)| {
                (
                    name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name),
                    e,
                )
            })
            .collect();
    }

    fn dit_from_diffusers(&mut self) -> Result<()> {
        let mut map = Mapping {
            from: std::mem::take(&mut self.entries),
            to: BTreeMap::new(),
            problems: Vec::new(),
        };
        for (ours, theirs) in OUTER {
            map.rename(ours, theirs);
        }
        let mut layer = 0;
        while map.has(&format!("transformer_blocks.{layer}.attn1.to_q.weight")) {
            let theirs = |name: &str| format!("transformer_blocks.{layer}.{name}");
            let ours = |name: &str| format!("transformer.layers.{layer}.{name}");
            for (to, from) in BLOCK {
                map.rename(&ours(to), &theirs(from));
            }
            for (to, from) in [("query", "attn1.norm_q"), ("key", "attn1.norm_k")] {
                let to = format!("mixins.adaln_layer.{to}_layernorm_list.{layer}");
                map.rename(&to, &theirs(from));
            }
            let heads = QKV.1.map(|name| (theirs(name), 0..1));
            map.stack(&ours(QKV.0), &heads, 1);
            let parts = MODULATION.map(|(name, sixths)| (theirs(name), sixths));
            map.stack(&modulation(&layer.to_string()), &parts, 6);
            layer += 1;
        }
        map.from
            .retain(|name, _| name != "patch_embed.pos_embedding");
        if !map.problems.is_empty() {
            return Err(Error::checkpoint(
                &self.path,
                format!(
                    "not a whole CogVideoX transformer:\n{}",
                    map.problems.join("\n")
                ),
            ));
        }
        self.entries = map.to;
        self.entries.extend(map.from);
        Ok(())
    }
}

struct Mapping {
    from: BTreeMap<String, Entry>,
    to: BTreeMap<String, Entry>,
    problems: Vec<String>,
}

impl Mapping {
    fn has(&self, name: &str) -> bool {
        self.from.contains_key(name)
    }

    /// Moves weight and bias; what is missing is reported by the model under our name.
    fn rename(&mut self, to: &str, from: &str) {
        for part in ["weight", "bias"] {
            if let Some(entry) = self.from.remove(&format!("{from}.{part}")) {
                self.to.insert(format!("{to}.{part}"), entry);
            }
        }
    }

    /// Stacks ranges of the `chunks` equal parts of several tensors, for weights and biases.
    fn stack(&mut self, to: &str, parts: &[(String, Range<usize>)], chunks: usize) {
        for kind in ["weight", "bias"] {
            let names: Vec<_> = parts
                .iter()
                .map(|(name, _)| format!("{name}.{kind}"))
                .collect();
            let absent: Vec<_> = names
                .iter()
                .filter(|name| !self.has(name))
                .cloned()
                .collect();
            if !absent.is_empty() {
                self.problems.extend(
                    absent
                        .iter()
                        .map(|name| format!("  {name}: expected for {to}.{kind}, not found")),
                );
                continue;
            }
            let stacked = names
                .iter()
                .zip(parts)
                .map(|(name, (_, range))| {
                    let entry = self.from.get(name)?;
                    let rows = *entry.shape.first()?;
                    let chunk = rows.is_multiple_of(chunks).then_some(rows / chunks)?;
                    entry.rows(range.start * chunk..range.end * chunk)
                })
                .collect::<Option<Vec<_>>>()
                .and_then(Entry::stacked);
            match stacked {
                Some(entry) => drop(self.to.insert(format!("{to}.{kind}"), entry)),
                None => {
                    let shapes: Vec<_> = names
                        .iter()
                        .map(|name| (name, &self.from[name].shape))
                        .collect();
                    self.problems
                        .push(format!("  {to}.{kind}: cannot be made of {shapes:?}"));
                }
            }
            for name in &names {
                self.from.remove(name);
            }
        }
    }
}

/// The release's name for a tensor of diffusers' AutoencoderKLCogVideoX. Its decoder counts levels from the other end.
fn vae_name(name: &str) -> String {
    const LEVELS: usize = 4;
    let mut out = String::new();
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        if !out.is_empty() {
            out.push('.');
        }
        let index = parts.peek().and_then(|next| next.parse::<usize>().ok());
        match (part, index) {
            ("up_blocks", Some(level)) if level < LEVELS => {
                parts.next();
                out.push_str(&format!("up.{}", LEVELS - 1 - level));
            }
            ("down_blocks", _) => out.push_str("down"),
            ("mid_block", _) => out.push_str("mid"),
            ("resnets", Some(block)) if out == "encoder.mid." || out == "decoder.mid." => {
                parts.next();
                out.push_str(&format!("block_{}", block + 1));
            }
            ("resnets", _) => out.push_str("block"),
            ("downsamplers", Some(0)) => {
                parts.next();
                out.push_str("downsample");
            }
            ("upsamplers", Some(0)) => {
                parts.next();
                out.push_str("upsample");
            }
            ("conv_shortcut", _) => out.push_str("nin_shortcut"),
            (other, _) => out.push_str(other),
        }
    }
    out
}

/// Hugging Face's name for a tensor of llama.cpp's T5 encoder; `None` for those of a decoder.
fn t5_name(name: &str) -> Option<String> {
    Some(match name {
        "token_embd.weight" => "shared.weight".to_owned(),
        "enc.output_norm.weight" => "encoder.final_layer_norm.weight".to_owned(),
        _ => {
            let Some((layer, rest)) = name
                .strip_prefix("enc.blk.")
                .and_then(|rest| rest.split_once('.'))
            else {
                return (!name.starts_with("dec.")).then(|| name.to_owned());
            };
            let rest = match rest.strip_suffix(".weight")? {
                "attn_q" => "layer.0.SelfAttention.q",
                "attn_k" => "layer.0.SelfAttention.k",
                "attn_v" => "layer.0.SelfAttention.v",
                "attn_o" => "layer.0.SelfAttention.o",
                "attn_rel_b" => "layer.0.SelfAttention.relative_attention_bias",
                "attn_norm" => "layer.0.layer_norm",
                "ffn_gate" => "layer.1.DenseReluDense.wi_0",
                "ffn_up" => "layer.1.DenseReluDense.wi_1",
                "ffn_down" => "layer.1.DenseReluDense.wo",
                "ffn_norm" => "layer.1.layer_norm",
                other => other,
            };
            format!("encoder.block.{layer}.{rest}.weight")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};
    use std::collections::HashMap;

    #[test]
    fn vae_names_of_diffusers() {
        for (theirs, ours) in [
            (
                "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
                "encoder.down.1.block.0.nin_shortcut.weight",
            ),
            (
                "encoder.down_blocks.0.downsamplers.0.conv.bias",
                "encoder.down.0.downsample.conv.bias",
            ),
            (
                "decoder.up_blocks.0.resnets.3.norm1.conv_y.conv.weight",
                "decoder.up.3.block.3.norm1.conv_y.conv.weight",
            ),
            (
                "decoder.up_blocks.2.upsamplers.0.conv.weight",
                "decoder.up.1.upsample.conv.weight",
            ),
            (
                "decoder.mid_block.resnets.1.conv2.conv.weight",
                "decoder.mid.block_2.conv2.conv.weight",
            ),
            (
                "encoder.conv_out.conv.weight",
                "encoder.conv_out.conv.weight",
            ),
        ] {
            assert_eq!(vae_name(theirs), ours);
        }
    }

    #[test]
    fn t5_names_of_llama_cpp() {
        let name = |name| t5_name(name).unwrap_or_default();
        assert_eq!(
            name("enc.blk.7.ffn_gate.weight"),
            "encoder.block.7.layer.1.DenseReluDense.wi_0.weight"
        );
        assert_eq!(name("dec.blk.0.attn_q.weight"), "");
    }

    fn filled(rows: usize, value: f32) -> Tensor {
        let values: Vec<f32> = (0..rows).map(|row| value + row as f32).collect();
        Tensor::from_vec(values, (rows, 1), &Device::Cpu).unwrap()
    }

    #[test]
    fn diffusers_modulation_is_interleaved() {
        let mut tensors = HashMap::new();
        for (name, rows, value) in [
            ("attn1.to_q", 1, 0.0),
            ("attn1.to_k", 1, 10.0),
            ("attn1.to_v", 1, 20.0),
            ("norm1.linear", 6, 100.0),
            ("norm2.linear", 6, 200.0),
        ] {
            let weight = filled(rows, value);
            tensors.insert(
                format!("transformer_blocks.0.{name}.bias"),
                weight.flatten_all().unwrap(),
            );
            tensors.insert(format!("transformer_blocks.0.{name}.weight"), weight);
        }
        let dit = Checkpoint::from_tensors(tensors.clone())
            .unwrap()
            .into_dit()
            .unwrap();
        let values = |name: &str| {
            let tensor = dit.tensor(name, &Device::Cpu, DType::F32).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(
            values("transformer.layers.0.attention.query_key_value.weight"),
            [0.0, 10.0, 20.0]
        );
        assert_eq!(
            values("mixins.adaln_layer.adaLN_modulations.0.1.bias"),
            [
                100.0, 101.0, 102.0, 200.0, 201.0, 202.0, 103.0, 104.0, 105.0, 203.0, 204.0, 205.0
            ]
        );
        tensors.remove("transformer_blocks.0.attn1.to_k.weight");
        tensors.remove("transformer_blocks.0.norm2.linear.bias");
        let problem = Checkpoint::from_tensors(tensors)
            .unwrap()
            .into_dit()
            .unwrap_err()
            .to_string();
        assert!(problem.contains("attn1.to_k.weight"), "{problem}");
        assert!(problem.contains("norm2.linear.bias"), "{problem}");
    }
}
