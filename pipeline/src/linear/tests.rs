// SPDX-License-Identifier: MPL-2.0
use candle_core::Shape;

use super::*;
use crate::flow::noise::{NoiseSource, Use};

/// Standard normal values, the same in every run.
fn normal(seed: u64, shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let values = NoiseSource::new(seed).frame(Use::Start, 0, shape.elem_count());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A weight and some rows, `[outputs, inputs]` and `[rows, inputs]`.
fn drawn(outputs: usize, inputs: usize, rows: usize) -> (Tensor, Tensor) {
    (normal(1, (outputs, inputs)), normal(2, (rows, inputs)))
}

fn values(tensor: &Tensor) -> Vec<f32> {
    let tensor = tensor.to_dtype(DType::F32).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Checks values against `x` times the dequantised weight: a value of `x` is at most a 254th of its block's largest
/// magnitude off, and here of the row's, and `loose` relative to the sum of magnitudes is for roundings.
fn check(got: &Tensor, x: &Tensor, weight: &QTensor, bias: &Tensor, loose: f32) {
    let wide = weight.dequantize(&Device::Cpu).unwrap();
    let (outputs, inputs) = wide.dims2().unwrap();
    let x = x.reshape(((), inputs)).unwrap();
    let want = x.matmul(&wide.t().unwrap()).unwrap();
    let want = values(&want.broadcast_add(bias).unwrap());
    let magnitudes = |t: &Tensor| values(&t.abs().unwrap().sum(1).unwrap());
    let weights = magnitudes(&wide);
    let most = values(&x.abs().unwrap().max(1).unwrap());
    let got = values(got);
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let (row, output) = (index / outputs, index % outputs);
        let bound = (1.0 / 254.0 + loose) * most[row] * weights[output];
        assert!((got - want).abs() <= bound, "{got} {want} {bound}");
    }
}

#[test]
fn a_q8_0_layer_equals_the_dequantised_product() {
    for (outputs, inputs, rows) in [(5, 32, 1), (48, 96, 6), (130, 256, 300)] {
        let (weight, x) = drawn(outputs, inputs, rows);
        let weight = Arc::new(QTensor::quantize(&weight, GgmlDType::Q8_0).unwrap());
        let bias = normal(3, outputs);
        let layer = Linear::quantized(weight.clone(), Some(bias.clone())).unwrap();
        let layer = layer.packed().unwrap();
        assert_eq!((layer.outputs(), layer.inputs()), (outputs, inputs));
        assert!(layer.weight().is_none());
        check(&layer.forward(&x).unwrap(), &x, &weight, &bias, 1e-5);
        // More dimensions, and another number type, which the result has too.
        let half = x.to_dtype(DType::BF16).unwrap();
        let deep = half.reshape((1, rows, inputs)).unwrap();
        let y = layer.forward(&deep).unwrap();
        assert_eq!(
            (y.dtype(), y.dims()),
            (DType::BF16, &[1, rows, outputs][..])
        );
        let x = half.to_dtype(DType::F32).unwrap();
        check(&y, &x, &weight, &bias, 0.01);
        let wrong = Tensor::zeros((rows, inputs + 32), DType::F32, &Device::Cpu).unwrap();
        assert!(layer.forward(&wrong).is_err());
    }
}

#[test]
fn a_q8_0_layer_multiplies_rows_of_both_types_in_int8() {
    let (weight, x) = drawn(20, 64, 3);
    let weight = Arc::new(QTensor::quantize(&weight, GgmlDType::Q8_0).unwrap());
    let layer = Linear::quantized(weight, None).unwrap();
    let kernels = CpuLevel::selected().unwrap() >= CpuLevel::Avx2;
    assert_eq!(layer.takes_bf16(), kernels);
    let f32s = layer.for_products::<f32>(1).unwrap();
    let bf16s = layer.for_products::<bf16>(1).unwrap();
    assert_eq!(matches!(f32s, Some(Factor::Q8(_))), kernels);
    assert_eq!(matches!(bf16s, Some(Factor::Q8(_))), kernels);
    let rank = (drawn(2, 64, 1).0, drawn(20, 2, 1).0);
    let lora = layer
        .clone()
        .with_loras(vec![Lora::new(vec![rank.clone()], 0.5)]);
    assert!(lora.for_products::<f32>(1).unwrap().is_none());
    let change = matmul(&(matmul(&x, &rank.0).unwrap() * 0.5).unwrap(), &rank.1).unwrap();
    let want = values(&(layer.forward(&x).unwrap() + change).unwrap());
    assert_eq!(values(&lora.forward(&x).unwrap()), want);
}

#[test]
fn other_quantised_layers_stay_as_they_are() {
    let (weight, x) = drawn(8, 256, 4);
    let weight = Arc::new(QTensor::quantize(&weight, GgmlDType::Q4K).unwrap());
    let layer = Linear::quantized(weight.clone(), None).unwrap();
    assert!(matches!(layer.weight, Weight::Quantized(..)) && !layer.takes_bf16());
    let none = Tensor::zeros(8, DType::F32, &Device::Cpu).unwrap();
    check(&layer.forward(&x).unwrap(), &x, &weight, &none, 1e-5);
    let many = layer.for_products::<f32>(ROWS_TO_DEQUANTIZE).unwrap();
    assert!(many.is_none_or(|factor| matches!(factor, Factor::Same(_))));
}
