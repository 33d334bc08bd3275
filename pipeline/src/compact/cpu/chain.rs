// SPDX-License-Identifier: MPL-2.0
//! The network at one flow time: folded, packed, and run over bands of rows.

use super::state::State;
use crate::compact::net::{Config, Conv, Net};
use crate::cpu::conv3x3::bands::{Layer, Network, Pixels, PixelsMut};
use crate::cpu::conv3x3::{Activation, Cell, Conv3x3, Window};
use crate::cpu::level::CpuLevel;
use crate::cpu::s2d::LATENT;
use crate::cpu::vector::{Work, run};
use crate::size::Size;

/// An expert of a [`Net`] with the gains and shifts for one (t, sigma) folded into its kernels.
#[derive(Debug)]
pub(in crate::compact) struct Chain<T> {
    level: CpuLevel,
    layers: Vec<Layer<T>>,
    head: Conv3x3<T>,
    head_slope: Vec<f32>,
    body: Vec<Conv3x3<T>>,
    slopes: Vec<Vec<f32>>,
    tail: Conv3x3<T>,
    residual: bool,
}

/// What the network reads at one evaluation.
#[derive(Clone, Copy, Debug)]
pub(in crate::compact) struct Input<'a> {
    /// Size of the grid.
    pub size: Size,
    /// x_t
    pub state: State<'a>,
    /// Luma of the small frames, each `[h, w]`.
    pub frames: &'a [&'a [f32]],
}

/// One evaluation of a chain and its Euler step.
#[derive(Clone, Copy, Debug)]
pub(in crate::compact) struct Evaluation<'a, C> {
    /// The network.
    pub chain: &'a C,
    /// What it reads.
    pub input: Input<'a>,
    /// Factor of the velocity that is added to the state.
    pub dt: f32,
}

/// What the convolution does that gives layer `layer`, at least 1, of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compact) enum Kind {
    /// The head.
    Head,
    /// One of the body, followed by one of the activations.
    Activated(usize, usize),
    /// One of the body, the second of a residual pair.
    Added(usize),
}

impl Kind {
    pub fn of(layer: usize, residual: bool) -> Self {
        match layer.checked_sub(2) {
            None => Self::Head,
            Some(conv) if !residual => Self::Activated(conv, conv),
            Some(conv) if conv % 2 == 0 => Self::Activated(conv, conv / 2),
            Some(conv) => Self::Added(conv),
        }
    }
}

/// The layers of a network with these borders; `sums` is whether those of residual pairs are kept beside the layers.
pub(in crate::compact) fn layers<C>(
    config: &Config,
    sums: bool,
    borders: impl Iterator<Item = Vec<C>>,
) -> Vec<Layer<C>> {
    let layer = |(index, border)| {
        let pairs = config.residual && index > 0;
        let inside = pairs && matches!(Kind::of(index, true), Kind::Activated(..));
        Layer {
            border,
            sums: sums && pairs && !inside,
            inside,
        }
    };
    borders.enumerate().map(layer).collect()
}

/// The layers of a [`Chain`] for `config`.
pub(in crate::compact) fn float_layers<T: Activation>(config: &Config) -> Vec<Layer<T>> {
    let inputs = Conv3x3::<T>::padded_inputs(LATENT + config.frames);
    let channels = std::iter::repeat_n(config.channels, config.layers + 1);
    let zeros = |channels| vec![T::default(); channels];
    layers(
        config,
        false,
        [inputs].into_iter().chain(channels).map(zeros),
    )
}

impl<T: Activation> Chain<T> {
    /// Folds and packs `net` for flow time `t` and noise strength `sigma`.
    pub fn new(net: &Net, level: CpuLevel, t: f64, sigma: f64) -> Self {
        let pack = |conv: &Conv| Conv3x3::new(level, &conv.weight, &conv.bias, conv.inputs);
        let (config, net) = (&net.config, net.expert(sigma));
        let body = net.folded(config, t, sigma);
        Self {
            level,
            layers: float_layers(config),
            head: pack(&net.head),
            head_slope: net.head_slope.clone(),
            body: body.iter().map(pack).collect(),
            slopes: net.slopes.clone(),
            tail: pack(&net.tail),
            residual: config.residual,
        }
    }
}

impl<T: Activation> Network for Evaluation<'_, Chain<T>> {
    type Cell = T;

    fn layers(&self) -> &[Layer<T>] {
        &self.chain.layers
    }

    fn state(&self, row: usize, state: &mut [f32]) {
        self.input.state.row(row, state);
    }

    fn input(&self, row: usize, state: &[f32], to: &mut [T]) {
        self.input
            .fill(self.chain.level, row, state, to, T::from_f32);
    }

    fn layer(
        &self,
        layer: usize,
        from: Window<'_, T>,
        skip: Option<Pixels<'_, T>>,
        to: PixelsMut<'_, T>,
    ) {
        let chain = self.chain;
        match Kind::of(layer, chain.residual) {
            Kind::Head => chain.head.prelu(from, &chain.head_slope, to.values),
            Kind::Activated(conv, act) => {
                chain.body[conv].prelu(from, &chain.slopes[act], to.values);
            }
            Kind::Added(conv) => {
                let skip = skip.map_or(&[][..], |skip| skip.values);
                chain.body[conv].add(from, skip, to.values);
            }
        }
    }

    fn result(&self, from: Window<'_, T>, state: &[f32], to: &mut [f32]) {
        self.chain.tail.step(from, Some(state), self.dt, to);
    }
}

impl<'a> Input<'a> {
    /// The same with another state.
    pub fn with<'b>(self, state: State<'b>) -> Input<'b>
    where
        'a: 'b,
    {
        Input { state, ..self }
    }

    /// A row of the state and the frames side by side; `convert` must be `#[inline(always)]`.
    pub fn fill<T: Cell>(
        &self,
        level: CpuLevel,
        row: usize,
        state: &[f32],
        out: &mut [T],
        convert: impl Fn(f32) -> T + Copy,
    ) {
        let width = self.size.width;
        let channels = out.len() / width;
        let pixels = InputRow {
            out: &mut *out,
            channels,
            state,
            convert,
        };
        run(level, pixels);
        for (frame, luma) in self.frames.iter().enumerate() {
            let luma = &luma[row * width..][..width];
            for (out, value) in out.chunks_exact_mut(channels).zip(luma) {
                out[LATENT + frame] = convert(*value);
            }
        }
    }
}

/// The state's values at the start of each pixel.
struct InputRow<'a, T, F> {
    out: &'a mut [T],
    channels: usize,
    state: &'a [f32],
    convert: F,
}

impl<T: Cell, F: Fn(f32) -> T> Work for InputRow<'_, T, F> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (blocks, _) = self.state.as_chunks::<LATENT>();
        for (out, state) in self.out.chunks_exact_mut(self.channels).zip(blocks) {
            let mut rounded = [T::default(); LATENT];
            for (out, value) in rounded.iter_mut().zip(state) {
                *out = (self.convert)(*value);
            }
            out[..LATENT].copy_from_slice(&rounded);
        }
    }
}

#[cfg(test)]
pub(in crate::compact) mod tests {
    use half::bf16;

    use super::super::state::Noise;
    use super::*;
    use crate::compact::net::weights::tests::{metadata, random_tensors, small, write};
    use crate::cpu::conv3x3::bands::tests::{SIZES, assert_bands_equal, layer_by_layer};
    use crate::cpu::reference::reference_latent;

    fn chain<T: Activation>(config: &Config, level: CpuLevel) -> Chain<T> {
        let bytes = write(&random_tensors(config, 9), metadata(config));
        let net = Net::parse(&bytes, std::path::Path::new("test")).unwrap();
        Chain::new(&net, level, 0.25, 0.1)
    }

    pub fn picture(size: Size, channels: usize) -> Vec<f32> {
        (0..size.pixels() * channels)
            .map(|i| ((i * 7919) % 211) as f32 / 105.0 - 1.0)
            .collect()
    }

    /// Lends an evaluation of `chain` with some picture to `work`.
    pub fn with_evaluation<C, R>(
        chain: &C,
        size: Size,
        frames: usize,
        work: impl FnOnce(&Evaluation<'_, C>) -> R,
    ) -> R {
        let (latent, luma) = (picture(size, LATENT), picture(size, 1));
        let input = Input {
            size,
            state: State::Latent(&latent),
            frames: &vec![&luma[..]; frames],
        };
        let dt = 0.5;
        work(&Evaluation { chain, input, dt })
    }

    #[test]
    fn bands_equal_layers() {
        for residual in [false, true] {
            let config = small(residual, 3);
            for level in [CpuLevel::Scalar, CpuLevel::detected()] {
                let (f32, bf16) = (chain::<f32>(&config, level), chain::<bf16>(&config, level));
                for size in SIZES {
                    with_evaluation(&f32, size, 3, |e| assert_bands_equal(e, size, LATENT));
                    with_evaluation(&bf16, size, 3, |e| assert_bands_equal(e, size, LATENT));
                }
            }
        }
    }

    #[test]
    fn levels_agree() {
        fn run<T: Activation>(config: &Config, level: CpuLevel, size: Size) -> Vec<f32> {
            let chain = chain::<T>(config, level);
            with_evaluation(&chain, size, 1, |e| layer_by_layer(e, size, LATENT))
        }
        for residual in [false, true] {
            let config = small(residual, 1);
            for size in [Size::new(1, 1), Size::new(13, 7)] {
                let want = run::<f32>(&config, CpuLevel::Scalar, size);
                let close = |got: Vec<f32>, tolerance: f32| {
                    for (got, want) in got.iter().zip(&want) {
                        assert!(
                            (got - want).abs() < tolerance * (1.0 + want.abs()),
                            "{got} {want}"
                        );
                    }
                };
                for level in CpuLevel::ALL
                    .into_iter()
                    .filter(|l| *l <= CpuLevel::detected())
                {
                    close(run::<f32>(&config, level, size), 1e-5);
                    close(run::<bf16>(&config, level, size), 2e-2);
                }
            }
        }
    }

    #[test]
    fn the_reference_is_made_as_it_is_read() {
        let size = Size::new(9, 12);
        let chain = chain::<f32>(&small(true, 1), CpuLevel::detected());
        let luma = &picture(size, 1)[..];
        let level = CpuLevel::detected();
        for sigma in [0.0, 0.3] {
            let mut latent = vec![0.0; size.pixels() * LATENT];
            reference_latent(level, luma, size, 0..size.height, &mut latent);
            let noise = Noise {
                sigma,
                seed: 4,
                first_row: -3,
            };
            if sigma > 0.0 {
                crate::flow::picture_noise::add_noise(&mut latent, size.width, -3, sigma as f32, 4);
            }
            let states = [
                State::Latent(&latent),
                State::Reference {
                    level,
                    luma,
                    size,
                    noise,
                },
            ];
            let [want, got] = states.map(|state| {
                with_evaluation(&chain, size, 1, |evaluation| {
                    let input = evaluation.input.with(state);
                    let evaluation = Evaluation {
                        input,
                        ..*evaluation
                    };
                    assert_bands_equal(&evaluation, size, LATENT);
                    layer_by_layer(&evaluation, size, LATENT)
                })
            });
            assert_eq!(got, want, "sigma {sigma}");
        }
    }

    #[test]
    fn pairs_stay_together() {
        let inside = |residual| -> Vec<bool> {
            let config = Config {
                layers: 4,
                ..small(residual, 1)
            };
            let layers = float_layers::<f32>(&config);
            layers.iter().map(|layer| layer.inside).collect()
        };
        assert_eq!(inside(false), [false; 6]);
        assert_eq!(inside(true), [false, false, true, false, true, false]);
    }
}
