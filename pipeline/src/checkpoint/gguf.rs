// SPDX-License-Identifier: MPL-2.0
//! GGUF files: the header of versions 2 and 3, and a writer that needs one tensor in memory at a time.

use std::io::{self, Write};
use std::sync::Arc;

use candle_core::quantized::GgmlDType;

use super::entry::Entry;
use super::source::Source;
use super::tensor::{Extent, TensorType};
use crate::error::Result;

const MAGIC: &[u8] = b"GGUF";
const ALIGNMENT: usize = 32;
/// Dimensions of a tensor that GGUF can hold.
pub const MAX_DIMS: usize = 4;
/// More of either is not a model but an attack.
const MAX_COUNT: u64 = 1 << 20;
const MAX_DEPTH: usize = 4;

/// Whether `bytes` begin like a GGUF file.
pub(super) fn is_gguf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// All tensors in `source`.
pub(super) fn entries(source: &Arc<Source>) -> Result<Vec<(String, Entry)>> {
    let mut header = Header {
        source,
        bytes: source.bytes(),
        at: MAGIC.len(),
    };
    header.entries().map_err(|e| {
        source.error(format!(
            "byte {} of the GGUF header: {e}; fetch the file again",
            header.at
        ))
    })
}

struct Header<'a> {
    source: &'a Arc<Source>,
    bytes: &'a [u8],
    at: usize,
}

type Step<T> = std::result::Result<T, String>;

impl Header<'_> {
    fn entries(&mut self) -> Step<Vec<(String, Entry)>> {
        let version = self.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("version {version}, 2 and 3 are supported"));
        }
        let tensors = self.u64()?;
        let settings = self.u64()?;
        if tensors > MAX_COUNT || settings > MAX_COUNT {
            return Err(format!(
                "{tensors} tensors and {settings} settings are absurd"
            ));
        }
        let mut alignment = ALIGNMENT;
        for _ in 0..settings {
            let key = self.text()?;
            let kind = self.u32()?;
            if key == "general.alignment" && kind == 4 {
                alignment = self.u32()? as usize;
                if !alignment.is_power_of_two() || alignment > 1 << 20 {
                    return Err(format!("an alignment of {alignment}"));
                }
            } else {
                self.skip(kind, 0)?;
            }
        }
        let mut places = Vec::new();
        for _ in 0..tensors {
            let name = self.text()?;
            let dims = self.u32()? as usize;
            if dims > MAX_DIMS {
                return Err(format!(
                    "tensor \"{name}\" has {dims} dimensions, at most {MAX_DIMS} are possible"
                ));
            }
            let mut shape = (0..dims)
                .map(|_| {
                    self.u64()
                        .and_then(|d| usize::try_from(d).map_err(|e| e.to_string()))
                })
                .collect::<Step<Vec<_>>>()?;
            shape.reverse();
            let kind = self.u32()?;
            let stored = stored(kind)
                .ok_or_else(|| format!("tensor \"{name}\" has the unknown type {kind}"))?;
            let offset = usize::try_from(self.u64()?).map_err(|e| e.to_string())?;
            places.push((name, stored, shape, offset));
        }
        let data = self.at.next_multiple_of(alignment);
        places
            .into_iter()
            .map(|(name, stored, shape, offset)| {
                let start = data
                    .checked_add(offset)
                    .ok_or("an offset behind the end of the file")?;
                let extent = Extent::contiguous(stored, &shape, start, self.bytes.len())
                    .map_err(|e| format!("tensor \"{name}\" {e}"))?;
                Ok((name, Entry::file(self.source, stored, shape, extent)))
            })
            .collect()
    }

    fn take(&mut self, length: usize) -> Step<&[u8]> {
        let end = self
            .at
            .checked_add(length)
            .filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("cut off, {length} more bytes expected"))?;
        let bytes = &self.bytes[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn u32(&mut self) -> Step<u32> {
        let mut out = [0; 4];
        out.copy_from_slice(self.take(4)?);
        Ok(u32::from_le_bytes(out))
    }

    fn u64(&mut self) -> Step<u64> {
        let mut out = [0; 8];
        out.copy_from_slice(self.take(8)?);
        Ok(u64::from_le_bytes(out))
    }

    fn text(&mut self) -> Step<String> {
        let length = usize::try_from(self.u64()?).map_err(|e| e.to_string())?;
        let bytes = self.take(length)?.to_vec();
        String::from_utf8(bytes).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    /// Passes over a value; the settings of a file are not needed to read its tensors.
    fn skip(&mut self, kind: u32, depth: usize) -> Step<()> {
        let bytes = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            8 => usize::try_from(self.u64()?).map_err(|e| e.to_string())?,
            9 => {
                if depth >= MAX_DEPTH {
                    return Err("lists nested too deeply".to_owned());
                }
                let kind = self.u32()?;
                let count = self.u64()?;
                for _ in 0..count {
                    self.skip(kind, depth + 1)?;
                }
                0
            }
            other => return Err(format!("a setting of the unknown type {other}")),
        };
        self.take(bytes).map(drop)
    }
}

/// Numbers of the types in the file format.
const TYPES: [(u32, TensorType); 19] = [
    (0, TensorType::F32),
    (1, TensorType::F16),
    (2, TensorType::Quantized(GgmlDType::Q4_0)),
    (3, TensorType::Quantized(GgmlDType::Q4_1)),
    (6, TensorType::Quantized(GgmlDType::Q5_0)),
    (7, TensorType::Quantized(GgmlDType::Q5_1)),
    (8, TensorType::Quantized(GgmlDType::Q8_0)),
    (10, TensorType::Quantized(GgmlDType::Q2K)),
    (11, TensorType::Quantized(GgmlDType::Q3K)),
    (12, TensorType::Quantized(GgmlDType::Q4K)),
    (13, TensorType::Quantized(GgmlDType::Q5K)),
    (14, TensorType::Quantized(GgmlDType::Q6K)),
    (24, TensorType::I8),
    (25, TensorType::I16),
    (26, TensorType::I32),
    (27, TensorType::I64),
    (28, TensorType::F64),
    (30, TensorType::BF16),
    (15, TensorType::Quantized(GgmlDType::Q8K)),
];

fn stored(number: u32) -> Option<TensorType> {
    TYPES
        .iter()
        .find(|(n, _)| *n == number)
        .map(|&(_, stored)| stored)
}

/// Name, type and shape of a tensor that is going to be written.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Name in the file.
    pub name: String,
    /// Type in the file.
    pub stored: TensorType,
    /// Row-major shape.
    pub shape: Vec<usize>,
}

impl Planned {
    /// Bytes of the tensor in the file.
    pub fn bytes(&self) -> usize {
        let (per_block, block_bytes) = self.stored.block();
        self.shape.iter().product::<usize>() / per_block * block_bytes
    }
}

/// Writes a GGUF file: the header first, then the tensors one by one in the order of the plan.
pub struct Writer<W> {
    out: W,
    left: std::vec::IntoIter<Planned>,
}

impl<W: Write> Writer<W> {
    /// Writes the header with the `settings` (text only) and what is going to follow.
    ///
    /// # Errors
    /// Those of `out`, and `InvalidInput` for a type or shape that GGUF cannot hold.
    pub fn new(mut out: W, settings: &[(&str, &str)], plan: Vec<Planned>) -> io::Result<Self> {
        let mut header = MAGIC.to_vec();
        header.extend(3u32.to_le_bytes());
        header.extend((plan.len() as u64).to_le_bytes());
        header.extend((settings.len() as u64).to_le_bytes());
        let text = |header: &mut Vec<u8>, text: &str| {
            header.extend((text.len() as u64).to_le_bytes());
            header.extend(text.as_bytes());
        };
        for (key, value) in settings {
            text(&mut header, key);
            header.extend(8u32.to_le_bytes());
            text(&mut header, value);
        }
        let mut offset = 0;
        for tensor in &plan {
            let number = TYPES
                .iter()
                .find(|(_, stored)| *stored == tensor.stored)
                .map(|&(n, _)| n);
            let (Some(number), true) = (number, tensor.shape.len() <= MAX_DIMS) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!(
                        "GGUF cannot hold \"{}\" of {} {:?}",
                        tensor.name, tensor.stored, tensor.shape
                    ),
                ));
            };
            text(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            for &d in tensor.shape.iter().rev() {
                header.extend((d as u64).to_le_bytes());
            }
            header.extend(number.to_le_bytes());
            header.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes().next_multiple_of(ALIGNMENT);
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        out.write_all(&header)?;
        Ok(Self {
            out,
            left: plan.into_iter(),
        })
    }

    /// Writes the next tensor of the plan.
    ///
    /// # Errors
    /// Those of the output, and `InvalidInput` when `data` has not the planned length.
    pub fn tensor(&mut self, data: &[u8]) -> io::Result<()> {
        let planned = self.left.next();
        if planned.is_none_or(|planned| planned.bytes() != data.len()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a tensor that was not planned",
            ));
        }
        self.out.write_all(data)?;
        let padding = data.len().next_multiple_of(ALIGNMENT) - data.len();
        self.out.write_all(&[0; ALIGNMENT][..padding])
    }

    /// Flushes and returns the output.
    ///
    /// # Errors
    /// Those of the output, and `InvalidInput` when planned tensors were not written.
    pub fn finish(mut self) -> io::Result<W> {
        if let Some(planned) = self.left.next() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("\"{}\" was planned and not written", planned.name),
            ));
        }
        self.out.flush()?;
        Ok(self.out)
    }
}
