// SPDX-License-Identifier: MPL-2.0
//! Products with Q8_0 weights, beside candle's, which is in this process.

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Module, Tensor};
use candle_nn::Linear;
use flashvideo::cpu::gemm::{Finish, Rows};
use flashvideo::cpu::q8::PackedQ8;
use flashvideo::{CancelToken, Result};

use crate::case::{Case, Part, Subject, part, subject};
use crate::data::{level, probe, values};

const ROWS: usize = 2048;

/// Sizes of the layers of a block.
pub fn gemm() -> Case {
    let parts = [(1920, 7680), (1920, 5760), (7680, 1920)].map(|(inputs, outputs)| {
        let numbers = Numbers { inputs, outputs };
        let [rival, reference] = ["candle", "dequantised"].map(str::to_owned);
        let inside = vec![
            (rival.clone(), subject(move || candle(numbers))),
            (reference.clone(), subject(move || exact(numbers))),
        ];
        Part {
            inside,
            ..part(move || Ours::new(numbers), &[rival], Some(reference), 9)
        }
    });
    Case {
        name: "gemm_q8_vs_candle",
        parts: parts.into(),
    }
}

/// What all sides compute with.
#[derive(Clone, Copy)]
struct Numbers {
    inputs: usize,
    outputs: usize,
}

impl Numbers {
    fn rows(self) -> Vec<f32> {
        values(1, ROWS * self.inputs, 1.0)
    }

    fn tensor(self) -> Result<Tensor> {
        let shape = (ROWS, self.inputs);
        Ok(Tensor::from_vec(self.rows(), shape, &Device::Cpu)?)
    }

    fn weight(self) -> Result<QTensor> {
        let Self { inputs, outputs } = self;
        let weight = values(2, outputs * inputs, (inputs as f32).powf(-0.5));
        let weight = Tensor::from_vec(weight, (outputs, inputs), &Device::Cpu)?;
        Ok(QTensor::quantize(&weight, GgmlDType::Q8_0)?)
    }
}

struct Ours {
    x: Vec<f32>,
    weight: PackedQ8,
    out: Vec<f32>,
}

impl Ours {
    fn new(numbers: Numbers) -> Result<Self> {
        let Numbers { inputs, outputs } = numbers;
        let blocks = numbers.weight()?;
        Ok(Self {
            x: numbers.rows(),
            weight: PackedQ8::new(level::<f32>(), &blocks.data()?, outputs, inputs)?,
            out: vec![0.0; ROWS * outputs],
        })
    }
}

impl Subject for Ours {
    fn run(&mut self) -> Result<()> {
        let x = Rows::new(&self.x, ROWS, self.weight.inputs());
        let out = &mut self.out[..];
        self.weight
            .multiply(x, None, Finish::Store, out, &CancelToken::new())
    }

    fn probe(&mut self) -> Result<Vec<f32>> {
        Ok(probe(self.out.len(), |index| self.out[index]))
    }
}

/// A product of tensors.
struct Product<W> {
    x: Tensor,
    weight: W,
    out: Option<Tensor>,
}

impl<W: Module + Send> Subject for Product<W> {
    fn run(&mut self) -> Result<()> {
        self.out = Some(self.weight.forward(&self.x)?);
        Ok(())
    }

    fn probe(&mut self) -> Result<Vec<f32>> {
        let Some(out) = &self.out else {
            return Ok(Vec::new());
        };
        let out = out.flatten_all()?.to_vec1::<f32>()?;
        Ok(probe(out.len(), |index| out[index]))
    }
}

/// candle's product with quantised weights.
fn candle(numbers: Numbers) -> Result<Product<QMatMul>> {
    Ok(Product {
        x: numbers.tensor()?,
        weight: QMatMul::from_qtensor(numbers.weight()?)?,
        out: None,
    })
}

/// The product with the dequantised weight, which errors are measured against.
fn exact(numbers: Numbers) -> Result<Product<Linear>> {
    Ok(Product {
        x: numbers.tensor()?,
        weight: Linear::new(numbers.weight()?.dequantize(&Device::Cpu)?, None),
        out: None,
    })
}
