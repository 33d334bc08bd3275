// SPDX-License-Identifier: MPL-2.0
//! How tensors lie in files, and the way from their bytes to a tensor of the type that is wanted.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::source::Source;
use crate::error::Result;

/// Bytes converted between two releases of mapped pages.
const STRETCH: usize = 8 << 20;
/// More elements than this are not a tensor of any model.
const MAX_ELEMENTS: usize = 1 << 40;
const MAX_DIMS: usize = 8;

/// Number type of a tensor in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TensorType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    /// Blocks of a GGUF type.
    Quantized(GgmlDType),
}

impl TensorType {
    /// Elements of one block and its bytes; a block of a plain type is one element.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F64 | Self::I64 => (1, 8),
            Self::F32 | Self::I32 => (1, 4),
            Self::F16 | Self::BF16 | Self::I16 => (1, 2),
            Self::I8 | Self::U8 | Self::Bool => (1, 1),
            Self::Quantized(kind) => (kind.block_size(), kind.type_size()),
        }
    }

    /// Whether the values are floating point numbers, in blocks or not.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::Quantized(_)
        )
    }

    /// The type of a tensor in memory, if there is one.
    pub(super) fn of(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F64 => Self::F64,
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            DType::I64 => Self::I64,
            DType::I32 => Self::I32,
            DType::I16 => Self::I16,
            DType::U8 => Self::U8,
            _ => return None,
        })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
            Self::Quantized(GgmlDType::Q8_0) => "q8_0",
            Self::Quantized(GgmlDType::Q4K) => "q4_k",
            Self::Quantized(GgmlDType::Q5K) => "q5_k",
            Self::Quantized(GgmlDType::Q6K) => "q6_k",
            Self::Quantized(kind) => return write!(f, "{}", format!("{kind:?}").to_lowercase()),
        })
    }
}

/// Number of elements of `shape`, or what is wrong with it.
pub(super) fn elements(shape: &[usize]) -> std::result::Result<usize, String> {
    if shape.len() > MAX_DIMS {
        return Err(format!(
            "{} dimensions, at most {MAX_DIMS} are possible",
            shape.len()
        ));
    }
    let bound = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))
        .filter(|&n| n <= MAX_ELEMENTS);
    match bound {
        Some(_) => Ok(shape.iter().product()),
        None => Err(format!("the shape {shape:?} is absurdly large")),
    }
}

/// Where a tensor lies in a file. Made only by [`Extent::contiguous`] and [`Extent::strided`], which check it against the file.
#[derive(Clone, Debug)]
pub(super) struct Extent {
    start: usize,
    length: usize,
    /// In elements; `None` when the elements lie in row-major order.
    strides: Option<Vec<usize>>,
}

impl Extent {
    /// `shape` elements in row-major order from byte `start` of a file of `available` bytes.
    pub(super) fn contiguous(
        stored: TensorType,
        shape: &[usize],
        start: usize,
        available: usize,
    ) -> std::result::Result<Self, String> {
        let count = elements(shape)?;
        let (per_block, block_bytes) = stored.block();
        let last = shape.last().copied().unwrap_or(1);
        if !last.is_multiple_of(per_block) {
            return Err(format!(
                "rows of {last} elements are not whole blocks of {stored} ({per_block})"
            ));
        }
        let length = (count / per_block)
            .checked_mul(block_bytes)
            .filter(|length| start.checked_add(*length).is_some_and(|end| end <= available))
            .ok_or_else(|| {
                format!("needs {count} elements of {stored} from byte {start}, the file ends at byte {available}")
            })?;
        Ok(Self {
            start,
            length,
            strides: None,
        })
    }

    /// A view of a storage: `offset` and `strides` in elements of the `storage` bytes.
    pub(super) fn strided(
        stored: TensorType,
        shape: &[usize],
        strides: &[usize],
        offset: usize,
        storage: Range<usize>,
    ) -> std::result::Result<Self, String> {
        let (_, size) = stored.block();
        let held = storage.len() / size;
        let count = elements(shape)?;
        if strides.len() != shape.len() {
            return Err(format!(
                "{} strides for {} dimensions",
                strides.len(),
                shape.len()
            ));
        }
        // An expanded tensor could ask for more memory than its file has bytes.
        if count > held {
            return Err(format!("{count} elements from a storage of {held}"));
        }
        let start = |offset: usize| {
            offset
                .checked_mul(size)
                .and_then(|bytes| storage.start.checked_add(bytes))
        };
        let outside = || {
            format!(
                "offset {offset}, shape {shape:?}, strides {strides:?} leave the storage of {held}"
            )
        };
        if count == 0 {
            return Ok(Self {
                start: storage.start,
                length: 0,
                strides: None,
            });
        }
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(offset, |at, (&d, &s)| {
                (d - 1).checked_mul(s).and_then(|step| at.checked_add(step))
            })
            .filter(|&last| last < held)
            .ok_or_else(outside)?;
        let mut expected = 1;
        let mut row_major = true;
        for (&d, &s) in shape.iter().zip(strides).rev() {
            row_major &= d == 1 || s == expected;
            expected *= d;
        }
        Ok(Self {
            start: start(offset).ok_or_else(outside)?,
            length: (last - offset + 1) * size,
            strides: (!row_major).then(|| strides.to_vec()),
        })
    }

    /// Bytes that the tensor spans in its file.
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.length
    }

    /// The rows `rows` of the outermost dimension.
    pub(super) fn rows(&self, stored: TensorType, shape: &[usize], rows: Range<usize>) -> Self {
        let (per_block, block_bytes) = stored.block();
        let (stride, inner) = match (&self.strides, shape.split_first()) {
            (Some(strides), Some(_)) => (strides.first().copied().unwrap_or(0), None),
            (None, Some((_, inner))) => {
                let inner = inner.iter().product::<usize>();
                (inner, Some(inner))
            }
            (_, None) => return self.clone(),
        };
        let skipped = rows.start * stride / per_block * block_bytes;
        Self {
            start: self.start + skipped,
            length: match inner {
                Some(inner) => rows.len() * inner / per_block * block_bytes,
                None => self.length.saturating_sub(skipped),
            },
            strides: self.strides.clone(),
        }
    }
}

/// The tensor at `extent` as `dtype` on `device`. Peak memory is the tensor itself, plus its dequantised form for blocks.
pub(super) fn read(
    source: &Source,
    extent: &Extent,
    stored: TensorType,
    shape: &[usize],
    device: &Device,
    dtype: DType,
) -> Result<Tensor> {
    if let TensorType::Quantized(_) = stored {
        let blocks = read_blocks(source, extent, stored, shape, &Device::Cpu)?;
        return Ok(blocks
            .dequantize(&Device::Cpu)?
            .to_dtype(dtype)?
            .to_device(device)?);
    }
    let reader = Reader {
        source,
        extent,
        size: stored.block().1,
        shape,
    };
    match dtype {
        DType::F32 => make(reader.floats(stored, |v| v, |v| v as f32), shape, device),
        DType::BF16 if stored == TensorType::BF16 => {
            make(reader.all(|b| bf16::from_bits(le16(b))), shape, device)
        }
        DType::BF16 => make(
            reader.floats(stored, bf16::from_f32, bf16::from_f64),
            shape,
            device,
        ),
        DType::F16 if stored == TensorType::F16 => {
            make(reader.all(|b| f16::from_bits(le16(b))), shape, device)
        }
        DType::F16 => make(
            reader.floats(stored, f16::from_f32, f16::from_f64),
            shape,
            device,
        ),
        DType::F64 => make(reader.floats(stored, f64::from, |v| v), shape, device),
        _ if stored.is_float() => {
            Err(source.error(format!("a tensor of {stored} cannot be read as {dtype:?}")))
        }
        _ => Ok(make(reader.integers(stored), shape, device)?.to_dtype(dtype)?),
    }
}

/// The blocks at `extent` as they are.
pub(super) fn read_blocks(
    source: &Source,
    extent: &Extent,
    stored: TensorType,
    shape: &[usize],
    device: &Device,
) -> Result<Arc<QTensor>> {
    let TensorType::Quantized(kind) = stored else {
        return Err(source.error(format!("a tensor of {stored} has no quantised blocks")));
    };
    let range = extent.range();
    let bytes = source
        .bytes()
        .get(range.clone())
        .ok_or_else(|| source.error("a tensor lies behind the end of the file"))?;
    // candle reads blocks through typed pointers; files may place them at any byte.
    let storage = if bytes.as_ptr().addr().is_multiple_of(8) {
        QStorage::from_data(bytes.into(), device, kind)?
    } else {
        let mut aligned = vec![0u64; bytes.len().div_ceil(8)];
        for (word, bytes) in aligned.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(eight);
        }
        // SAFETY: the words are initialised, live until the end of the call and hold at least `bytes.len()` bytes.
        let aligned =
            unsafe { std::slice::from_raw_parts(aligned.as_ptr().cast::<u8>(), bytes.len()) };
        QStorage::from_data(aligned.into(), device, kind)?
    };
    source.release(range);
    Ok(Arc::new(QTensor::new(storage, shape)?))
}

fn make<T: candle_core::WithDType>(
    values: Vec<T>,
    shape: &[usize],
    device: &Device,
) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, device)?)
}

fn le16(bytes: &[u8]) -> u16 {
    u16::from_le_bytes(fixed(bytes))
}

/// The first `N` bytes; the callers cut their slices to that length.
fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[..N]);
    out
}

struct Reader<'a> {
    source: &'a Source,
    extent: &'a Extent,
    size: usize,
    shape: &'a [usize],
}

impl Reader<'_> {
    /// All elements in row-major order, each made from its bytes by `each`.
    fn all<T>(&self, each: impl Fn(&[u8]) -> T) -> Vec<T> {
        let range = self.extent.range();
        let bytes = &self.source.bytes()[range.clone()];
        let count = self.shape.iter().product();
        let mut out = Vec::with_capacity(count);
        let Some(strides) = &self.extent.strides else {
            for (index, stretch) in bytes.chunks(STRETCH).enumerate() {
                out.extend(stretch.chunks_exact(self.size).map(&each));
                let start = range.start + index * STRETCH;
                self.source.release(start..start + stretch.len());
            }
            return out;
        };
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..count {
            let at = index.iter().zip(strides).map(|(i, s)| i * s).sum::<usize>() * self.size;
            out.push(each(&bytes[at..at + self.size]));
            for (i, &d) in index.iter_mut().zip(self.shape).rev() {
                *i += 1;
                if *i < d {
                    break;
                }
                *i = 0;
            }
        }
        self.source.release(range);
        out
    }

    /// All elements as floating point numbers; integers are converted.
    fn floats<T>(
        &self,
        stored: TensorType,
        narrow: impl Fn(f32) -> T,
        wide: impl Fn(f64) -> T,
    ) -> Vec<T> {
        match stored {
            TensorType::F32 => self.all(|b| narrow(f32::from_le_bytes(fixed(b)))),
            TensorType::BF16 => self.all(|b| narrow(bf16::from_bits(le16(b)).to_f32())),
            TensorType::F16 => self.all(|b| narrow(f16::from_bits(le16(b)).to_f32())),
            TensorType::F64 => self.all(|b| wide(f64::from_le_bytes(fixed(b)))),
            _ => self
                .integers(stored)
                .into_iter()
                .map(|v| wide(v as f64))
                .collect(),
        }
    }

    fn integers(&self, stored: TensorType) -> Vec<i64> {
        match stored {
            TensorType::I64 => self.all(|b| i64::from_le_bytes(fixed(b))),
            TensorType::I32 => self.all(|b| i32::from_le_bytes(fixed(b)).into()),
            TensorType::I16 => self.all(|b| i16::from_le_bytes(fixed(b)).into()),
            TensorType::I8 => self.all(|b| i8::from_le_bytes(fixed(b)).into()),
            _ => self.all(|b| fixed::<1>(b)[0].into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(values: &[f32]) -> Source {
        Source::from_bytes(
            "test",
            values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        )
    }

    #[test]
    fn strided_views_are_gathered() {
        let source = source(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        // The transpose of rows [1 2 3], [4 5 6].
        let extent = Extent::strided(TensorType::F32, &[3, 2], &[1, 3], 1, 0..28).unwrap();
        let tensor = read(
            &source,
            &extent,
            TensorType::F32,
            &[3, 2],
            &Device::Cpu,
            DType::F32,
        )
        .unwrap();
        assert_eq!(
            tensor.to_vec2::<f32>().unwrap(),
            [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]
        );
        let rows = extent.rows(TensorType::F32, &[3, 2], 1..3);
        let tensor = read(
            &source,
            &rows,
            TensorType::F32,
            &[2, 2],
            &Device::Cpu,
            DType::BF16,
        )
        .unwrap();
        let tensor = tensor.to_dtype(DType::F32).unwrap();
        assert_eq!(tensor.to_vec2::<f32>().unwrap(), [[2.0, 5.0], [3.0, 6.0]]);
    }

    #[test]
    fn absurd_places_are_refused() {
        let f32s = TensorType::F32;
        assert!(Extent::contiguous(f32s, &[8], 0, 31).is_err());
        assert!(Extent::contiguous(f32s, &[1], usize::MAX, 31).is_err());
        assert!(Extent::contiguous(f32s, &[usize::MAX, 2], 0, 31).is_err());
        assert!(Extent::contiguous(f32s, &[0, usize::MAX, usize::MAX], 0, 31).is_err());
        assert!(Extent::strided(f32s, &[1 << 30], &[0], 0, 0..4).is_err());
        assert!(Extent::strided(f32s, &[2], &[usize::MAX], 0, 0..32).is_err());
        assert!(Extent::strided(f32s, &[2], &[1], usize::MAX, 0..32).is_err());
        assert!(Extent::strided(f32s, &[2, 2], &[1], 0, 0..32).is_err());
        assert!(
            Extent::contiguous(TensorType::Quantized(GgmlDType::Q8_0), &[2, 48], 0, 1 << 20)
                .is_err()
        );
    }

    #[test]
    fn every_stored_type_becomes_f32() {
        let cases: [(TensorType, Vec<u8>); 8] = [
            (TensorType::F64, (-2.0f64).to_le_bytes().to_vec()),
            (TensorType::F32, (-2.0f32).to_le_bytes().to_vec()),
            (TensorType::F16, f16::from_f32(-2.0).to_le_bytes().to_vec()),
            (
                TensorType::BF16,
                bf16::from_f32(-2.0).to_le_bytes().to_vec(),
            ),
            (TensorType::I64, (-2i64).to_le_bytes().to_vec()),
            (TensorType::I32, (-2i32).to_le_bytes().to_vec()),
            (TensorType::I16, (-2i16).to_le_bytes().to_vec()),
            (TensorType::I8, vec![254]),
        ];
        for (stored, bytes) in cases {
            let extent = Extent::contiguous(stored, &[1], 0, bytes.len()).unwrap();
            let source = Source::from_bytes("test", bytes);
            for dtype in [DType::F32, DType::BF16, DType::F16, DType::F64] {
                let tensor = read(&source, &extent, stored, &[1], &Device::Cpu, dtype).unwrap();
                assert_eq!(tensor.dtype(), dtype);
                let tensor = tensor.to_dtype(DType::F32).unwrap();
                assert_eq!(
                    tensor.to_vec1::<f32>().unwrap(),
                    [-2.0],
                    "{stored} as {dtype:?}"
                );
            }
        }
    }
}
