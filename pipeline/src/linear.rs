//! Linear layers: one type for f32, bf16, f16 and GGUF weights, with or without adapters.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{DType, Module, Tensor};

use crate::error::{Error, Result};

/// `y = x W^T + b`, plus low-rank adapters that are kept apart.
///
/// Weights lie as `[outputs, inputs]`. Activations may have any number of leading dimensions and another floating point
/// type than the weights: plain weights are then converted for each call, quantised ones are multiplied block by block
/// in f32.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    loras: Vec<Lora>,
}

#[derive(Clone, Debug)]
enum Weight {
    Plain(Tensor),
    Quantized(QMatMul, Arc<QTensor>),
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

    /// A layer of a quantised weight `[outputs, inputs]`.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn quantized(weight: Arc<QTensor>, bias: Option<Tensor>) -> Result<Self> {
        Ok(Self {
            weight: Weight::Quantized(QMatMul::from_arc(weight.clone())?, weight),
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
        self.dims().first().copied().unwrap_or(0)
    }

    /// Number of features that go in.
    pub fn inputs(&self) -> usize {
        self.dims().get(1).copied().unwrap_or(0)
    }

    fn dims(&self) -> &[usize] {
        match &self.weight {
            Weight::Plain(weight) => weight.dims(),
            Weight::Quantized(_, weight) => weight.shape().dims(),
        }
    }

    /// The weight `[outputs, inputs]` when it is not quantised.
    pub fn weight(&self) -> Option<&Tensor> {
        match &self.weight {
            Weight::Plain(weight) => Some(weight),
            Weight::Quantized(..) => None,
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
        let mut y = match &self.weight {
            Weight::Plain(weight) => matmul(&flat, weight)?,
            Weight::Quantized(weight, _) => {
                let y = weight.forward(&flat.to_dtype(DType::F32)?.contiguous()?)?;
                y.to_dtype(x.dtype())?
            }
        };
        if let Some(bias) = &self.bias {
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
/// below the other (three pairs for the rows of query, key and value).
#[derive(Clone, Debug)]
pub struct Lora {
    pairs: Vec<(Tensor, Tensor)>,
    scale: f64,
}

impl Lora {
    /// Adapters whose products are multiplied by `scale` (alpha / rank; 1/128 in the release).
    pub fn new(pairs: Vec<(Tensor, Tensor)>, scale: f64) -> Self {
        Self { pairs, scale }
    }

    /// Number of pairs.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// `weight + scale * [B_0 A_0; B_1 A_1; ..]`, computed in f32 and returned in the type of `weight`.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn merge(&self, weight: &Tensor) -> Result<Tensor> {
        let products = self
            .pairs
            .iter()
            .map(|(a, b)| Ok(b.to_dtype(DType::F32)?.matmul(&a.to_dtype(DType::F32)?)?))
            .collect::<Result<Vec<_>>>()?;
        let change = (Tensor::cat(&products, 0)? * self.scale)?;
        Ok((weight.to_dtype(DType::F32)? + change)?.to_dtype(weight.dtype())?)
    }

    /// What the adapters add for `x` `[rows, inputs]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let parts = self
            .pairs
            .iter()
            .map(|(a, b)| matmul(&(matmul(x, a)? * self.scale)?, b))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 1)?)
    }
}
