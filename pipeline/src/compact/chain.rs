//! The network at one flow time: folded, packed, and run layer by layer over bands of rows.

use std::ops::Range;

use rayon::prelude::*;

use super::Pool;
use super::weights::{Config, Conv, EMBED, Net};
use crate::clip::Size;
use crate::error::Result;
use crate::kernels::conv3x3::{Activation, Cell, Conv3x3, Plane};
use crate::kernels::cpu::CpuLevel;
use crate::kernels::s2d::LATENT;
use crate::kernels::vector::{Work, run};
use crate::progress::CancelToken;

/// A [`Net`] whose gains and shifts for one (t, sigma) are folded into its kernels.
#[derive(Debug)]
pub(super) struct Chain<T> {
    head: Conv3x3<T>,
    head_slope: Vec<f32>,
    body: Vec<Conv3x3<T>>,
    slopes: Vec<Vec<f32>>,
    tail: Conv3x3<T>,
    residual: bool,
    channels: usize,
}

/// What the network reads at one evaluation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    /// Size of the grid.
    pub size: Size,
    /// x_t, `[h, w, 16]`.
    pub latent: &'a [f32],
    /// Luma of the small frames, each `[h, w]`.
    pub frames: &'a [&'a [f32]],
}

/// Buffers of one run, kept for the next.
#[derive(Debug)]
pub(super) struct Scratch<T> {
    input: Plane<T>,
    first: Plane<T>,
    second: Plane<T>,
}

impl<T: Activation> Scratch<T> {
    fn new(rows: usize, width: usize, inputs: usize, channels: usize) -> Self {
        Self {
            input: Plane::new(rows, width, inputs),
            first: Plane::new(rows, width, channels),
            second: Plane::new(rows, width, channels),
        }
    }
}

/// A part of the picture that goes through all layers at once.
#[derive(Clone, Debug)]
pub(super) struct Band {
    /// Its rows of the result.
    pub rows: Range<usize>,
    /// The rows of the picture that it reads: its own and a halo.
    pub read: Range<usize>,
}

impl Band {
    /// Rows, counted from the first that is read, that a layer must give when `after` layers follow it.
    pub fn needed(&self, after: usize) -> Range<usize> {
        let Range {
            start: top,
            end: bottom,
        } = self.read;
        self.rows.start.saturating_sub(after).max(top) - top
            ..(self.rows.end + after).min(bottom) - top
    }
}

/// Rows in memory for bands of about `band` rows, halo included (too few are raised), and the bands of a picture of
/// `height` rows that goes through `convolutions` layers.
pub(super) fn bands(
    height: usize,
    convolutions: usize,
    band: usize,
) -> (usize, impl Iterator<Item = Band>) {
    let band = band.max(2 * convolutions + 1).min(height);
    let new_rows = if band == height {
        height
    } else {
        band - 2 * convolutions
    };
    let bands = (0..height).step_by(new_rows.max(1)).map(move |start| {
        let rows = start..(start + new_rows).min(height);
        Band {
            read: rows.start.saturating_sub(convolutions)..(rows.end + convolutions).min(height),
            rows,
        }
    });
    (band, bands)
}

/// Calls `work` with each band and its parts of `base` and `out`, `[h, width, 16]`.
///
/// # Errors
/// The first of `work`.
pub(super) fn each_band(
    mut bands: impl Iterator<Item = Band>,
    width: usize,
    base: Option<&[f32]>,
    out: &mut [f32],
    mut work: impl FnMut(&Band, Option<&[f32]>, &mut [f32]) -> Result<()>,
) -> Result<()> {
    bands.try_for_each(|band| {
        let part = band.rows.start * width * LATENT..band.rows.end * width * LATENT;
        work(&band, base.map(|base| &base[part.clone()]), &mut out[part])
    })
}

/// Rows that a band of the picture holds in memory, given what it may cost: all of them, or some and the halo.
pub(super) fn band_rows<T>(config: &Config, size: Size, budget: u64) -> usize {
    let inputs = Conv3x3::<f32>::padded_inputs(LATENT + config.frames);
    let row = ((size.width + 2) * (inputs + 2 * config.channels) * size_of::<T>()) as u64;
    // Below twice the halo most of the work would be done twice or more.
    let least = 4 * config.convolutions();
    ((budget / row) as usize).max(least).min(size.height)
}

/// Bytes of the buffers for bands of `rows` rows.
pub(super) fn scratch_bytes<T: Activation>(config: &Config, width: usize, rows: usize) -> u64 {
    let inputs = Conv3x3::<f32>::padded_inputs(LATENT + config.frames);
    (Plane::<T>::bytes(rows, width, inputs) + 2 * Plane::<T>::bytes(rows, width, config.channels))
        as u64
}

impl<T: Activation> Chain<T> {
    /// Folds and packs `net` for flow time `t` and noise strength `sigma`.
    pub fn new(net: &Net, config: &Config, level: CpuLevel, t: f64, sigma: f64) -> Self {
        let pack = |conv: &Conv| Conv3x3::new(level, &conv.weight, &conv.bias, conv.inputs);
        let body = folded(net, config, t, sigma);
        Self {
            head: pack(&net.head),
            head_slope: net.head_slope.clone(),
            body: body.iter().map(pack).collect(),
            slopes: net.slopes.clone(),
            tail: pack(&net.tail),
            residual: config.residual,
            channels: config.channels,
        }
    }

    /// `out` = `base` + `scale` * velocity, or the scaled velocity alone; `[h, w, 16]`.
    ///
    /// Works on bands of `band` rows in memory, halo included; any number gives the same result (too few are raised).
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    #[allow(clippy::too_many_arguments)]
    pub fn run(
        &self,
        input: Input<'_>,
        base: Option<&[f32]>,
        scale: f32,
        out: &mut [f32],
        band: usize,
        pool: &Pool<Scratch<T>>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let width = input.size.width;
        let (rows, bands) = bands(input.size.height, self.body.len() + 2, band);
        let inputs = Conv3x3::<T>::padded_inputs(LATENT + input.frames.len());
        pool.lend(
            |scratch| scratch.input.rows() == rows && scratch.input.width() == width,
            || Scratch::new(rows, width, inputs, self.channels),
            |scratch| {
                each_band(bands, width, base, out, |band, base, out| {
                    self.band(input, band, base, scale, out, scratch, cancel)
                })
            },
        )
    }

    /// One band of the result.
    #[allow(clippy::too_many_arguments)]
    fn band(
        &self,
        input: Input<'_>,
        band: &Band,
        base: Option<&[f32]>,
        scale: f32,
        out: &mut [f32],
        scratch: &mut Scratch<T>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let convolutions = self.body.len() + 2;
        let (rows, needed) = (band.read.len(), |after| band.needed(after));
        let Scratch {
            input: plane,
            first,
            second,
        } = scratch;
        // Where the band ends at the picture's edge, the row below it must be the zero border again.
        for plane in [&mut *first, &mut *second] {
            plane.clear_below(rows);
        }
        plane.clear_below(rows);
        fill(plane, input, band.read.clone(), T::from_f32);
        self.head.prelu(
            plane,
            &self.head_slope,
            first,
            needed(convolutions - 1),
            cancel,
        )?;
        let (mut from, mut to) = (first, second);
        for (index, conv) in self.body.iter().enumerate() {
            let range = needed(convolutions - 2 - index);
            if !self.residual {
                conv.prelu(from, &self.slopes[index], to, range, cancel)?;
                std::mem::swap(&mut from, &mut to);
            } else if index % 2 == 0 {
                conv.prelu(from, &self.slopes[index / 2], to, range, cancel)?;
            } else {
                conv.add(to, from, range, cancel)?;
            }
        }
        self.tail.step(from, needed(0), base, scale, out, cancel)
    }
}

/// Latent and frames side by side, in the number type of the network; `convert` must be `#[inline(always)]`.
pub(super) fn fill<T: Cell>(
    plane: &mut Plane<T>,
    input: Input<'_>,
    rows: Range<usize>,
    convert: impl Fn(f32) -> T + Copy + Sync,
) {
    let (width, channels, stride) = (plane.width(), plane.channels(), plane.stride());
    let first = rows.start;
    plane
        .rows_mut(0..rows.len())
        .par_chunks_exact_mut(stride)
        .enumerate()
        .for_each(|(index, out)| {
            let start = (first + index) * width;
            let out = &mut out[channels..][..width * channels];
            let latent = &input.latent[start * LATENT..][..width * LATENT];
            let pixels = Pixels {
                out: &mut *out,
                channels,
                latent,
                convert,
            };
            run(CpuLevel::detected(), pixels);
            for (frame, luma) in input.frames.iter().enumerate() {
                let luma = &luma[start..][..width];
                for (out, value) in out.chunks_exact_mut(channels).zip(luma) {
                    out[LATENT + frame] = convert(*value);
                }
            }
        });
}

/// The latent's values at the start of each pixel.
struct Pixels<'a, T, F> {
    out: &'a mut [T],
    channels: usize,
    latent: &'a [f32],
    convert: F,
}

impl<T: Cell, F: Fn(f32) -> T> Work for Pixels<'_, T, F> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (blocks, _) = self.latent.as_chunks::<LATENT>();
        for (out, latent) in self.out.chunks_exact_mut(self.channels).zip(blocks) {
            let mut rounded = [T::default(); LATENT];
            for (out, value) in rounded.iter_mut().zip(latent) {
                *out = (self.convert)(*value);
            }
            out[..LATENT].copy_from_slice(&rounded);
        }
    }
}

/// The body's convolutions with the gains and shifts of one (t, sigma) folded in.
pub(super) fn folded(net: &Net, config: &Config, t: f64, sigma: f64) -> Vec<Conv> {
    let film = film(net, t, sigma);
    let channels = config.channels;
    let mut body = net.body.clone();
    for (index, conv) in body.iter_mut().enumerate() {
        let activation = match (config.residual, index % 2) {
            (false, _) => index,
            (true, 0) => index / 2,
            (true, _) => continue,
        };
        let (gains, shifts) = film[activation * 2 * channels..][..2 * channels].split_at(channels);
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
fn film(net: &Net, t: f64, sigma: f64) -> Vec<f32> {
    let (t, sigma) = (t as f32, sigma as f32);
    let embed: Vec<f32> = net
        .embed
        .0
        .chunks_exact(2)
        .zip(&net.embed.1)
        .map(|(weight, bias)| {
            let value = weight[0] * t + weight[1] * sigma + bias;
            value / (1.0 + (-value).exp())
        })
        .collect();
    net.film
        .0
        .chunks_exact(EMBED)
        .zip(&net.film.1)
        .map(|(weight, bias)| weight.iter().zip(&embed).map(|(w, e)| w * e).sum::<f32>() + bias)
        .collect()
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::weights::Weights;
    use super::super::weights::tests::{metadata, random_tensors, small, write};
    use super::*;

    fn chain<T: Activation>(config: &Config, level: CpuLevel) -> Chain<T> {
        let bytes = write(&random_tensors(config, 9), metadata(config));
        let weights = Weights::parse(&bytes, std::path::Path::new("test")).unwrap();
        Chain::new(&weights.base, config, level, 0.25, 0.1)
    }

    fn picture(size: Size, channels: usize) -> Vec<f32> {
        (0..size.pixels() * channels)
            .map(|i| ((i * 7919) % 211) as f32 / 105.0 - 1.0)
            .collect()
    }

    fn run<T: Activation>(chain: &Chain<T>, size: Size, frames: usize, band: usize) -> Vec<f32> {
        let (latent, luma) = (picture(size, LATENT), picture(size, 1));
        let input = Input {
            size,
            latent: &latent,
            frames: &vec![&luma[..]; frames],
        };
        let mut out = vec![f32::NAN; latent.len()];
        let pool = Pool::new();
        // Twice: the second run meets used buffers.
        for _ in 0..2 {
            chain
                .run(
                    input,
                    Some(&latent),
                    0.5,
                    &mut out,
                    band,
                    &pool,
                    &CancelToken::new(),
                )
                .unwrap();
        }
        out
    }

    #[test]
    fn bands_equal_the_whole() {
        for residual in [false, true] {
            let config = small(residual, 3);
            let chain = chain::<f32>(&config, CpuLevel::detected());
            let size = Size::new(5, 37);
            let whole = run(&chain, size, 3, 37);
            for band in [1, 9, 13, 16, 36] {
                assert_eq!(run(&chain, size, 3, band), whole, "{band} rows");
            }
        }
    }

    #[test]
    fn levels_agree() {
        for residual in [false, true] {
            let config = small(residual, 1);
            for size in [Size::new(1, 1), Size::new(13, 7)] {
                let want = run(&chain::<f32>(&config, CpuLevel::Scalar), size, 1, 99);
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
                    close(run(&chain::<f32>(&config, level), size, 1, 99), 1e-5);
                    close(run(&chain::<bf16>(&config, level), size, 1, 99), 2e-2);
                }
            }
        }
    }

    #[test]
    fn a_small_budget_still_makes_progress() {
        let config = small(true, 3);
        let size = Size::new(1920, 1080);
        let rows = band_rows::<f32>(&config, size, 0);
        assert!(rows > 2 * config.convolutions());
        assert_eq!(band_rows::<f32>(&config, size, u64::MAX), 1080);
        assert!(
            scratch_bytes::<f32>(&config, 1920, rows) < scratch_bytes::<f32>(&config, 1920, 1080)
        );
    }
}
