// SPDX-License-Identifier: MPL-2.0
//! A compact model as its file has it: shape, weights, and what flow time and noise do to these. Nothing here computes
//! a picture.

pub(crate) mod weights;

use crate::cpu::level::CpuLevel;
use crate::cpu::reference;

/// Width of the time embedding.
pub const EMBED: usize = 32;

/// Shift of the time grid that the model was trained with, that of the released model.
pub const SHIFT: f64 = 2.5;

/// Pixels by which the small picture is continued beyond its edges for the network, and cut off again.
///
/// The zeros that a convolution sees outside of a picture stand for mid-grey: on flat colours they pull the outermost
/// pixels by a code. One copy of the edge halves that. More would cost more than time: the networks learnt what a picture
/// does beyond its edge, and do it worse where copies tell them that it stops (eight: 0.1 dB less for a whole clip).
pub const MARGIN: usize = 1;

/// Most layers of a plain chain in which rounding to int8 was measured to change nothing that can be seen.
const SHALLOW: usize = 4;

/// Shape and defaults of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels between the layers, a multiple of 16.
    pub channels: usize,
    /// Body convolutions.
    pub layers: usize,
    /// Neighbouring frames that it sees, itself included: 1, 3 or 5.
    pub frames: usize,
    /// Body convolutions in residual pairs rather than a plain chain.
    pub residual: bool,
    /// Function evaluations when nobody asks for a number.
    pub default_steps: usize,
    /// Noise strength, in model units, that a request of 1.0 means.
    pub detail_sigma: f64,
    /// Noise requested when nobody asks for any, in 0..=1.
    pub default_noise: f64,
}

impl Config {
    /// Activations of the body: one for each pair or layer.
    pub fn activations(&self) -> usize {
        if self.residual {
            self.layers / 2
        } else {
            self.layers
        }
    }

    /// 3x3 convolutions from input to output, each of which sees one more row.
    pub fn convolutions(&self) -> usize {
        self.layers + 2
    }

    /// Rows of the small picture on each side of its own that a row of the large one depends on after `steps`
    /// evaluations.
    pub fn reach(&self, steps: usize) -> usize {
        steps * self.convolutions() + reference::REACH
    }

    /// Frames before and after a frame that it sees.
    pub fn neighbours(&self) -> usize {
        self.frames / 2
    }
}

/// A 3x3 convolution: weight `[outputs, inputs, 3, 3]`, bias `[outputs]`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Kernel.
    pub weight: Vec<f32>,
    /// Bias.
    pub bias: Vec<f32>,
    /// Input channels.
    pub inputs: usize,
}

/// One velocity network.
#[derive(Clone, Debug)]
pub struct Expert {
    /// From latent and frames to channels.
    pub head: Conv,
    /// Slope of each channel below zero, after the head.
    pub head_slope: Vec<f32>,
    /// Body convolutions.
    pub body: Vec<Conv>,
    /// Slopes of the body's activations.
    pub slopes: Vec<Vec<f32>>,
    /// Time embedding, weight `[32, 2]` and bias `[32]`.
    pub embed: (Vec<f32>, Vec<f32>),
    /// From embedding to gain and shift, weight `[activations * 2 * channels, 32]` and bias.
    pub film: (Vec<f32>, Vec<f32>),
    /// From channels to the velocity.
    pub tail: Conv,
    /// Least and largest value of each channel after the head and after each body convolution (of residual pairs: of
    /// their sums after the second), at t = 0 without noise; `[layers + 1, 2, channels]`. For int8; few models have them.
    pub ranges: Option<Vec<f32>>,
}

/// Everything in a model's file.
#[derive(Clone, Debug)]
pub struct Net {
    /// Shape and defaults.
    pub config: Config,
    /// The network of the faithful mode.
    pub base: Expert,
    /// The expert for flows that start from noise, if there is one.
    pub detail: Option<Expert>,
}

impl Net {
    /// The network of flows that start from noise of strength `sigma`.
    pub fn expert(&self, sigma: f64) -> &Expert {
        match &self.detail {
            Some(detail) if sigma > 0.0 => detail,
            _ => &self.base,
        }
    }

    /// Strength in model units of the requested `noise` in 0..=1; `None` takes the model's default.
    pub fn sigma(&self, noise: Option<f64>) -> f64 {
        noise.unwrap_or(self.config.default_noise) * self.config.detail_sigma
    }

    /// Whether int8 is this model's number type on processors of `level` when nobody asks for one: it is the fastest by
    /// far where there are dot products for it, and it must not change anything that can be seen.
    ///
    /// That holds for calibrated plain chains of few layers: what int8 loses in `builtin:live` is 0.001 dB on average, far
    /// below what so small a model gains, for half of the time. Residual pairs add up the rounding of all of their sums:
    /// `builtin` loses 0.018 dB, and up to 0.04 dB in single clips, which whoever waits for it had rather keep.
    pub fn auto_is_int8(&self, level: CpuLevel) -> bool {
        let Config {
            residual, layers, ..
        } = self.config;
        level.has_vnni() && self.base.ranges.is_some() && !residual && layers <= SHALLOW
    }
}

impl Expert {
    /// The body's convolutions with the gains and shifts of one (t, sigma) folded in.
    pub fn folded(&self, config: &Config, t: f64, sigma: f64) -> Vec<Conv> {
        let film = self.film(t, sigma);
        let channels = config.channels;
        let mut body = self.body.clone();
        for (index, conv) in body.iter_mut().enumerate() {
            let activation = match (config.residual, index % 2) {
                (false, _) => index,
                (true, 0) => index / 2,
                (true, _) => continue,
            };
            let (gains, shifts) =
                film[activation * 2 * channels..][..2 * channels].split_at(channels);
            let taps = conv.inputs * 9;
            for (output, (gain, shift)) in gains.iter().zip(shifts).enumerate() {
                for weight in &mut conv.weight[output * taps..][..taps] {
                    *weight *= 1.0 + gain;
                }
                conv.bias[output] = conv.bias[output] * (1.0 + gain) + shift;
            }
        }
        body
    }

    /// Gains (beside 1) and shifts `[activations, 2, channels]`: film(silu(embed(t, sigma))).
    fn film(&self, t: f64, sigma: f64) -> Vec<f32> {
        let (t, sigma) = (t as f32, sigma as f32);
        let embed: Vec<f32> = self
            .embed
            .0
            .chunks_exact(2)
            .zip(&self.embed.1)
            .map(|(weight, bias)| {
                let value = weight[0] * t + weight[1] * sigma + bias;
                value / (1.0 + (-value).exp())
            })
            .collect();
        self.film
            .0
            .chunks_exact(EMBED)
            .zip(&self.film.1)
            .map(|(weight, bias)| weight.iter().zip(&embed).map(|(w, e)| w * e).sum::<f32>() + bias)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::net::weights::tests::{metadata, random_tensors, small, write};
    use super::*;

    fn net(config: &Config, ranges: bool) -> Net {
        let mut tensors = random_tensors(config, 4);
        let shape = vec![config.layers + 1, 2, config.channels];
        let values = vec![1.0; shape.iter().product()];
        if ranges {
            tensors.push(("ranges".into(), shape, values));
        }
        Net::parse(&write(&tensors, metadata(config)), Path::new("test")).unwrap()
    }

    #[test]
    fn int8_is_chosen_where_it_is_fast_and_unseen() {
        let shallow = small(false, 1);
        let deep = Config {
            layers: SHALLOW + 2,
            ..shallow.clone()
        };
        for level in CpuLevel::ALL {
            let fast = level.has_vnni();
            assert_eq!(net(&shallow, true).auto_is_int8(level), fast, "{level}");
            for other in [
                net(&shallow, false),
                net(&small(true, 1), true),
                net(&deep, true),
            ] {
                assert!(!other.auto_is_int8(level), "{:?}", other.config);
            }
        }
    }

    #[cfg(feature = "builtin")]
    #[test]
    fn of_the_built_in_models_the_live_one_is_in_int8() {
        for built_in in crate::checkpoint::builtin::ENHANCERS {
            let net = Net::parse(built_in.bytes, Path::new(built_in.name)).unwrap();
            for level in CpuLevel::ALL {
                let want = built_in.name == "builtin:live" && level.has_vnni();
                assert_eq!(net.auto_is_int8(level), want, "{} {level}", built_in.name);
            }
        }
    }

    #[test]
    fn the_expert_for_noise_is_taken_with_noise_alone() {
        let config = small(false, 1);
        let tensors = random_tensors(&config, 4);
        let prefixed = tensors
            .iter()
            .map(|(name, shape, values)| (format!("detail.{name}"), shape.clone(), values.clone()));
        let both: Vec<_> = tensors.iter().cloned().chain(prefixed).collect();
        let two = Net::parse(&write(&both, metadata(&config)), Path::new("test")).unwrap();
        let detail = two.detail.as_ref().unwrap();
        assert!(std::ptr::eq(two.expert(0.0), &two.base));
        assert!(std::ptr::eq(two.expert(0.1), detail));
        let alone = net(&config, false);
        assert!(std::ptr::eq(alone.expert(0.1), &alone.base));
    }

    #[test]
    fn noise_is_relative_to_the_strongest_that_was_learnt() {
        let mut net = net(&small(true, 1), false);
        net.config.default_noise = 0.25;
        assert_eq!((net.sigma(Some(0.0)), net.sigma(Some(1.0))), (0.0, 0.2));
        assert_eq!(net.sigma(None), 0.05);
    }
}
