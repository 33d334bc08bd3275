// SPDX-License-Identifier: MPL-2.0
//! Group normalisation of clips `[frames, channels, height, width]` with SiLU, plain or modulated by a small picture.
//!
//! Two passes over the values: sums, then everything else at once. Statistics are taken over the channels of a group and
//! all frames.

use rayon::prelude::*;

use super::elementwise::silu;
use super::level::CpuLevel;
use super::vector::{Work, run};

/// Lanes of the sums: their order does not depend on the instruction set.
const LANES: usize = 8;
/// Values that are summed before they join the sum of their plane.
const STRETCH: usize = 1024;

/// Shape of a clip.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Channels of a frame.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Shape {
    fn plane(&self) -> usize {
        self.height * self.width
    }
}

/// What multiplies and what is added to the normalised values: small pictures `[latents, channels, rows, columns]`, which
/// are enlarged by repetition.
#[derive(Clone, Copy, Debug)]
pub struct Modulation<'a> {
    /// Factors.
    pub scale: &'a [f32],
    /// Addends.
    pub shift: &'a [f32],
    /// For each frame of the clip the picture that belongs to it.
    pub map: &'a [usize],
    /// Rows and columns.
    pub size: (usize, usize),
}

/// A factor and an addend for each channel that normalise `x` in `groups` groups and apply `gamma` and `beta`.
///
/// # Panics
/// When `gamma` and `beta` are not as long as there are channels, or the channels do not make that many groups.
pub fn affine(
    level: CpuLevel,
    x: &[f32],
    shape: Shape,
    groups: usize,
    (gamma, beta): (&[f32], &[f32]),
    epsilon: f64,
) -> Vec<(f32, f32)> {
    let channels = shape.channels;
    assert!(gamma.len() == channels && beta.len() == channels);
    assert!(groups > 0 && channels.is_multiple_of(groups));
    // Sums of single planes, joined in a fixed order: the result does not depend on the number of threads.
    let planes: Vec<(f64, f64)> = x
        .par_chunks(shape.plane().max(1))
        .map(|plane| run(level, Sums(plane)))
        .collect();
    let per_group = channels / groups;
    let mut sums = vec![(0.0, 0.0); groups];
    for (index, plane) in planes.iter().enumerate() {
        let group = &mut sums[index % channels / per_group];
        group.0 += plane.0;
        group.1 += plane.1;
    }
    let count = (x.len() / groups) as f64;
    (gamma.iter().zip(beta).enumerate())
        .map(|(channel, (gamma, beta))| {
            let (sum, squares) = sums[channel / per_group];
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0);
            let factor = f64::from(*gamma) / (variance + epsilon).sqrt();
            (factor as f32, (f64::from(*beta) - mean * factor) as f32)
        })
        .collect()
}

/// `out` = SiLU(`x` * factor + addend), or with a modulation SiLU((`x` * factor + addend) * scale + shift).
///
/// # Panics
/// When lengths do not fit together.
pub fn silu_affine(
    level: CpuLevel,
    x: &[f32],
    shape: Shape,
    affine: &[(f32, f32)],
    modulation: Option<Modulation<'_>>,
    out: &mut [f32],
) {
    let Shape {
        channels, width, ..
    } = shape;
    assert!(x.len() == out.len() && affine.len() == channels);
    if x.is_empty() {
        return;
    }
    let column_of: Vec<usize> = modulation.map_or_else(Vec::new, |modulation| {
        (0..width)
            .map(|column| column * modulation.size.1 / width)
            .collect()
    });
    out.par_chunks_mut(shape.plane())
        .zip(x.par_chunks(shape.plane()))
        .enumerate()
        .for_each_init(
            || (vec![0f32; width], vec![0f32; width]),
            |(factors, addends), (index, (to, from))| {
                let channel = index % channels;
                let affine = affine[channel];
                match modulation {
                    None => run(level, Plain { to, from, affine }),
                    Some(modulation) => {
                        let (rows, columns) = modulation.size;
                        let picture = modulation.map[index / channels] * channels + channel;
                        let part = picture * rows * columns..(picture + 1) * rows * columns;
                        let plane = ModulatedPlane {
                            to,
                            from,
                            affine,
                            scale: &modulation.scale[part.clone()],
                            shift: &modulation.shift[part],
                            rows,
                            column_of: &column_of,
                            factors,
                            addends,
                        };
                        run(level, plane);
                    }
                }
            },
        );
}

/// Sum and sum of squares.
struct Sums<'a>(&'a [f32]);

impl Work for Sums<'_> {
    type Result = (f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64) {
        let mut all = (0.0, 0.0);
        for part in self.0.chunks(STRETCH) {
            let (mut sums, mut squares) = ([0f64; LANES], [0f64; LANES]);
            for values in part.chunks(LANES) {
                for ((sum, square), value) in sums.iter_mut().zip(&mut squares).zip(values) {
                    let value = f64::from(*value);
                    *sum += value;
                    *square += value * value;
                }
            }
            all.0 += sums.iter().sum::<f64>();
            all.1 += squares.iter().sum::<f64>();
        }
        all
    }
}

struct Plain<'a> {
    to: &'a mut [f32],
    from: &'a [f32],
    affine: (f32, f32),
}

impl Work for Plain<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (factor, addend) = self.affine;
        for (to, from) in self.to.iter_mut().zip(self.from) {
            *to = silu(from * factor + addend);
        }
    }
}

struct ModulatedPlane<'a> {
    to: &'a mut [f32],
    from: &'a [f32],
    affine: (f32, f32),
    /// Each `[rows, columns]`.
    scale: &'a [f32],
    shift: &'a [f32],
    rows: usize,
    /// For each column of the plane that of the small picture.
    column_of: &'a [usize],
    factors: &'a mut [f32],
    addends: &'a mut [f32],
}

impl Work for ModulatedPlane<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let (factor, addend) = self.affine;
        let (width, columns) = (self.column_of.len(), self.scale.len() / self.rows);
        let height = self.to.len() / width;
        let mut current = None;
        let rows = self
            .to
            .chunks_exact_mut(width)
            .zip(self.from.chunks_exact(width));
        for (row, (to, from)) in rows.enumerate() {
            let source = row * self.rows / height;
            if current != Some(source) {
                current = Some(source);
                let scale = &self.scale[source * columns..][..columns];
                let shift = &self.shift[source * columns..][..columns];
                for (index, column) in self.column_of.iter().enumerate() {
                    self.factors[index] = factor * scale[*column];
                    self.addends[index] = addend * scale[*column] + shift[*column];
                }
            }
            let row = from.iter().zip(&*self.factors).zip(&*self.addends);
            for (to, ((from, factor), addend)) in to.iter_mut().zip(row) {
                *to = silu(from * factor + addend);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        channels: 6,
        height: 5,
        width: 37,
    };

    fn wave(len: usize, frequency: f32) -> Vec<f32> {
        (0..len)
            .map(|i| (i as f32 * frequency).sin() + 0.1)
            .collect()
    }

    /// The definition, value by value in f64.
    fn want(
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        modulation: Option<Modulation<'_>>,
    ) -> Vec<f64> {
        let plane = SHAPE.plane();
        let group_of = |index: usize| index / plane % SHAPE.channels / 2;
        (0..x.len())
            .map(|index| {
                let group: Vec<f64> = (0..x.len())
                    .filter(|other| group_of(*other) == group_of(index))
                    .map(|other| f64::from(x[other]))
                    .collect();
                let mean = group.iter().sum::<f64>() / group.len() as f64;
                let variance =
                    group.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / group.len() as f64;
                let channel = index / plane % SHAPE.channels;
                let mut value = (f64::from(x[index]) - mean) / (variance + 1e-6).sqrt();
                value = value * f64::from(gamma[channel]) + f64::from(beta[channel]);
                if let Some(modulation) = modulation {
                    let (row, column) = (index % plane / SHAPE.width, index % SHAPE.width);
                    let frame = index / plane / SHAPE.channels;
                    let (rows, columns) = modulation.size;
                    let at = ((modulation.map[frame] * SHAPE.channels + channel) * rows
                        + row * rows / SHAPE.height)
                        * columns
                        + column * columns / SHAPE.width;
                    value =
                        value * f64::from(modulation.scale[at]) + f64::from(modulation.shift[at]);
                }
                value / (1.0 + (-value).exp())
            })
            .collect()
    }

    #[test]
    fn all_levels_equal_the_definition() {
        let frames = 3;
        let x = wave(frames * SHAPE.channels * SHAPE.plane(), 0.11);
        let (gamma, beta) = (wave(SHAPE.channels, 0.3), wave(SHAPE.channels, 0.7));
        let (scale, shift) = (wave(2 * 6 * 2 * 4, 0.4), wave(2 * 6 * 2 * 4, 0.9));
        let modulation = Modulation {
            scale: &scale,
            shift: &shift,
            map: &[0, 1, 1],
            size: (2, 4),
        };
        for modulation in [None, Some(modulation)] {
            let want = want(&x, &gamma, &beta, modulation);
            for level in CpuLevel::ALL {
                let affine = affine(level, &x, SHAPE, 3, (&gamma, &beta), 1e-6);
                let mut out = vec![f32::NAN; x.len()];
                silu_affine(level, &x, SHAPE, &affine, modulation, &mut out);
                for (got, want) in out.iter().zip(&want) {
                    assert!(
                        (f64::from(*got) - want).abs() < 2e-6,
                        "{level}: {got} {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn nothing_is_normalised_to_nothing() {
        silu_affine(
            CpuLevel::Scalar,
            &[],
            SHAPE,
            &[(1.0, 0.0); 6],
            None,
            &mut [],
        );
    }
}
