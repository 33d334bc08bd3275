// SPDX-License-Identifier: MPL-2.0
//! From the names of a file to the release's layers.

use crate::checkpoint::naming::{BLOCK, MODULATION, OUTER, QKV, modulation};

/// Beginnings that names may have: of PEFT's models, of the release and of our own files.
const PREFIXES: [&str; 4] = [
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "dit.",
];
/// What diffusers' pipelines put before the names of a transformer; the release's own names begin like this, too.
const PIPELINE: &str = "transformer.";
/// What is said of other names.
pub(super) const EXPECTED: &str = "is no part of an adapter: names end with lora_A.weight and lora_B.weight as PEFT has \
                                   them, or with matrix_A.0 and matrix_B.0 as the release has them; DoRA, biases and \
                                   whole layers are not supported";

/// Which part of an adapter a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// `[rank, inputs]`
    A,
    /// `[outputs, rank]`
    B,
    /// A number.
    Alpha,
}

/// What an adapter of the file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The layer as the file names it, without prefixes.
    pub layer: String,
    /// Number of the pair among those of its layer, where these are numbered as in the release.
    pub pair: usize,
    /// Whether they are.
    pub counted: bool,
}

/// A part of a layer of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Name of the layer.
    pub layer: String,
    /// Which of its equal parts.
    pub index: usize,
    /// Equal parts that it has.
    pub count: usize,
    /// Which of how many equal parts of B's rows.
    pub rows: (usize, usize),
}

/// The place of the tensor `name`, and which part it is.
pub(super) fn parse(name: &str) -> Option<(Place, Part)> {
    let name = stripped(name);
    let (layer, end) = [
        "matrix_A",
        "matrix_B",
        "lora_A",
        "lora_B",
        "lora_down",
        "lora_up",
        "lora",
        "alpha",
    ]
    .into_iter()
    .find_map(|end| {
        let (layer, rest) = name.rsplit_once(&format!(".{end}"))?;
        (rest.is_empty() || rest.starts_with('.')).then_some((layer, &name[layer.len() + 1..]))
    })?;
    let words: Vec<&str> = end.split('.').collect();
    let (part, pair) = match words[..] {
        ["matrix_A", pair] => (Part::A, Some(pair.parse().ok()?)),
        ["matrix_B", pair] => (Part::B, Some(pair.parse().ok()?)),
        // A model that was not saved by PEFT names the adapter, too.
        ["lora_A", "weight"] | ["lora_A", _, "weight"] => (Part::A, None),
        ["lora_B", "weight"] | ["lora_B", _, "weight"] => (Part::B, None),
        ["lora_down", "weight"] | ["lora", "down", "weight"] => (Part::A, None),
        ["lora_up", "weight"] | ["lora", "up", "weight"] => (Part::B, None),
        ["alpha"] => (Part::Alpha, None),
        _ => return None,
    };
    let layer = layer.strip_suffix(".original").unwrap_or(layer);
    let place = Place {
        layer: layer.to_owned(),
        pair: pair.unwrap_or(0),
        counted: pair.is_some(),
    };
    Some((place, part))
}

/// `name` without prefixes.
fn stripped(mut name: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    match name.strip_prefix(PIPELINE) {
        Some(rest) if is_of_diffusers(rest) => rest,
        _ => name,
    }
}

/// Whether `name` is that of a tensor in a transformer of diffusers.
fn is_of_diffusers(name: &str) -> bool {
    let outer = OUTER.iter().any(|(_, theirs)| name.starts_with(theirs));
    outer || name.starts_with("transformer_blocks.")
}

impl Place {
    /// The parts of the release's layers that the adapter is for. What no layer of the release has keeps its name, so that
    /// it is reported as superfluous.
    pub fn pieces(&self) -> Vec<Piece> {
        let piece = |layer: String, index, count, rows| Piece {
            layer,
            index,
            count,
            rows,
        };
        let whole = |layer: String| vec![piece(layer, self.pair, 1, (0, 1))];
        if let Some((ours, _)) = OUTER.iter().find(|(_, theirs)| *theirs == self.layer) {
            return whole((*ours).to_owned());
        }
        let block = self.layer.strip_prefix("transformer_blocks.");
        let Some((number, name)) = block.and_then(|rest| rest.split_once('.')) else {
            return whole(self.layer.clone());
        };
        let ours = |name: &str| format!("transformer.layers.{number}.{name}");
        if let Some((to, _)) = BLOCK.iter().find(|(_, from)| *from == name) {
            return whole(ours(to));
        }
        if let Some(index) = QKV.1.iter().position(|part| *part == name) {
            return vec![piece(ours(QKV.0), index, 3, (0, 1))];
        }
        let parts = MODULATION.iter().enumerate();
        let parts = parts.filter(|(_, (part, _))| *part == name);
        let parts: Vec<Piece> = parts
            .map(|(index, (_, sixths))| {
                let half = (sixths.start / 3, 2);
                piece(modulation(number), index, MODULATION.len(), half)
            })
            .collect();
        match parts.is_empty() {
            true => whole(self.layer.clone()),
            false => parts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let of = |name: &str| parse(name).map(|(place, part)| (place.layer, place.pair, part));
        let qkv = "transformer.layers.3.attention.query_key_value";
        let to_q = "transformer_blocks.3.attn1.to_q";
        for (name, layer, pair, part) in [
            (format!("{qkv}.matrix_A.2"), qkv, 2, Part::A),
            (
                format!("model.diffusion_model.{qkv}.matrix_B.0"),
                qkv,
                0,
                Part::B,
            ),
            (format!("dit.{qkv}.matrix_B.1"), qkv, 1, Part::B),
            (
                format!("base_model.model.{qkv}.lora_A.weight"),
                qkv,
                0,
                Part::A,
            ),
            (
                format!("base_model.model.model.diffusion_model.{qkv}.original.lora_B.weight"),
                qkv,
                0,
                Part::B,
            ),
            (
                format!("base_model.model.{to_q}.lora_A.default.weight"),
                to_q,
                0,
                Part::A,
            ),
            (
                format!("transformer.{to_q}.lora_B.weight"),
                to_q,
                0,
                Part::B,
            ),
            (
                format!("transformer.{to_q}.lora.down.weight"),
                to_q,
                0,
                Part::A,
            ),
            (format!("{to_q}.lora_up.weight"), to_q, 0, Part::B),
            (format!("transformer.{to_q}.alpha"), to_q, 0, Part::Alpha),
            (
                "transformer.proj_out.lora_A.weight".to_owned(),
                "proj_out",
                0,
                Part::A,
            ),
        ] {
            assert_eq!(of(&name), Some((layer.to_owned(), pair, part)), "{name}");
        }
        for name in [
            "weight",
            "transformer.layers.0.attention.dense.weight",
            "transformer.layers.0.attention.dense.lora_magnitude_vector",
            "transformer.layers.0.attention.dense.lora_A.bias",
            "transformer.layers.0.attention.dense.matrix_A.x",
            "base_model.model.proj_out.modules_to_save.weight",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn layers_of_diffusers_are_parts_of_the_releases() {
        let pieces = |layer: &str| -> Vec<(String, usize, usize, (usize, usize))> {
            let place = Place {
                layer: layer.to_owned(),
                pair: 0,
                counted: false,
            };
            let pieces = place.pieces().into_iter();
            pieces
                .map(|p| (p.layer, p.index, p.count, p.rows))
                .collect()
        };
        let qkv = "transformer.layers.7.attention.query_key_value".to_owned();
        assert_eq!(
            pieces("transformer_blocks.7.attn1.to_k"),
            [(qkv, 1, 3, (0, 1))]
        );
        let dense = "transformer.layers.7.attention.dense".to_owned();
        assert_eq!(
            pieces("transformer_blocks.7.attn1.to_out.0"),
            [(dense, 0, 1, (0, 1))]
        );
        let adaln = "mixins.adaln_layer.adaLN_modulations.7.1".to_owned();
        assert_eq!(
            pieces("transformer_blocks.7.norm2.linear"),
            [(adaln.clone(), 1, 4, (0, 2)), (adaln, 3, 4, (1, 2))]
        );
        let last = "mixins.final_layer.linear".to_owned();
        assert_eq!(pieces("proj_out"), [(last, 0, 1, (0, 1))]);
        let other = "transformer_blocks.7.attn2.to_q".to_owned();
        assert_eq!(pieces(&other), [(other.clone(), 0, 1, (0, 1))]);
    }
}
