// SPDX-License-Identifier: MPL-2.0
//! Layer norms whose scale and shift depend on time, one pair for text and one for the image, and gated sums.

use candle_core::{Device, Tensor};
use candle_nn::ops;
use rayon::prelude::*;

use crate::checkpoint::Weights;
use crate::cpu::conv3x3::Activation;
use crate::cpu::tensors::with_f32;
use crate::error::{Error, Result};
use crate::linear::Linear;

/// A layer norm with weight and bias.
#[derive(Clone, Debug)]
pub(super) struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub eps: f32,
}

impl LayerNorm {
    pub fn new(weights: &Weights, size: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            weight: weights.get(size, "weight")?,
            bias: weights.get(size, "bias")?,
            eps,
        })
    }

    /// `LN(x)` of rows `[rows, features]`, or `LN(x) * (1 + scale) + shift` with `shift` and `scale` `[1, features]`.
    pub fn forward(&self, x: &Tensor, modulation: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
        if x.device().is_cpu() {
            return self.on_cpu(x, modulation);
        }
        let weight = self.weight.to_dtype(x.dtype())?;
        let y = ops::layer_norm(
            &x.contiguous()?,
            &weight,
            &self.bias.to_dtype(x.dtype())?,
            self.eps,
        )?;
        Ok(match modulation {
            Some((shift, scale)) => y.broadcast_mul(&(scale + 1.0)?)?.broadcast_add(shift)?,
            None => y,
        })
    }

    /// The affine part and the modulation as one factor and one addend for each feature.
    pub fn affine(&self, modulation: Option<(&Tensor, &Tensor)>) -> Result<(Tensor, Tensor)> {
        Ok(match modulation {
            Some((shift, scale)) => {
                let scale = (scale.flatten_all()? + 1.0)?;
                let bias = self.bias.to_dtype(scale.dtype())?;
                let factor = (self.weight.to_dtype(scale.dtype())? * &scale)?;
                (factor, ((bias * scale)? + shift.flatten_all()?)?)
            }
            None => (self.weight.clone(), self.bias.clone()),
        })
    }

    fn on_cpu(&self, x: &Tensor, modulation: Option<(&Tensor, &Tensor)>) -> Result<Tensor> {
        let (factor, addend) = self.affine(modulation)?;
        let features = self.weight.elem_count();
        let mut result = vec![0f32; x.elem_count()];
        with_f32(x, |x| {
            with_f32(&factor, |factor| {
                with_f32(&addend, |addend| {
                    result
                        .par_chunks_mut(features)
                        .zip(x.par_chunks(features))
                        .for_each(|(to, from)| normalize(to, from, factor, addend, self.eps));
                    Ok(())
                })
            })
        })?;
        Ok(Tensor::from_vec(result, x.shape(), &Device::Cpu)?)
    }
}

/// One row of a layer norm.
#[inline(always)]
pub(super) fn normalize<T: Activation>(
    to: &mut [T],
    from: &[f32],
    factor: &[f32],
    addend: &[f32],
    eps: f32,
) {
    let count = from.len() as f32;
    let mean = lanes(from, |v| v) / count;
    let variance = lanes(from, |v| (v - mean) * (v - mean)) / count;
    let inverse = 1.0 / (variance + eps).sqrt();
    for (((to, from), factor), addend) in to.iter_mut().zip(from).zip(factor).zip(addend) {
        *to = T::from_f32((from - mean) * inverse * factor + addend);
    }
}

/// A sum in 16 lanes, which the compiler can keep in vector registers.
#[inline(always)]
fn lanes(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0f32; 16];
    let (lines, rest) = values.as_chunks::<16>();
    for line in lines {
        for (sum, value) in sums.iter_mut().zip(line) {
            *sum += term(*value);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|v| term(*v)).sum::<f32>()
}

/// `x + gate * y` of rows `[rows, features]`, `gate` being `[1, features]`.
///
/// # Errors
/// A failed tensor operation.
pub(super) fn add_gated(x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Tensor> {
    if !x.device().is_cpu() {
        return Ok((x + y.broadcast_mul(gate)?)?);
    }
    let features = gate.elem_count();
    if x.dims() != y.dims() || features == 0 {
        return Err(Error::invalid(format!(
            "{:?} cannot be added to {:?}",
            y.dims(),
            x.dims()
        )));
    }
    let mut result = vec![0f32; x.elem_count()];
    with_f32(x, |x| {
        with_f32(y, |y| {
            with_f32(gate, |gate| {
                result
                    .par_chunks_mut(features)
                    .zip(x.par_chunks(features).zip(y.par_chunks(features)))
                    .for_each(|(to, (x, y))| {
                        for (((to, x), y), gate) in to.iter_mut().zip(x).zip(y).zip(gate) {
                            *to = x + gate * y;
                        }
                    });
                Ok(())
            })
        })
    })?;
    Ok(Tensor::from_vec(result, x.shape(), &Device::Cpu)?)
}

/// Shift, scale and gate, each `[1, features]`.
#[derive(Clone, Debug)]
pub(super) struct Modulation {
    pub shift: Tensor,
    pub scale: Tensor,
    pub gate: Tensor,
}

/// The modulations of a block for one segment of tokens.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub attention: Modulation,
    pub mlp: Modulation,
}

/// The modulations of a block: image and text.
///
/// # Errors
/// A failed tensor operation.
pub(super) fn modulations(linear: &Linear, embedding: &Tensor) -> Result<(Segment, Segment)> {
    let all = linear.forward(&embedding.silu()?)?;
    let chunks = all.chunk(12, 1)?;
    let modulation = |first: usize| match chunks.get(first..first + 3) {
        Some([shift, scale, gate]) => Ok(Modulation {
            shift: shift.clone(),
            scale: scale.clone(),
            gate: gate.clone(),
        }),
        _ => Err(Error::invalid(format!(
            "a modulation of {:?} cannot be divided by 12",
            all.dims()
        ))),
    };
    let segment = |first| {
        Ok::<_, Error>(Segment {
            attention: modulation(first)?,
            mlp: modulation(first + 3)?,
        })
    };
    Ok((segment(0)?, segment(6)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(shape: &[usize], frequency: f32) -> Tensor {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len)
            .map(|i| (i as f32 * frequency).sin() + 0.2)
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn difference(a: &Tensor, b: &Tensor) -> f32 {
        let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        d.max(0).unwrap().to_scalar().unwrap()
    }

    #[test]
    fn the_fused_norm_equals_its_formula() {
        let norm = LayerNorm {
            weight: wave(&[20], 0.3),
            bias: wave(&[20], 0.9),
            eps: 1e-5,
        };
        let (x, shift, scale) = (
            wave(&[5, 20], 0.37),
            wave(&[1, 20], 1.1),
            wave(&[1, 20], 1.7),
        );
        let plain = ops::layer_norm_slow(&x, &norm.weight, &norm.bias, 1e-5).unwrap();
        assert!(difference(&norm.forward(&x, None).unwrap(), &plain) < 1e-5);
        let want = plain.broadcast_mul(&(&scale + 1.0).unwrap()).unwrap();
        let want = want.broadcast_add(&shift).unwrap();
        assert!(difference(&norm.forward(&x, Some((&shift, &scale))).unwrap(), &want) < 1e-5);
    }

    #[test]
    fn gates_scale_what_is_added() {
        let (x, y, gate) = (
            wave(&[3, 10], 0.2),
            wave(&[3, 10], 0.5),
            wave(&[1, 10], 0.8),
        );
        let want = (&x + y.broadcast_mul(&gate).unwrap()).unwrap();
        assert!(difference(&add_gated(&x, &gate, &y).unwrap(), &want) < 1e-6);
        assert!(add_gated(&x, &gate, &wave(&[2, 10], 0.5)).is_err());
    }

    #[test]
    fn chunks_are_image_then_text() {
        let weight = Tensor::zeros((24, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let bias: Vec<f32> = (0..24).map(|i| (i / 2) as f32).collect();
        let linear = Linear::new(weight, Some(Tensor::new(bias, &Device::Cpu).unwrap()));
        let (image, text) = modulations(&linear, &wave(&[1, 1], 1.0)).unwrap();
        let value = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        assert_eq!(
            (value(&image.attention.shift), value(&image.mlp.gate)),
            (0.0, 5.0)
        );
        assert_eq!(
            (value(&text.attention.scale), value(&text.mlp.shift)),
            (7.0, 9.0)
        );
    }
}
