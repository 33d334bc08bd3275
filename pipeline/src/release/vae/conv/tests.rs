// SPDX-License-Identifier: MPL-2.0
use super::*;

fn wave(shape: &[usize], frequency: f32) -> Tensor {
    let len = shape.iter().product();
    let values: Vec<f32> = (0..len).map(|i| (i as f32 * frequency).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let d = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
    d.max(0).unwrap().to_scalar().unwrap()
}

/// The sum of one 2D convolution for each tap in time, frames being the batch.
fn plain(conv: &Conv, weight: &Tensor, before: Option<&Tensor>, x: &Tensor) -> Tensor {
    let clip = match before {
        Some(before) => Tensor::cat(&[before, x], 0).unwrap(),
        None => x.clone(),
    };
    let (low, high) = conv.shape.padding;
    let clip = clip.pad_with_zeros(2, low, high).unwrap();
    let clip = clip.pad_with_zeros(3, low, high).unwrap();
    let frames = x.dim(0).unwrap();
    let sum = (0..weight.dim(2).unwrap()).map(|t| {
        // A view into the kernel would be read from the wrong place by candle 0.11's conv2d.
        let slice = weight.narrow(2, t, 1).unwrap().squeeze(2).unwrap();
        let slice = slice.force_contiguous().unwrap();
        let clip = clip.narrow(0, t, frames).unwrap();
        clip.conv2d(&slice, 0, conv.shape.stride, 1, 1).unwrap()
    });
    let sum = sum.reduce(|a, b| (a + b).unwrap()).unwrap();
    let bias = conv.bias.reshape((1, conv.outputs(), 1, 1)).unwrap();
    sum.broadcast_add(&bias).unwrap()
}

fn both_ways(weight: &[usize], stride: usize, padding: (usize, usize), x: &Tensor) {
    let weight = wave(weight, 0.71);
    let bias = wave(&weight.dims()[..1], 1.3);
    let conv = Conv::new(&weight, bias, stride, padding, 0, None).unwrap();
    let past =
        (weight.dims()[2] > 1).then(|| wave(&[2, x.dims()[1], x.dims()[2], x.dims()[3]], 0.05));
    let want = plain(&conv, &weight, past.as_ref(), x);
    let residual = wave(want.dims(), 0.013);
    let cancel = CancelToken::new();
    let got = conv.convolve(past.as_ref(), x, None, &cancel).unwrap();
    assert!(
        difference(&got, &want) < 1e-4,
        "{:?} stride {stride}",
        weight.dims()
    );
    let got = conv
        .convolve(past.as_ref(), x, Some(&residual), &cancel)
        .unwrap();
    assert!(difference(&got, &(want + residual).unwrap()) < 1e-4);
}

#[test]
fn tap_products_equal_conv2d() {
    both_ways(&[5, 3, 3, 3, 3], 1, (1, 1), &wave(&[3, 3, 21, 70], 0.37));
    both_ways(&[2, 4, 1, 3, 3], 2, (0, 1), &wave(&[2, 4, 18, 140], 0.37));
    both_ways(&[2, 4, 1, 3, 3], 2, (0, 1), &wave(&[1, 4, 7, 9], 0.37));
    both_ways(&[7, 2, 1, 1, 1], 1, (0, 0), &wave(&[2, 2, 1, 1], 0.37));
}

#[test]
fn chunks_join_without_a_seam() {
    let weight = wave(&[3, 2, 3, 3, 3], 0.9);
    let conv = Conv::new(&weight, wave(&[3], 0.4), 1, (1, 1), 5, None).unwrap();
    let x = wave(&[6, 2, 4, 5], 0.21);
    let progress = Progress::none();
    let mut cache = Cache::default();
    let mut run = |from, len, more| {
        let mut pass = Pass {
            cache: &mut cache,
            more,
            split: false,
            progress: &progress,
        };
        conv.forward_whole(&x.narrow(0, from, len).unwrap(), None, &mut pass)
            .unwrap()
    };
    let whole = run(0, 6, false);
    let parts = [
        run(0, 1, true),
        run(1, 1, true),
        run(2, 3, true),
        run(5, 1, false),
    ];
    assert!(difference(&Tensor::cat(&parts, 0).unwrap(), &whole) < 1e-5);
    assert!(
        cache.remembered.is_empty(),
        "the end of a clip clears the cache"
    );
}

#[test]
fn a_cancelled_convolution_ends() {
    let weight = wave(&[3, 2, 1, 1, 1], 0.9);
    let conv = Conv::new(&weight, wave(&[3], 0.4), 1, (0, 0), 0, None).unwrap();
    let cancel = CancelToken::new();
    cancel.cancel();
    let result = conv.convolve(None, &wave(&[1, 2, 4, 5], 0.21), None, &cancel);
    assert!(result.unwrap_err().is_cancelled());
}
