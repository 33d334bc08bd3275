// SPDX-License-Identifier: MPL-2.0
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::super::{Activation, Conv3x3};
use super::*;
use crate::cpu::level::CpuLevel;

/// A whole plane of a layer with its border, and its sums.
struct Plane<C> {
    lines: Vec<Vec<C>>,
    sums: Vec<Vec<bf16>>,
}

/// The result `[h, w, outputs]` of `network`, one whole layer after the other.
pub(crate) fn layer_by_layer<N: Network>(network: &N, size: Size, outputs: usize) -> Vec<f32> {
    let (layers, height) = (network.layers(), size.height);
    let mut states = vec![vec![0.0; size.width * outputs]; height];
    let plane = |layer: &Layer<N::Cell>| Plane {
        lines: vec![layer.border.repeat(size.width + 2); height + 2],
        sums: vec![vec![bf16::ZERO; size.width * layer.border.len()]; height],
    };
    let mut planes: Vec<Plane<N::Cell>> = layers.iter().map(plane).collect();
    for (row, state) in states.iter_mut().enumerate() {
        network.state(row, state);
        let channels = layers[0].border.len();
        let line = &mut planes[0].lines[row + 1];
        let end = line.len() - channels;
        network.input(row, state, &mut line[channels..end]);
    }
    fn window<C>(plane: &Plane<C>, row: usize) -> Window<'_, C> {
        [0, 1, 2].map(|line| &plane.lines[row + line][..])
    }
    for layer in 1..layers.len() {
        let (before, rest) = planes.split_at_mut(layer);
        let channels = layers[layer].border.len();
        let inside = channels..(size.width + 1) * channels;
        for row in 0..height {
            let skip = layers[layer - 1].inside.then(|| Pixels {
                values: &before[layer - 2].lines[row + 1][inside.clone()],
                sums: &before[layer - 2].sums[row],
            });
            let Plane { lines, sums } = &mut rest[0];
            let to = PixelsMut {
                values: &mut lines[row + 1][inside.clone()],
                sums: if layers[layer].sums {
                    &mut sums[row]
                } else {
                    &mut []
                },
            };
            network.layer(layer, window(&before[layer - 1], row), skip, to);
        }
    }
    let mut out = vec![0.0; size.pixels() * outputs];
    for (row, out) in out.chunks_exact_mut(size.width * outputs).enumerate() {
        network.result(window(&planes[layers.len() - 1], row), &states[row], out);
    }
    out
}

/// The result of [`Bands`] in rows of `outputs` values for each pixel.
pub(crate) fn in_bands<N: Network>(
    network: &N,
    bands: &mut Bands<N::Cell>,
    rows: Range<usize>,
    row: usize,
) -> Vec<f32> {
    let mut out = vec![f32::NAN; rows.len() * row];
    let put = |values: &[f32], out: &mut [f32]| out.copy_from_slice(values);
    bands
        .run(network, rows, &mut out, put, &CancelToken::new())
        .unwrap();
    out
}

/// Checks that bands give what layer by layer comes out, with any number of threads, groups and rows.
pub(crate) fn assert_bands_equal<N: Network>(network: &N, size: Size, outputs: usize) {
    let want = layer_by_layer(network, size, outputs);
    let row = size.width * outputs;
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            for group in [0, 1 << 14, usize::MAX] {
                let shape = Shape {
                    layers: network.layers(),
                    outputs,
                    size,
                    group,
                };
                let mut bands = Bands::new(shape);
                assert!(bands.fit(shape));
                let middle = size.height / 3..size.height - size.height / 4;
                // Later runs meet used buffers.
                for rows in [0..size.height, middle, 0..0, 0..size.height] {
                    let got = in_bands(network, &mut bands, rows.clone(), row);
                    let want = &want[rows.start * row..rows.end * row];
                    assert_eq!(
                        got, want,
                        "{size}, {rows:?}, {threads} threads, groups of {group}"
                    );
                }
            }
        });
    }
}

/// Sizes that have no inside, no middle, fewer rows than threads, and bands of different heights.
pub(crate) const SIZES: [Size; 5] = [
    Size::new(1, 1),
    Size::new(7, 1),
    Size::new(1, 9),
    Size::new(13, 7),
    Size::new(5, 37),
];

/// A network with random weights.
struct Random<T> {
    layers: Vec<Layer<T>>,
    convolutions: Vec<Conv3x3<T>>,
    slope: Vec<f32>,
    tail: Conv3x3<T>,
}

const CHANNELS: usize = 16;

impl<T: Activation> Random<T> {
    fn new(level: CpuLevel, count: usize, residual: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut conv = |inputs: usize| {
            let mut draw = |len: usize| -> Vec<f32> {
                (0..len).map(|_| rng.random_range(-0.2..=0.2)).collect()
            };
            let (weight, bias) = (draw(CHANNELS * inputs * 9), draw(CHANNELS));
            Conv3x3::new(level, &weight, &bias, inputs)
        };
        let layer = |index| Layer {
            border: vec![T::default(); if index == 0 { 2 } else { CHANNELS }],
            sums: false,
            inside: residual && index > 0 && index % 2 == 0,
        };
        Self {
            layers: (0..=count).map(layer).collect(),
            convolutions: (0..count)
                .map(|i| conv(if i == 0 { 2 } else { CHANNELS }))
                .collect(),
            slope: (0..CHANNELS).map(|c| c as f32 / 20.0 - 0.3).collect(),
            tail: conv(CHANNELS),
        }
    }
}

impl<T: Activation> Network for Random<T> {
    type Cell = T;

    fn layers(&self) -> &[Layer<T>] {
        &self.layers
    }

    fn state(&self, row: usize, state: &mut [f32]) {
        for (index, value) in state.iter_mut().enumerate() {
            *value = ((row * 7919 + index * 31) % 211) as f32 / 105.0 - 1.0;
        }
    }

    fn input(&self, _: usize, state: &[f32], to: &mut [T]) {
        for (to, state) in to.chunks_exact_mut(2).zip(state.chunks_exact(CHANNELS)) {
            to.copy_from_slice(&[T::from_f32(state[0]), T::from_f32(state[5])]);
        }
    }

    fn layer(
        &self,
        layer: usize,
        from: Window<'_, T>,
        skip: Option<Pixels<'_, T>>,
        to: PixelsMut<'_, T>,
    ) {
        let conv = &self.convolutions[layer - 1];
        match skip {
            Some(skip) => conv.add(from, skip.values, to.values),
            None => conv.prelu(from, &self.slope, to.values),
        }
    }

    fn result(&self, from: Window<'_, T>, state: &[f32], to: &mut [f32]) {
        self.tail.step(from, Some(state), 0.5, to);
    }
}

#[test]
fn bands_equal_layers_at_every_level() {
    for level in CpuLevel::ALL {
        for (count, residual) in [(1, false), (4, false), (7, true)] {
            for size in SIZES {
                assert_bands_equal(&Random::<f32>::new(level, count, residual), size, CHANNELS);
                assert_bands_equal(&Random::<bf16>::new(level, count, residual), size, CHANNELS);
            }
        }
    }
}

#[test]
fn groups_end_where_they_may() {
    let layers = Random::<f32>::new(CpuLevel::Scalar, 7, true).layers;
    let groups_of = |group, threads| {
        let shape = Shape {
            layers: &layers,
            outputs: CHANNELS,
            size: Size::new(20, 64),
            group,
        };
        shape.groups(threads)
    };
    let groups = |group| groups_of(group, 1);
    assert_eq!(groups(usize::MAX).len(), 1);
    assert_eq!(groups_of(usize::MAX, 64).len(), 1);
    // Bands of many threads are short: what they would repeat is limited.
    assert_eq!(groups_of(CACHE, 1).len(), 1);
    assert_eq!(groups_of(CACHE, 2), [0..4, 4..9]);
    assert_eq!(groups_of(CACHE, 64), groups(0));
    // Never between the convolutions of a pair, nor after the input.
    assert_eq!(groups(0), [0..2, 2..4, 4..6, 6..8, 8..9]);
    let some = groups(40_000);
    assert!(some.len() > 1 && some.len() < 5, "{some:?}");
}

#[test]
fn buffers_are_counted() {
    let network = Random::<f32>::new(CpuLevel::Scalar, 7, true);
    let bytes = |group, height, threads| {
        let layers = &network.layers;
        let size = Size::new(20, height);
        let shape = Shape {
            layers,
            outputs: CHANNELS,
            size,
            group,
        };
        shape.bytes(threads)
    };
    // Planes grow with the picture, kept rows with the threads.
    assert_eq!(bytes(usize::MAX, 100, 1), bytes(usize::MAX, 1000, 1));
    assert_eq!(bytes(usize::MAX, 100, 2), 2 * bytes(usize::MAX, 100, 1));
    let planes = bytes(0, 1000, 1) - bytes(0, 100, 1);
    assert_eq!(planes, 2 * 900 * 22 * CHANNELS as u64 * 4);
}

#[test]
fn a_triggered_token_stops_it() {
    let network = Random::<f32>::new(CpuLevel::detected(), 2, false);
    let size = Size::new(8, 8);
    let mut bands = Bands::new(Shape {
        layers: &network.layers,
        outputs: CHANNELS,
        size,
        group: CACHE,
    });
    let cancel = CancelToken::new();
    cancel.cancel();
    let mut out = vec![0.0; size.pixels()];
    let put = |_: &[f32], _: &mut [f32]| panic!("no row is computed");
    let done = bands.run(&network, 0..8, &mut out, put, &cancel);
    assert!(done.unwrap_err().is_cancelled());
}

#[test]
fn other_pictures_need_other_buffers() {
    let network = Random::<f32>::new(CpuLevel::detected(), 2, false);
    let shape = Shape {
        layers: &network.layers,
        outputs: CHANNELS,
        size: Size::new(8, 8),
        group: usize::MAX,
    };
    let bands = Bands::new(shape);
    assert!(bands.fit(shape));
    let size = Size::new(8, 9);
    assert!(!bands.fit(Shape { size, ..shape }));
    assert!(!bands.fit(Shape { group: 0, ..shape }));
    let mut layers = network.layers.clone();
    layers[1].border[0] = 1.0;
    let layers = &layers;
    assert!(!bands.fit(Shape { layers, ..shape }));
}
