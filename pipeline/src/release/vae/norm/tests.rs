// SPDX-License-Identifier: MPL-2.0
use super::*;
use crate::checkpoint::{Checkpoint, Weights};
use std::cell::Cell;
use std::collections::HashMap;

fn wave(shape: &[usize], frequency: f32) -> Tensor {
    let len = shape.iter().product();
    let values: Vec<f32> = (0..len)
        .map(|i| (i as f32 * frequency).sin() + 0.1)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn builder(slots: &Cell<usize>) -> Builder<'_> {
    let mut tensors = HashMap::new();
    for (name, shape, frequency) in [
        ("norm_layer.weight", &[6usize][..], 0.3),
        ("norm_layer.bias", &[6], 0.7),
        ("conv_y.conv.weight", &[6, 2, 1, 1, 1], 0.4),
        ("conv_y.conv.bias", &[6], 0.5),
        ("conv_b.conv.weight", &[6, 2, 1, 1, 1], 0.6),
        ("conv_b.conv.bias", &[6], 0.8),
    ] {
        tensors.insert(name.to_owned(), wave(shape, frequency));
    }
    Builder {
        weights: Weights::new(
            Checkpoint::from_tensors(tensors).unwrap(),
            &Device::Cpu,
            DType::F32,
        ),
        slots,
        groups: 3,
        limit: None,
    }
}

/// The definition in plain tensor operations.
fn plain(norm: &Norm, x: &Tensor, modulation: Option<(Tensor, Tensor, Vec<usize>)>) -> Tensor {
    let (frames, channels, height, width) = x.dims4().unwrap();
    let groups = x.reshape((frames, norm.groups, ())).unwrap();
    let mean = |t: &Tensor| t.mean_keepdim(2).unwrap().mean_keepdim(0).unwrap();
    let groups = groups.broadcast_sub(&mean(&groups)).unwrap();
    let variance = mean(&groups.sqr().unwrap());
    let deviation = (variance + EPS).unwrap().sqrt().unwrap();
    let of_channels = |t: &Tensor| t.reshape((1, channels, 1, 1)).unwrap();
    let mut y = groups
        .broadcast_div(&deviation)
        .unwrap()
        .reshape((frames, channels, height, width))
        .unwrap()
        .broadcast_mul(&of_channels(&norm.gamma))
        .unwrap()
        .broadcast_add(&of_channels(&norm.beta))
        .unwrap();
    if let Some((scale, shift, map)) = modulation {
        let map: Vec<u32> = map.into_iter().map(|frame| frame as u32).collect();
        let map = Tensor::new(map, x.device()).unwrap();
        let enlarge = |t: Tensor| {
            let t = t.index_select(&map, 0).unwrap();
            t.upsample_nearest2d(height, width).unwrap()
        };
        y = ((y * enlarge(scale)).unwrap() + enlarge(shift)).unwrap();
    }
    y.silu().unwrap()
}

#[test]
fn the_fused_pass_equals_the_plain_formula() {
    let slots = Cell::new(0);
    let norm = Norm::spatial(&builder(&slots), 6, 2).unwrap();
    let (x, z) = (wave(&[5, 6, 4, 8], 0.11), wave(&[3, 2, 2, 4], 0.23));
    let progress = Progress::none();
    let (y, b) = norm.spatial.as_ref().unwrap();
    let modulation = || {
        let still = |conv: &Conv| conv.forward_still(&z, &progress).unwrap();
        Some((still(y), still(b), frame_map(5, 3, true)))
    };
    for modulation in [None, modulation()] {
        let got = norm.on_cpu(&x, modulation.clone(), &progress).unwrap();
        let want = plain(&norm, &x, modulation);
        assert!(difference(&got, &want) < 1e-5);
    }
    assert!(norm.forward(x.into(), None, true, &progress).is_err());
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    d.max(0).unwrap().to_scalar().unwrap()
}

#[test]
fn frames_apart_equal_the_whole_and_stay_below_the_limit() {
    let slots = Cell::new(0);
    let (x, z) = (wave(&[5, 6, 4, 8], 0.11), wave(&[3, 2, 2, 4], 0.23));
    let progress = Progress::none();
    // From one row a band to whole frames.
    for elements in [100, 150, 1 << 20] {
        let limit = OperandLimit::new(elements);
        let builder = Builder {
            limit: Some(&limit),
            ..builder(&slots)
        };
        let apart = |x: &Tensor| {
            let frames = (0..x.dim(0).unwrap()).map(|index| {
                let frame = x.narrow(0, index, 1).unwrap();
                Bands::upload(&frame, &Device::Cpu, DType::F32, &limit).unwrap()
            });
            Activation::Frames(frames.collect())
        };
        for split in [true, false] {
            for latent in [None, Some(&z)] {
                let norm = match latent {
                    Some(_) => Norm::spatial(&builder, 6, 2).unwrap(),
                    None => Norm::plain(&builder.pp("norm_layer"), 6).unwrap(),
                };
                let modulation = latent.map(|z| {
                    let Some((y, b)) = &norm.spatial else {
                        panic!("a plain norm");
                    };
                    let still = |conv: &Conv| {
                        let Activation::Frames(frames) = apart(z) else {
                            panic!("not apart");
                        };
                        let frames = frames.iter().map(|z| conv.frame(z, &progress).unwrap());
                        Activation::Frames(frames.collect()).into_tensor().unwrap()
                    };
                    (still(y), still(b), frame_map(5, 3, split))
                });
                let want = plain(&norm, &x, modulation);
                let latent = latent.map(apart);
                let got = norm.forward(apart(&x), latent.as_ref(), split, &progress);
                let got = got.unwrap().into_tensor().unwrap();
                assert!(difference(&got, &want) < 1e-5, "{elements} elements");
            }
        }
        assert!(limit.operations() > 0 && limit.largest() < elements);
    }
}

#[test]
fn moments_do_not_lose_a_small_deviation_around_a_large_mean() {
    let x = (wave(&[3, 6, 4, 8], 0.11) + 300.0).unwrap();
    let mut moments = Moments {
        groups: 3,
        parts: Vec::new(),
    };
    let limit = OperandLimit::new(150);
    for index in 0..3 {
        let frame = x.narrow(0, index, 1).unwrap();
        let frame = Bands::upload(&frame, &Device::Cpu, DType::F32, &limit).unwrap();
        moments.add(&frame).unwrap();
    }
    let groups = x.reshape((3, 3, 64)).unwrap().to_vec3::<f32>().unwrap();
    for (group, (mean, variance)) in moments.finish().unwrap().into_iter().enumerate() {
        let values = || {
            groups
                .iter()
                .flat_map(|frame| &frame[group])
                .map(|v| f64::from(*v))
        };
        let want_mean = values().sum::<f64>() / 192.0;
        let want = values().map(|v| (v - want_mean).powi(2)).sum::<f64>() / 192.0;
        assert!((mean - want_mean).abs() < 1e-4, "{mean} {want_mean}");
        assert!((variance / want - 1.0).abs() < 1e-4, "{variance} {want}");
    }
}

#[test]
fn frames_find_their_latents() {
    assert_eq!(frame_map(5, 3, true), [0, 1, 1, 2, 2]);
    assert_eq!(frame_map(4, 2, false), [0, 0, 1, 1]);
    assert_eq!(frame_map(2, 2, true), [0, 1]);
    assert_eq!(frame_map(4, 1, false), [0; 4]);
    assert_eq!(frame_map(1, 1, true), [0]);
}

#[test]
fn groups_must_divide_the_channels() {
    let slots = Cell::new(0);
    let odd = Builder {
        groups: 4,
        ..builder(&slots)
    };
    assert!(Norm::spatial(&odd, 6, 2).is_err());
}
