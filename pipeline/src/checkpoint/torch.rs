// SPDX-License-Identifier: MPL-2.0
//! Files written by `torch.save`: a zip archive with a pickle and one stored entry for each storage, or, before
//! torch 1.6, pickles followed by the storages.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use zip::{CompressionMethod, ZipArchive};

use super::entry::Entry;
use super::pickle::{self, Id, MAX_PICKLE, Object, Objects};
use super::source::Source;
use super::tensor::{Extent, TensorType};
use crate::error::Result;

/// The number 0x1950a86a20f9469cfc6c as torch's first format starts with it, and its protocol number.
const LEGACY_MAGIC: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Keys under which trainers put the weights (DeepSpeed, Lightning).
const WRAPPERS: [&str; 2] = ["module", "state_dict"];

/// Whether `bytes` begin like a file of `torch.save`.
pub(super) fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(LEGACY_MAGIC)
}

/// All tensors of the state dict in `source`.
pub(super) fn entries(source: &Arc<Source>) -> Result<Vec<(String, Entry)>> {
    if source.bytes().starts_with(LEGACY_MAGIC) {
        legacy(source)
    } else {
        archive(source)
    }
}

fn archive(source: &Arc<Source>) -> Result<Vec<(String, Entry)>> {
    let damaged = |e: zip::result::ZipError| {
        source.error(format!("not a whole torch file ({e}); fetch it again"))
    };
    let mut zip = ZipArchive::new(Cursor::new(source.bytes())).map_err(damaged)?;
    let mut parts: HashMap<String, Range<usize>> = HashMap::new();
    let mut root = None;
    for index in 0..zip.len() {
        let file = zip.by_index_raw(index).map_err(damaged)?;
        let name = file.name().map_err(damaged)?.into_owned();
        if file.compression() != CompressionMethod::Stored || file.encrypted() {
            return Err(source.error(format!(
                "the part \"{name}\" is packed; save the file again with torch.save"
            )));
        }
        let range = file.data_start().and_then(|start| {
            let start = usize::try_from(start).ok()?;
            let end = start.checked_add(usize::try_from(file.size()).ok()?)?;
            (end <= source.bytes().len()).then_some(start..end)
        });
        let range = range.ok_or_else(|| {
            source.error(format!(
                "the part \"{name}\" ends behind the file; fetch it again"
            ))
        })?;
        if let Some(folder) = name.strip_suffix("data.pkl") {
            root = Some(folder.to_owned());
        }
        parts.insert(name, range);
    }
    let Some(folder) = root else {
        return Err(source.error("a zip archive without a data.pkl: no file of torch.save"));
    };
    if let Some(order) = parts.get(&format!("{folder}byteorder"))
        && source.bytes()[order.clone()].trim_ascii() != b"little"
    {
        return Err(
            source.error("written on a big-endian machine; save it again on a little-endian one")
        );
    }
    let pickle = &source.bytes()[parts[&format!("{folder}data.pkl")].clone()];
    if pickle.len() > MAX_PICKLE {
        return Err(source.error(format!(
            "a pickle of {} bytes; at most {MAX_PICKLE} are read",
            pickle.len()
        )));
    }
    let (objects, root, _) =
        pickle::read(pickle).map_err(|e| source.error(format!("data.pkl, {e}")))?;
    let storage = |key: &str| parts.get(&format!("{folder}data/{key}")).cloned();
    collect(source, &objects, root, storage)
}

fn legacy(source: &Arc<Source>) -> Result<Vec<(String, Entry)>> {
    let bytes = source.bytes();
    let mut at = 0;
    let mut next = |what: &str| {
        let (objects, root, length) =
            pickle::read(&bytes[at..]).map_err(|e| source.error(format!("{what}, {e}")))?;
        at += length;
        Ok::<_, crate::Error>((objects, root))
    };
    for what in ["magic number", "protocol", "system"] {
        next(what)?;
    }
    let (objects, root) = next("state dict")?;
    let (keys, list) = next("storage keys")?;
    let Object::List(list) = keys.get(list) else {
        return Err(source.error("no list of storages"));
    };
    // Each storage: number of elements, then the elements. Their size is known from the tensors alone.
    let sizes = storage_sizes(source, &objects)?;
    let mut parts = HashMap::new();
    for &key in list {
        let Object::Text(key) = keys.get(key) else {
            return Err(source.error("a storage key that is no text"));
        };
        let Some(&size) = sizes.get(key.as_str()) else {
            return Err(source.error(format!(
                "the storage \"{key}\" belongs to no tensor of the state dict"
            )));
        };
        let range = (|| {
            let start = at.checked_add(8)?;
            let count = u64::from_le_bytes(bytes.get(at..start)?.try_into().ok()?);
            let end = start.checked_add(usize::try_from(count).ok()?.checked_mul(size)?)?;
            (end <= bytes.len()).then_some(start..end)
        })();
        let range = range.ok_or_else(|| {
            source.error(format!(
                "the storage \"{key}\" ends behind the file; fetch it again"
            ))
        })?;
        at = range.end;
        parts.insert(key.clone(), range);
    }
    collect(source, &objects, root, |key| parts.get(key).cloned())
}

fn storage_sizes<'a>(source: &Source, objects: &'a Objects) -> Result<HashMap<&'a str, usize>> {
    let sizes = objects.tensors().map(|tensor| {
        let stored = storage_type(source, &tensor.storage.class)?;
        Ok((tensor.storage.key.as_str(), stored.block().1))
    });
    sizes.collect()
}

/// The tensors of the dictionary at `root`, or of the one that a trainer put inside of it.
fn collect(
    source: &Arc<Source>,
    objects: &Objects,
    root: Id,
    storage: impl Fn(&str) -> Option<Range<usize>>,
) -> Result<Vec<(String, Entry)>> {
    let inner = |id| {
        objects
            .entries(id)
            .ok_or_else(|| source.error("holds no dictionary of tensors"))
    };
    let mut dict = root;
    for wrapper in WRAPPERS {
        if let Some((_, id)) =
            inner(root)?.find(|(key, id)| *key == wrapper && objects.entries(*id).is_some())
        {
            dict = id;
            break;
        }
    }
    let mut out = Vec::new();
    for (name, id) in inner(dict)? {
        let Object::Tensor(tensor) = objects.get(id) else {
            continue;
        };
        let problem = |problem: String| source.error(format!("tensor \"{name}\": {problem}"));
        let stored = storage_type(source, &tensor.storage.class)?;
        let held = storage(&tensor.storage.key).ok_or_else(|| {
            problem(format!(
                "its storage \"{}\" is not in the file",
                tensor.storage.key
            ))
        })?;
        let needed = tensor.storage.elements.checked_mul(stored.block().1);
        if needed.is_none_or(|needed| needed > held.len()) {
            return Err(problem(format!(
                "its storage should hold {} elements of {stored} and has {} bytes; fetch the file again",
                tensor.storage.elements,
                held.len()
            )));
        }
        let extent = Extent::strided(stored, &tensor.shape, &tensor.strides, tensor.offset, held)
            .map_err(problem)?;
        out.push((
            name.to_owned(),
            Entry::file(source, stored, tensor.shape.clone(), extent),
        ));
    }
    if out.is_empty() {
        return Err(source.error("holds no tensors"));
    }
    Ok(out)
}

fn storage_type(source: &Source, class: &str) -> Result<TensorType> {
    Ok(match class {
        "DoubleStorage" => TensorType::F64,
        "FloatStorage" => TensorType::F32,
        "HalfStorage" => TensorType::F16,
        "BFloat16Storage" => TensorType::BF16,
        "LongStorage" => TensorType::I64,
        "IntStorage" => TensorType::I32,
        "ShortStorage" => TensorType::I16,
        "CharStorage" => TensorType::I8,
        "ByteStorage" => TensorType::U8,
        "BoolStorage" => TensorType::Bool,
        other => return Err(source.error(format!("tensors of {other} are not supported"))),
    })
}
