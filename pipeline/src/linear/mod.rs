// SPDX-License-Identifier: MPL-2.0
//! Linear layers: one type for f32, bf16, f16 and GGUF weights, with or without adapters.

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{CpuStorage, DType, Device, Module, Storage, Tensor};
use half::bf16;

use crate::cpu::elementwise::converted;
use crate::cpu::gemm::{Element, Finish, Number, Packed, Rows};
use crate::cpu::level::CpuLevel;
use crate::cpu::q8::PackedQ8;
use crate::cpu::tensors::with_f32;
use crate::error::{Error, Result};
use crate::progress::CancelToken;

/// Rows from which on it pays to convert and pack weights that are used once.
const ROWS_TO_PACK: usize = 64;
/// The same for quantised weights, whose own product reads fewer bytes.
const ROWS_TO_DEQUANTIZE: usize = 256;
/// Outputs that are converted at a time.
const PACKED_OUTPUTS: usize = 512;

/// `y = x W^T + b`, plus low-rank adapters that are kept apart.
///
/// Weights lie as `[outputs, inputs]`, or packed for the CPU's kernels ([`packed`](Self::packed)). Activations may
/// have any number of leading dimensions and another floating point type than the weights: plain weights are then converted
/// for each call, Q8_0 weights meet rows that are quantised as they come, other quantised ones are multiplied block by
/// block in f32.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    loras: Vec<Lora>,
}

#[derive(Clone, Debug)]
enum Weight {
    Plain(Tensor),
    Packed(Products),
    Quantized(QMatMul, Arc<QTensor>),
}

/// A weight in the order of the CPU's kernels.
#[derive(Clone, Debug)]
pub enum Products {
    /// f32 products.
    F32(Arc<Packed<f32>>),
    /// bf16 dot products with f32 sums.
    Bf16(Arc<Packed<bf16>>),
    /// int8 dot products of blocks, with f32 sums.
    Q8(Arc<PackedQ8>),
}

/// A packed weight for products with rows of `T`.
#[derive(Clone, Debug)]
pub enum Factor<T> {
    /// Of the same number type.
    Same(Arc<Packed<T>>),
    /// Of int8 blocks, for which rows of any type are quantised.
    Q8(Arc<PackedQ8>),
}

impl<T: Operand> Factor<T> {
    /// Features that go in.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Same(packed) => packed.inputs(),
            Self::Q8(packed) => packed.inputs(),
        }
    }

    /// Features that come out.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Same(packed) => packed.outputs(),
            Self::Q8(packed) => packed.outputs(),
        }
    }

    /// `out` = `finish`(`x` W^T + `bias`), rows of `out` being [`outputs`](Self::outputs) long.
    ///
    /// # Errors
    /// [`Error::Invalid`] when sizes do not fit together, [`Error::Cancelled`].
    pub fn multiply<O: Number>(
        &self,
        x: Rows<'_, T>,
        bias: Option<&[f32]>,
        finish: Finish<'_>,
        out: &mut [O],
        cancel: &CancelToken,
    ) -> Result<()> {
        match self {
            Self::Same(packed) => packed.multiply(x, bias, finish, out, cancel),
            Self::Q8(packed) => packed.multiply(x, bias, finish, out, cancel),
        }
    }
}

/// Number type of packed weights and of the activations that meet them.
pub trait Operand: Element + Number {
    /// The type's name among candle's.
    const DTYPE: DType;

    /// The weight if it is of this type.
    fn of(products: &Products) -> Option<&Arc<Packed<Self>>>;

    /// The values of a contiguous tensor on the CPU.
    #[doc(hidden)]
    fn values(storage: &CpuStorage) -> Option<&[Self]>;
}

impl Operand for f32 {
    const DTYPE: DType = DType::F32;

    fn of(products: &Products) -> Option<&Arc<Packed<Self>>> {
        match products {
            Products::F32(packed) => Some(packed),
            Products::Bf16(_) | Products::Q8(_) => None,
        }
    }

    fn values(storage: &CpuStorage) -> Option<&[Self]> {
        storage.as_slice().ok()
    }
}

impl Operand for bf16 {
    const DTYPE: DType = DType::BF16;

    fn of(products: &Products) -> Option<&Arc<Packed<Self>>> {
        match products {
            Products::Bf16(packed) => Some(packed),
            Products::F32(_) | Products::Q8(_) => None,
        }
    }

    fn values(storage: &CpuStorage) -> Option<&[Self]> {
        storage.as_slice().ok()
    }
}

impl Products {
    fn sizes(&self) -> [usize; 2] {
        match self {
            Self::F32(packed) => [packed.outputs(), packed.inputs()],
            Self::Bf16(packed) => [packed.outputs(), packed.inputs()],
            Self::Q8(packed) => [packed.outputs(), packed.inputs()],
        }
    }

    /// `x` `[rows, inputs]` times the weight, as f32.
    fn forward(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        fn with<T: Operand>(factor: Factor<T>, x: &[T], bias: Option<&[f32]>) -> Result<Vec<f32>> {
            let count = x.len() / factor.inputs().max(1);
            let mut y = vec![0f32; count * factor.outputs()];
            let x = Rows::new(x, count, factor.inputs());
            factor.multiply(x, bias, Finish::Store, &mut y, &CancelToken::new())?;
            Ok(y)
        }
        let product = |bias: Option<&[f32]>| {
            with_f32(x, |x| match self {
                Self::F32(packed) => with(Factor::Same(packed.clone()), x, bias),
                Self::Bf16(packed) => {
                    let rounded = converted(packed.level(), x);
                    with(Factor::Same(packed.clone()), &rounded, bias)
                }
                Self::Q8(packed) => with(Factor::Q8(packed.clone()), x, bias),
            })
        };
        let y = match bias {
            Some(bias) => with_f32(bias, |bias| product(Some(bias)))?,
            None => product(None)?,
        };
        let [outputs, _] = self.sizes();
        Ok(Tensor::from_vec(y, (x.dim(0)?, outputs), &Device::Cpu)?)
    }
}

/// Packs `weight` `[outputs, inputs]` on the CPU, converting some of its rows at a time.
fn pack<T: Operand>(level: CpuLevel, weight: &Tensor) -> Result<Packed<T>> {
    let (outputs, inputs) = weight.dims2()?;
    let mut packed = Packed::<T>::zeroed(level, outputs, inputs);
    for first in (0..outputs).step_by(PACKED_OUTPUTS) {
        let count = PACKED_OUTPUTS.min(outputs - first);
        let rows = weight.narrow(0, first, count)?;
        let rows = rows.to_dtype(T::DTYPE)?.contiguous()?;
        let (storage, layout) = rows.storage_and_layout();
        let values = match &*storage {
            Storage::Cpu(storage) => T::values(storage).zip(layout.contiguous_offsets()),
            _ => None,
        };
        let values = values.and_then(|(values, (start, end))| values.get(start..end));
        packed.set_outputs(
            first,
            values.ok_or_else(|| Error::invalid("a weight to pack is not on the CPU"))?,
        );
    }
    Ok(packed)
}

/// `weight` for int8 dot products, if it is Q8_0, on the CPU, and there are kernels.
fn pack_q8(weight: &QTensor) -> Result<Option<PackedQ8>> {
    let level = CpuLevel::selected()?;
    match *weight.shape().dims() {
        [outputs, inputs]
            if weight.dtype() == GgmlDType::Q8_0
                && weight.device().is_cpu()
                && level >= CpuLevel::Avx2 =>
        {
            PackedQ8::new(level, &weight.data()?, outputs, inputs).map(Some)
        }
        _ => Ok(None),
    }
}

impl Linear {
    /// A layer of a weight `[outputs, inputs]` and a bias `[outputs]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            weight: Weight::Plain(weight),
            bias,
            loras: Vec::new(),
        }
    }

    /// A layer of a quantised weight `[outputs, inputs]`. A Q8_0 weight on a CPU with AVX2 is packed at once, for its
    /// kernels take few rows as well as many; `weight` is then given up.
    ///
    /// # Errors
    /// A wrong [`CPU_VARIABLE`](crate::cpu::level::CPU_VARIABLE), or a failed tensor operation.
    pub fn quantized(weight: Arc<QTensor>, bias: Option<Tensor>) -> Result<Self> {
        let weight = match pack_q8(&weight)? {
            Some(packed) => Weight::Packed(Products::Q8(packed.into())),
            None => Weight::Quantized(QMatMul::from_arc(weight.clone())?, weight),
        };
        Ok(Self {
            weight,
            bias,
            loras: Vec::new(),
        })
    }

    /// The same layer with adapters beside it.
    #[must_use]
    pub fn with_loras(mut self, loras: Vec<Lora>) -> Self {
        self.loras = loras;
        self
    }

    /// Number of features that come out.
    pub fn outputs(&self) -> usize {
        self.dims()[0]
    }

    /// Number of features that go in.
    pub fn inputs(&self) -> usize {
        self.dims()[1]
    }

    /// Outputs and inputs.
    fn dims(&self) -> [usize; 2] {
        let two = |dims: &[usize]| match dims {
            [outputs, inputs] => [*outputs, *inputs],
            _ => [0; 2],
        };
        match &self.weight {
            Weight::Plain(weight) => two(weight.dims()),
            Weight::Packed(products) => products.sizes(),
            Weight::Quantized(_, weight) => two(weight.shape().dims()),
        }
    }

    /// The weight `[outputs, inputs]` when it is neither quantised nor packed.
    pub fn weight(&self) -> Option<&Tensor> {
        match &self.weight {
            Weight::Plain(weight) => Some(weight),
            Weight::Packed(_) | Weight::Quantized(..) => None,
        }
    }

    /// The same layer with its weight in the order of the CPU's kernels, where there are kernels for it: f32 from
    /// AVX2 on, bf16 where there are bf16 dot products. The plain weight is given up. For layers that meet many rows.
    ///
    /// # Errors
    /// A wrong [`CPU_VARIABLE`](crate::cpu::level::CPU_VARIABLE), or a failed tensor operation.
    pub fn packed(mut self) -> Result<Self> {
        if let Weight::Plain(weight) = &self.weight
            && weight.device().is_cpu()
        {
            let level = CpuLevel::selected()?;
            let pairs = weight.dim(1)?.is_multiple_of(2);
            let products = match weight.dtype() {
                DType::F32 if level >= CpuLevel::Avx2 => {
                    Some(Products::F32(pack(level, weight)?.into()))
                }
                DType::BF16 if level == CpuLevel::Bf16 && pairs => {
                    Some(Products::Bf16(pack(level, weight)?.into()))
                }
                _ => None,
            };
            if let Some(products) = products {
                self.weight = Weight::Packed(products);
            }
        }
        Ok(self)
    }

    /// Whether bf16 rows suit the weight: it is packed for dot products of bf16 or of int8.
    pub fn takes_bf16(&self) -> bool {
        matches!(
            self.weight,
            Weight::Packed(Products::Bf16(_) | Products::Q8(_))
        )
    }

    /// The weight for products of `rows` rows of `T`: the packed one, or one that is converted and packed for this use
    /// alone. There is none for few rows, for layers with adapters beside them, and where there are no kernels.
    ///
    /// # Errors
    /// As [`packed`](Self::packed).
    pub fn for_products<T: Operand>(&self, rows: usize) -> Result<Option<Factor<T>>> {
        if !self.loras.is_empty() {
            return Ok(None);
        }
        let widens = T::DTYPE == DType::F32 && CpuLevel::selected()? >= CpuLevel::Avx2;
        Ok(match &self.weight {
            Weight::Packed(Products::Q8(packed)) => Some(Factor::Q8(packed.clone())),
            Weight::Packed(products) => T::of(products).cloned().map(Factor::Same),
            Weight::Plain(weight) if widens && rows >= ROWS_TO_PACK && weight.device().is_cpu() => {
                Some(Factor::Same(pack(CpuLevel::selected()?, weight)?.into()))
            }
            Weight::Quantized(_, weight) if widens && rows >= ROWS_TO_DEQUANTIZE => {
                let weight = weight.dequantize(&Device::Cpu)?;
                Some(Factor::Same(pack(CpuLevel::selected()?, &weight)?.into()))
            }
            _ => None,
        })
    }

    /// The bias in f32; empty if there is none.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn bias_values(&self) -> Result<Vec<f32>> {
        match &self.bias {
            Some(bias) => with_f32(bias, |bias| Ok(bias.to_vec())),
            None => Ok(Vec::new()),
        }
    }

    /// The bias `[outputs]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The adapters that are kept apart.
    pub fn loras(&self) -> &[Lora] {
        &self.loras
    }

    /// Maps `x` `[.., inputs]` to `[.., outputs]` in the type of `x`.
    ///
    /// # Errors
    /// A failed tensor operation, such as for a wrong number of features.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Some((&inputs, leading)) = x.dims().split_last() else {
            return Err(Error::invalid("a linear layer of a single number"));
        };
        let rows = leading.iter().product::<usize>();
        let flat = x.reshape((rows, inputs))?;
        let mut bias = self.bias.as_ref();
        let mut y = match &self.weight {
            Weight::Plain(weight) => matmul(&flat, weight)?,
            Weight::Packed(products) => {
                if inputs != self.inputs() {
                    return Err(Error::invalid(format!(
                        "a linear layer of {} features was given {inputs}",
                        self.inputs()
                    )));
                }
                products.forward(&flat, bias.take())?.to_dtype(x.dtype())?
            }
            Weight::Quantized(weight, _) => {
                let y = weight.forward(&flat.to_dtype(DType::F32)?.contiguous()?)?;
                y.to_dtype(x.dtype())?
            }
        };
        if let Some(bias) = bias {
            y = y.broadcast_add(&bias.to_dtype(x.dtype())?)?;
        }
        for lora in &self.loras {
            y = (y + lora.forward(&flat)?)?;
        }
        let mut shape = leading.to_vec();
        shape.push(y.dim(1)?);
        Ok(y.reshape(shape)?)
    }
}

/// `x [rows, inputs] * weight^T`.
fn matmul(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.to_dtype(x.dtype())?.t()?)?)
}

/// Low-rank adapters of one linear layer: pairs of A `[rank, inputs]` and B `[outputs / n, rank]`, whose products lie one
/// below the other (three pairs for the rows of query, key and value). Pairs may have ranks of their own.
#[derive(Clone, Debug)]
pub struct Lora {
    pairs: Vec<(Tensor, Tensor, f64)>,
}

impl Lora {
    /// Adapters whose products are multiplied by `scale` (alpha / rank; 1/128 in the release).
    pub fn new(pairs: Vec<(Tensor, Tensor)>, scale: f64) -> Self {
        let pairs = pairs.into_iter().map(|(a, b)| (a, b, scale));
        Self::scaled(pairs.collect())
    }

    /// Adapters whose products are multiplied by numbers of their own.
    pub fn scaled(pairs: Vec<(Tensor, Tensor, f64)>) -> Self {
        Self { pairs }
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// `weight + [scale_0 * B_0 A_0; scale_1 * B_1 A_1; ..]`, computed in f32 and returned in the type of `weight`.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn merge(&self, weight: &Tensor) -> Result<Tensor> {
        let products = self
            .pairs
            .iter()
            .map(|(a, b, scale)| {
                let product = b.to_dtype(DType::F32)?.matmul(&a.to_dtype(DType::F32)?)?;
                Ok((product * *scale)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let change = Tensor::cat(&products, 0)?;
        Ok((weight.to_dtype(DType::F32)? + change)?.to_dtype(weight.dtype())?)
    }

    /// What the adapters add for `x` `[rows, inputs]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self
            .pairs
            .iter()
            .map(|(a, b, scale)| matmul(&(matmul(x, a)? * *scale)?, b))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 1)?)
    }
}

#[cfg(test)]
mod tests;
