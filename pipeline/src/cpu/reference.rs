// SPDX-License-Identifier: MPL-2.0
//! The reference latent: Catmull-Rom enlargement by 4, written straight into the latent layout.

use std::ops::Range;

use rayon::prelude::*;

use super::level::CpuLevel;
use super::s2d::{FACTOR, LATENT};
use super::transpose::{SQUARE, turn};
use super::vector::{Work, run};
use crate::size::Size;

/// Taps on each axis.
const TAPS: usize = 5;
/// Pixels on each side of the centre that a tap may reach.
pub const REACH: usize = TAPS / 2;

/// Weights of the five taps for each of the four positions inside a small pixel.
fn weights() -> [[f32; TAPS]; FACTOR] {
    let weight = |distance: f64| match distance.abs() {
        d if d < 1.0 => 1.5 * d.powi(3) - 2.5 * d.powi(2) + 1.0,
        d if d < 2.0 => -0.5 * d.powi(3) + 2.5 * d.powi(2) - 4.0 * d + 2.0,
        _ => 0.0,
    };
    std::array::from_fn(|phase| {
        let position = (phase as f64 + 0.5) / FACTOR as f64 - 0.5;
        std::array::from_fn(|tap| weight(tap as f64 - REACH as f64 - position) as f32)
    })
}

/// The reference latent `[rows, width, 16]` of `rows` of `plane` `[height, width]`; edges are repeated.
pub fn reference_latent(
    level: CpuLevel,
    plane: &[f32],
    size: Size,
    rows: Range<usize>,
    out: &mut [f32],
) {
    let weights = weights();
    let (width, first) = (size.width, rows.start);
    out.par_chunks_exact_mut(width * LATENT)
        .enumerate()
        .for_each_init(
            || (vec![0f32; width + 2 * REACH], vec![0f32; width * LATENT]),
            |(line, phases), (index, out)| {
                let row = first + index;
                let source = std::array::from_fn(|tap| {
                    let row = (row + tap).saturating_sub(REACH).min(size.height - 1);
                    &plane[row * width..][..width]
                });
                let work = Row {
                    level,
                    weights: &weights,
                    source,
                    line,
                    phases,
                    out,
                };
                run(level, work);
            },
        );
}

/// One row of the latent.
struct Row<'a> {
    level: CpuLevel,
    weights: &'a [[f32; TAPS]; FACTOR],
    /// The rows under the taps.
    source: [&'a [f32]; TAPS],
    /// Room for a row with [`REACH`] pixels on both sides.
    line: &'a mut [f32],
    /// Room for the 16 values of the pixels, each `[width]`.
    phases: &'a mut [f32],
    out: &'a mut [f32],
}

impl Work for Row<'_> {
    type Result = ();

    #[inline(always)]
    fn run(self) {
        let [s0, s1, s2, s3, s4] = self.source;
        let width = s0.len();
        // Down the columns first, once for each of the four rows inside the pixel.
        for (w, phases) in self
            .weights
            .iter()
            .zip(self.phases.chunks_exact_mut(FACTOR * width))
        {
            let line = &mut self.line[..width + 2 * REACH];
            let inside = line[REACH..][..width].iter_mut();
            let source = s0.iter().zip(s1).zip(s2.iter().zip(s3)).zip(s4);
            for (out, (((a, b), (c, d)), e)) in inside.zip(source) {
                *out = a * w[0] + b * w[1] + c * w[2] + d * w[3] + e * w[4];
            }
            let (left, right) = (line[REACH], line[REACH + width - 1]);
            line[..REACH].fill(left);
            line[REACH + width..].fill(right);
            for (w, phase) in self.weights.iter().zip(phases.chunks_exact_mut(width)) {
                let taps = |tap: usize| line[tap..][..width].iter();
                let source = taps(0).zip(taps(1)).zip(taps(2).zip(taps(3))).zip(taps(4));
                for (out, (((a, b), (c, d)), e)) in phase.iter_mut().zip(source) {
                    *out = a * w[0] + b * w[1] + c * w[2] + d * w[3] + e * w[4];
                }
            }
        }
        let mut square = [[0f32; SQUARE]; SQUARE];
        for (index, pixels) in self.out.chunks_mut(SQUARE * LATENT).enumerate() {
            let count = pixels.len() / LATENT;
            let from = &self.phases[index * SQUARE..];
            turn(self.level, from, width, (LATENT, count), &mut square);
            for (pixel, values) in pixels.chunks_exact_mut(LATENT).zip(&square) {
                pixel.copy_from_slice(values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::s2d::latent_to_plane;

    fn enlarged(plane: &[f32], size: Size) -> Vec<f32> {
        let mut latent = vec![0.0; size.pixels() * LATENT];
        reference_latent(
            CpuLevel::detected(),
            plane,
            size,
            0..size.height,
            &mut latent,
        );
        let mut large = vec![0.0; latent.len()];
        latent_to_plane(&latent, size.width, &mut large);
        large
    }

    #[test]
    fn taps_of_every_position_sum_to_one() {
        for row in weights() {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn flat_stays_flat_at_any_size() {
        for (width, height) in [(1, 1), (1, 5), (7, 1), (3, 4)] {
            let size = Size::new(width, height);
            for value in enlarged(&vec![0.3; size.pixels()], size) {
                assert!((value - 0.3).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_ramp_stays_a_ramp_inside() {
        // Catmull-Rom reproduces straight lines; the outer three pixels feel the repeated edge.
        let size = Size::new(16, 1);
        let ramp: Vec<f32> = (0..16).map(|x| x as f32).collect();
        let large = enlarged(&ramp, size);
        for (x, value) in large.iter().enumerate().take(52).skip(12) {
            let want = (x as f32 + 0.5) / 4.0 - 0.5;
            assert!((value - want).abs() < 1e-4, "{x}: {value} {want}");
        }
    }

    #[test]
    fn levels_agree() {
        for (width, height) in [(1, 1), (15, 3), (16, 2), (33, 4), (100, 5)] {
            let size = Size::new(width, height);
            let plane: Vec<f32> = (0..size.pixels())
                .map(|v| ((v * 7919) % 211) as f32 / 105.0 - 1.0)
                .collect();
            let of = |level| {
                let mut latent = vec![f32::NAN; size.pixels() * LATENT];
                reference_latent(level, &plane, size, 0..height, &mut latent);
                latent
            };
            let want = of(CpuLevel::Scalar);
            for level in CpuLevel::ALL {
                for (got, want) in of(level).iter().zip(&want) {
                    assert!((got - want).abs() < 1e-5, "{level} {size}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn part_equals_whole() {
        let size = Size::new(5, 9);
        let plane: Vec<f32> = (0..45).map(|v| ((v * 37) % 19) as f32).collect();
        let mut whole = vec![0.0; 45 * LATENT];
        reference_latent(CpuLevel::detected(), &plane, size, 0..9, &mut whole);
        let mut part = vec![0.0; 3 * 5 * LATENT];
        reference_latent(CpuLevel::detected(), &plane, size, 4..7, &mut part);
        assert_eq!(part, whole[4 * 5 * LATENT..7 * 5 * LATENT]);
    }
}
