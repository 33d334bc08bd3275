// SPDX-License-Identifier: MPL-2.0
//! Safetensors files.

use std::collections::HashMap;
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors};

use super::entry::Entry;
use super::source::Source;
use super::tensor::{Extent, TensorType};
use crate::error::Result;

/// Whether `bytes` begin like a safetensors file: the length of a header, and the header's brace.
pub(super) fn is_safetensors(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    rest.first() == Some(&b'{') && u64::from_le_bytes(*length) <= rest.len() as u64
}

/// What stands in the header beside the tensors.
pub(super) type Notes = HashMap<String, String>;

/// All tensors in `source`, and the notes of its header.
pub(super) fn entries(source: &Arc<Source>) -> Result<(Vec<(String, Entry)>, Notes)> {
    let bytes = source.bytes();
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| {
        source.error(format!(
            "not a whole safetensors file ({e}); fetch it again"
        ))
    })?;
    let data = header + 8;
    let entries = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| {
            let problem = |problem: String| source.error(format!("tensor \"{name}\": {problem}"));
            let stored = stored(info.dtype)
                .ok_or_else(|| problem(format!("{:?} is not supported", info.dtype)))?;
            let start = data
                .checked_add(info.data_offsets.0)
                .ok_or_else(|| problem("lies behind the end of the file".to_owned()))?;
            let extent =
                Extent::contiguous(stored, &info.shape, start, bytes.len()).map_err(problem)?;
            Ok((
                name.clone(),
                Entry::file(source, stored, info.shape.clone(), extent),
            ))
        })
        .collect::<Result<_>>()?;
    Ok((entries, metadata.metadata().clone().unwrap_or_default()))
}

fn stored(dtype: Dtype) -> Option<TensorType> {
    Some(match dtype {
        Dtype::F64 => TensorType::F64,
        Dtype::F32 => TensorType::F32,
        Dtype::F16 => TensorType::F16,
        Dtype::BF16 => TensorType::BF16,
        Dtype::I64 => TensorType::I64,
        Dtype::I32 => TensorType::I32,
        Dtype::I16 => TensorType::I16,
        Dtype::I8 => TensorType::I8,
        Dtype::U8 => TensorType::U8,
        Dtype::BOOL => TensorType::Bool,
        _ => return None,
    })
}
