// SPDX-License-Identifier: MPL-2.0
//! The noise that a flow starts from: fixed to the picture, so that still things stay still.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

use crate::cpu::s2d::LATENT;

/// Adds `sigma` times standard normal noise to a latent `[rows, width, 16]` whose first row is row `first` of its
/// picture; rows above the picture are negative.
///
/// Row y of the noise of a seed is ChaCha8 stream y of that seed: every frame gets the same noise, whatever the number
/// of threads and however the picture is cut into strips.
pub fn add_noise(latent: &mut [f32], width: usize, first: i64, sigma: f32, seed: u64) {
    latent
        .par_chunks_exact_mut(width * LATENT)
        .enumerate()
        .for_each(|(index, row)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            // A negative row takes a stream from the far end.
            rng.set_stream(first.wrapping_add_unsigned(index as u64).cast_unsigned());
            for value in row {
                let noise: f32 = StandardNormal.sample(&mut rng);
                *value += sigma * noise;
            }
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(rows: usize, first: i64, seed: u64) -> Vec<f32> {
        let mut latent = vec![0.0; rows * 8 * LATENT];
        add_noise(&mut latent, 8, first, 0.5, seed);
        latent
    }

    #[test]
    fn the_same_whatever_the_threads() {
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
        };
        let one = pool(1).install(|| noise(40, 0, 7));
        assert_eq!(pool(5).install(|| noise(40, 0, 7)), one);
        assert_ne!(noise(40, 0, 8), one);
    }

    #[test]
    fn part_equals_whole() {
        let row = 8 * LATENT;
        assert_eq!(noise(4, 9, 3), noise(40, 0, 3)[9 * row..13 * row]);
        assert_eq!(noise(4, 0, 3), noise(6, -2, 3)[2 * row..]);
    }

    #[test]
    fn mean_and_strength() {
        let noise = noise(400, 0, 1);
        let count = noise.len() as f32;
        let mean = noise.iter().sum::<f32>() / count;
        let deviation = (noise.iter().map(|v| v * v).sum::<f32>() / count).sqrt();
        assert!(
            mean.abs() < 0.01 && (deviation - 0.5).abs() < 0.01,
            "{mean} {deviation}"
        );
    }
}
