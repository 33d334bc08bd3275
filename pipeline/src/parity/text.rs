// SPDX-License-Identifier: MPL-2.0
//! Golden runs of the tokenizer and the text encoder.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::golden::{Check, Golden, NETWORK, TABLE};
use crate::checkpoint::{ModelFolder, Weights, find_weights};
use crate::error::{Error, Result};
use crate::release::text::{T5Encoder, Tokenizer};

/// The model folder at `path` with the text encoder of its subfolder `name`: the golden values of a text encoder have
/// the name that its weights would have beside those of the stages.
pub(super) fn folder(path: &Path, name: &str) -> Result<ModelFolder> {
    let text = path.join(name);
    let tokenizer = text.join("spiece.model");
    Ok(ModelFolder {
        text_encoder: find_weights(&text).ok(),
        tokenizer: tokenizer.is_file().then_some(tokenizer),
        ..ModelFolder::open(path)?
    })
}

/// `{prompt}_ids`, `{prompt}_ids_max{n}` and `{prompt}_hidden` for prompts, `{batch}_hidden` and `{batch}_block1_out` for
/// ids that are given.
pub(super) fn encoder(golden: &Golden, check: &mut Check<'_>) -> Result<()> {
    let folder = folder(
        &golden.folder,
        golden.config["dir"].as_str().unwrap_or("t5"),
    )?;
    let tokenizer = Tokenizer::open(folder.tokenizer()?)?;
    let weights = Weights::new(folder.open_text_encoder()?, &Device::Cpu, DType::F32);
    let encoder = T5Encoder::load(&weights)?;
    for name in golden.names() {
        let Some((clip, kind)) = name.split_once('_') else {
            continue;
        };
        let prompt = golden.prompt(clip);
        if let (Some(prompt), true) = (&prompt, kind.starts_with("ids")) {
            let length = golden.raw(name)?.elem_count();
            let ids = tokenizer.encode_padded(prompt, length)?;
            let ids: Vec<f64> = ids.into_iter().map(f64::from).collect();
            check.numbers(name, &ids, &golden.values(name)?, TABLE);
        }
        if kind != "hidden" {
            continue;
        }
        let known = golden.raw(&format!("{clip}_ids"))?;
        // Prompts go the whole way from their text.
        let ids = match prompt {
            Some(prompt) => Tensor::new(
                tokenizer.encode_padded(&prompt, known.elem_count())?,
                &Device::Cpu,
            )?,
            None => known.to_dtype(DType::U32)?,
        };
        let batched = known.rank() == 2;
        let ids = if batched { ids } else { ids.unsqueeze(0)? };
        let first = format!("{clip}_block1_out");
        let mut block = None;
        let hidden = encoder.forward_each(&ids, check.progress, |index, x| {
            if index == 0 {
                block = Some(x.clone());
            }
            Ok(())
        })?;
        check.tensor(
            golden,
            name,
            &if batched { hidden } else { hidden.squeeze(0)? },
            NETWORK,
        )?;
        if golden.has(&first) {
            let block = block.ok_or_else(|| Error::invalid("a text encoder without blocks"))?;
            check.tensor(golden, &first, &block, NETWORK)?;
        }
    }
    Ok(())
}
