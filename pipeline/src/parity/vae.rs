// SPDX-License-Identifier: MPL-2.0
//! Golden runs of the VAE and of what prepares frames for it.

use candle_core::{DType, Device, Tensor};

use super::golden::{Check, FRAMES, Golden, NETWORK};
use crate::checkpoint::{Checkpoint, ModelFolder, Weights};
use crate::error::{Error, Result};
use crate::release::bilinear;
use crate::release::vae::activation::Activation;
use crate::release::vae::conv::{Cache, Pass};
use crate::release::vae::decoder::DecoderPoint;
use crate::release::vae::resblock::ResBlock;
use crate::release::vae::{Tiling, Vae, VaeConfig, sample_posterior, to_bytes_range};

/// The VAE that `golden` belongs to.
pub(super) fn load(golden: &Golden) -> Result<Vae> {
    let checkpoint =
        golden.checkpoint(&golden.config, ModelFolder::open_vae, |c| Ok(c.into_vae()))?;
    let weights = Weights::new(checkpoint, &Device::Cpu, DType::F32);
    let limit = golden.apart.as_ref().map(|(limit, _)| limit.clone());
    Vae::load_limited(&weights, VaeConfig::GROUPS, limit)
}

/// `count` column tiles, frugal where `golden` asks for it.
fn columns(golden: &Golden, count: usize) -> Tiling {
    Tiling {
        frugal: golden.apart.as_ref().is_some_and(|(_, frugal)| *frugal),
        ..Tiling::columns(count)
    }
}

/// The scale of Stage II, which golden encodings carry.
const SCALE: f64 = 1.152_584_26;

/// `{clip}_x` to `{clip}_moments`, `{clip}_moments_onechunk` and `{clip}_z_scaled`.
pub(super) fn encode(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let vae = load(golden)?;
    for name in golden.names() {
        let Some(clip) = name.strip_suffix("_x") else {
            continue;
        };
        let x = golden.tensor(name)?;
        let moments = vae.encode_tiled(&x, columns(golden, 1), check.progress)?;
        let of = |part: &str| format!("{clip}_{part}");
        check.tensor(golden, &of("moments"), &moments, NETWORK)?;
        if golden.has(&of("z_scaled")) {
            let z = sample_posterior(&moments, &golden.tensor(&of("noise"))?)?;
            let scale = golden.number_or("scale_factor", SCALE);
            check.tensor(golden, &of("z_scaled"), &(z * scale)?, NETWORK)?;
        }
        if golden.has(&of("moments_onechunk")) {
            let moments = vae.encode_at_once(&x, check.progress)?;
            check.tensor(golden, &of("moments_onechunk"), &moments, NETWORK)?;
        }
    }
    Ok(())
}

/// `{clip}_z` to `{clip}_raw` and `{clip}_frames255`.
pub(super) fn decode(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let vae = load(golden)?;
    for name in golden.names() {
        let Some(clip) = name.strip_suffix("_z") else {
            continue;
        };
        let z = golden.tensor(name)?;
        let mut frames = vae.decode_tiled(&z, columns(golden, 1), check.progress)?;
        let (raw, bytes) = (format!("{clip}_raw"), format!("{clip}_frames255"));
        let known = if golden.has(&raw) {
            golden.raw(&raw)?.dim(2)?
        } else {
            golden.raw(&bytes)?.dim(0)?
        };
        // The reference loses the last latent of an even number; what it has must agree.
        if golden.raw(name)?.dim(2)? % 2 == 0 && known < frames.dim(2)? {
            frames = frames.narrow(2, 0, known)?;
        }
        if golden.has(&raw) {
            check.tensor(golden, &raw, &frames, NETWORK)?;
        }
        if golden.has(&bytes) {
            check.tensor(golden, &bytes, &to_bytes_range(&frames)?, FRAMES)?;
        }
    }
    Ok(())
}

/// `{clip}_z` to `{clip}_frames255` in column tiles.
pub(super) fn decode_tiled(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let vae = load(golden)?;
    let tiles = golden.number_or("splits_w", 2.0) as usize;
    let overlap = golden.number_or("overlap_latents", 16.0) as usize;
    for name in golden.names() {
        let Some(clip) = name.strip_suffix("_z") else {
            continue;
        };
        let tiling = Tiling {
            overlap,
            ..columns(golden, tiles)
        };
        let frames = vae.decode_tiled(&golden.tensor(name)?, tiling, check.progress)?;
        check.tensor(
            golden,
            &format!("{clip}_frames255"),
            &to_bytes_range(&frames)?,
            FRAMES,
        )?;
    }
    Ok(())
}

/// Activations of the decoder for a latent of the file `vae_decode`.
pub(super) fn taps(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let clip = golden.name.rsplit('_').next().unwrap_or_default();
    let decode = Golden::open(&golden.folder.join("vae_decode.safetensors"))?;
    let latent = decode.tensor(&format!("{clip}_z"))?;
    let vae = load(golden)?;
    let mut seen = Vec::new();
    vae.decode_probed(&latent, check.progress, &mut |point, value| {
        let name = match point {
            DecoderPoint::ConvIn => "conv_in".to_owned(),
            DecoderPoint::Middle(block) => format!("mid{block}"),
            DecoderPoint::LastBlock(level) => format!("up{level}_lastblock"),
            DecoderPoint::Upsample(level) => format!("up{level}_upsample"),
        };
        seen.push((name, value.clone()));
        Ok(())
    })?;
    for wanted in golden.names() {
        let chunks: Vec<_> = seen
            .iter()
            .filter(|(name, _)| name == wanted)
            .map(|(_, value)| value)
            .collect();
        if chunks.is_empty() {
            return Err(Error::invalid(format!(
                "{}.safetensors: no place is named {wanted}",
                golden.name
            )));
        }
        let value = Tensor::cat(&chunks, 0)?.transpose(0, 1)?.unsqueeze(0)?;
        check.tensor(golden, wanted, &value, NETWORK)?;
    }
    Ok(())
}

/// Single residual blocks whose weights are in the file.
pub(super) fn blocks(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let groups = golden.number_or("groups", VaeConfig::GROUPS as f64) as usize;
    for kind in ["enc", "dec"] {
        let prefix = format!("w.{kind}.");
        let mut tensors = std::collections::HashMap::new();
        for name in golden.names() {
            if let Some(own) = name.strip_prefix(&prefix) {
                tensors.insert(own.to_owned(), golden.raw(name)?.clone());
            }
        }
        if tensors.is_empty() {
            continue;
        }
        let (x, y) = (golden.tensor(&format!("{kind}_x"))?, format!("{kind}_y"));
        let (inputs, outputs) = (x.dim(1)?, golden.raw(&y)?.dim(1)?);
        let latent = golden.has("dec_zq") && kind == "dec";
        let latent = latent.then(|| golden.tensor("dec_zq")).transpose()?;
        let weights = Weights::new(Checkpoint::from_tensors(tensors)?, &Device::Cpu, DType::F32);
        let channels = latent.as_ref().map(|z| z.dim(1)).transpose()?;
        let limit = golden.apart.as_ref().map(|(limit, _)| limit);
        let block = ResBlock::load(&weights, inputs, outputs, channels, groups, limit)?;
        let chunks = chunk_sizes(&golden.config[format!("{kind}_chunks")], x.dim(2)?);
        let got = run_block(&block, &x, latent.as_ref(), &chunks, golden, check)?;
        check.tensor(golden, &y, &got, NETWORK)?;
    }
    Ok(())
}

/// `[3, 2]` or `[[5, 3], [4, 2]]`: frames, or frames and latent frames, of each chunk.
fn chunk_sizes(value: &serde_json::Value, frames: usize) -> Vec<(usize, usize)> {
    let number = |v: &serde_json::Value| v.as_u64().map(|n| n as usize);
    let sizes: Option<Vec<_>> = value.as_array().and_then(|chunks| {
        let size = |chunk: &serde_json::Value| match number(chunk) {
            Some(frames) => Some((frames, 0)),
            None => Some((number(&chunk[0])?, number(&chunk[1])?)),
        };
        chunks.iter().map(size).collect()
    });
    sizes.unwrap_or_else(|| vec![(frames, 0)])
}

fn run_block(
    block: &ResBlock,
    x: &Tensor,
    latent: Option<&Tensor>,
    chunks: &[(usize, usize)],
    golden: &Golden,
    check: &Check<'_>,
) -> Result<Tensor> {
    let limit = golden.apart.as_ref().map(|(limit, _)| limit);
    let by_frame = |clip: &Tensor, first, count| -> Result<Activation> {
        let frames = clip.squeeze(0)?.narrow(1, first, count)?.transpose(0, 1)?;
        Activation::of(&frames, &Device::Cpu, DType::F32, limit)
    };
    let mut cache = Cache::new(columns(golden, 1).frugal);
    let (mut frame, mut latent_frame) = (0, 0);
    let mut parts = Vec::with_capacity(chunks.len());
    for (index, &(frames, latents)) in chunks.iter().enumerate() {
        let latent = latent
            .map(|z| by_frame(z, latent_frame, latents))
            .transpose()?;
        let mut pass = Pass {
            cache: &mut cache,
            more: index + 1 < chunks.len(),
            split: frames % 2 == 1,
            progress: check.progress,
        };
        let x = by_frame(x, frame, frames)?;
        let y = block.forward(x, latent.as_ref(), &mut pass)?;
        parts.push(y.into_tensor()?);
        frame += frames;
        latent_frame += latents;
    }
    Ok(Tensor::cat(&parts, 0)?.transpose(0, 1)?.unsqueeze(0)?)
}

/// `{clip}_up`, `{clip}_down`, …: the clip resized to the height and width of that tensor.
pub(super) fn preprocess(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let names = golden.names();
    for name in &names {
        let Some((clip, _)) = name.rsplit_once('_') else {
            continue;
        };
        if !names.contains(&clip) {
            continue;
        }
        let dims = golden.raw(name)?.dims().to_vec();
        let &[_, _, height, width] = dims.as_slice() else {
            continue;
        };
        let got = bilinear::prepare(&golden.tensor(clip)?, height, width)?;
        check.tensor(golden, name, &got.squeeze(0)?.transpose(0, 1)?, NETWORK)?;
    }
    if let (Some([h, w]), Some([rounded_h, rounded_w])) =
        (pair(golden, "requested"), pair(golden, "rounded"))
    {
        let round = |size: f64| (size as usize / 16 * 16) as f64;
        check.numbers(
            "rounded",
            &[round(h), round(w)],
            &[rounded_h, rounded_w],
            NETWORK,
        );
    }
    Ok(())
}

fn pair(golden: &Golden, key: &str) -> Option<[f64; 2]> {
    Some([
        golden.config[key][0].as_f64()?,
        golden.config[key][1].as_f64()?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::operands::OperandLimit;
    use crate::progress::Progress;
    use std::path::Path;

    type Kind = fn(&Golden, &mut Check<'_>) -> Result<()>;

    /// Runs the golden file `name` with operands of fewer than `elements` elements.
    fn limited(name: &str, run: Kind, elements: usize, frugal: bool) -> OperandLimit {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let mut golden = Golden::open(&folder.join(format!("{name}.safetensors"))).unwrap();
        let limit = OperandLimit::new(elements);
        golden.apart = Some((limit.clone(), frugal));
        let progress = Progress::none();
        let mut check = Check::new(&progress);
        run(&golden, &mut check).unwrap();
        let failed: Vec<_> = check.failures.iter().map(|failed| &failed.tensor).collect();
        assert!(failed.is_empty(), "{name}, {elements} elements: {failed:?}");
        assert!(check.compared > 0 && limit.operations() > 0);
        assert!(limit.largest() < elements, "{name}: {}", limit.largest());
        limit
    }

    /// What a GPU does, on the CPU and with limits that are to these clips what 2^31 is to 1080p: bands of one row and
    /// of a few.
    #[test]
    fn frames_apart_give_the_golden_numbers_below_any_limit() {
        // Windows of 27 * 32 values for 40 columns; tiles have 272, and the blocks 96 channels and 4 columns.
        let row = 27 * 32 * 40;
        for (elements, frugal) in [(row + 1, true), (3 * row, false)] {
            limited("vae_encode", encode, elements, frugal);
            limited("vae_decode", decode, elements, frugal);
            limited("vae_blocks", blocks, 27 * 96 * 4 + 1, frugal);
        }
        limited("vae_taps_dec3", taps, row + 1, false);
        limited("vae_save_mem_decode", decode_tiled, 27 * 32 * 272 + 1, true);
    }

    /// The arithmetic about the released sizes is about what is really done.
    #[test]
    fn the_arithmetic_knows_the_largest_operand() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let golden = Golden::open(&folder.join("vae_encode.safetensors")).unwrap();
        let config = load(&golden).unwrap().config().clone();
        for elements in [100_000, 1 << 30] {
            let limit = OperandLimit::new(elements);
            let most = |list: Vec<(String, usize)>| list.into_iter().map(|(_, most)| most).max();
            let encoded = config.encoder_operands(17, (24, 40), &limit).unwrap();
            let seen = limited("vae_encode", encode, elements, false);
            assert_eq!(most(encoded), Some(seen.largest()), "{elements} elements");
            let decoded = config.decoder_operands(3, (3, 5), &limit).unwrap();
            let seen = limited("vae_decode", decode, elements, false);
            assert_eq!(most(decoded), Some(seen.largest()), "{elements} elements");
        }
    }
}
