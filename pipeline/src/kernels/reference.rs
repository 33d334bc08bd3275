//! The reference latent: Catmull-Rom enlargement by 4, written straight into the latent layout.

use std::ops::Range;

use rayon::prelude::*;

use super::s2d::{FACTOR, LATENT};
use crate::clip::Size;

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
pub fn reference_latent(plane: &[f32], size: Size, rows: Range<usize>, out: &mut [f32]) {
    let weights = weights();
    let (width, first) = (size.width, rows.start);
    out.par_chunks_exact_mut(width * LATENT)
        .enumerate()
        .for_each_init(
            || [(); FACTOR].map(|()| vec![0f32; width + 2 * REACH]),
            |lines, (index, out)| {
                let row = first + index;
                let source: [&[f32]; TAPS] = std::array::from_fn(|tap| {
                    let row = (row + tap).saturating_sub(REACH).min(size.height - 1);
                    &plane[row * width..][..width]
                });
                // Down the columns first, once for each of the four rows inside the pixel.
                for (line, weights) in lines.iter_mut().zip(&weights) {
                    for (x, out) in line[REACH..][..width].iter_mut().enumerate() {
                        *out = source
                            .iter()
                            .zip(weights)
                            .map(|(row, weight)| row[x] * weight)
                            .sum();
                    }
                    let (left, right) = (line[REACH], line[REACH + width - 1]);
                    line[..REACH].fill(left);
                    line[REACH + width..].fill(right);
                }
                for (x, block) in out.chunks_exact_mut(LATENT).enumerate() {
                    for (line, block) in lines.iter().zip(block.chunks_exact_mut(FACTOR)) {
                        let taps = &line[x..][..TAPS];
                        for (out, weights) in block.iter_mut().zip(&weights) {
                            *out = taps
                                .iter()
                                .zip(weights)
                                .map(|(value, weight)| value * weight)
                                .sum();
                        }
                    }
                }
            },
        );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::s2d::latent_to_plane;

    fn enlarged(plane: &[f32], size: Size) -> Vec<f32> {
        let mut latent = vec![0.0; size.pixels() * LATENT];
        reference_latent(plane, size, 0..size.height, &mut latent);
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
    fn part_equals_whole() {
        let size = Size::new(5, 9);
        let plane: Vec<f32> = (0..45).map(|v| ((v * 37) % 19) as f32).collect();
        let mut whole = vec![0.0; 45 * LATENT];
        reference_latent(&plane, size, 0..9, &mut whole);
        let mut part = vec![0.0; 3 * 5 * LATENT];
        reference_latent(&plane, size, 4..7, &mut part);
        assert_eq!(part, whole[4 * 5 * LATENT..7 * 5 * LATENT]);
    }
}
