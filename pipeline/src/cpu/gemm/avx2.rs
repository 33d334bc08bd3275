// SPDX-License-Identifier: MPL-2.0
//! f32 with AVX2 and FMA: tiles of up to six rows by two vectors of eight columns.

use std::arch::x86_64::*;

use super::tile::{LANES, Tile};

/// # Safety
/// As [`Unit::tile`](super::Unit::tile), with AVX2 and FMA; the width is 16.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn tile(rows: usize, tile: &Tile<f32>) {
    // SAFETY: passed on to the caller.
    unsafe {
        match rows {
            6 => sized::<6>(tile),
            5 => sized::<5>(tile),
            4 => sized::<4>(tile),
            3 => sized::<3>(tile),
            2 => sized::<2>(tile),
            _ => sized::<1>(tile),
        }
    }
}

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx2,fma")]
unsafe fn sized<const P: usize>(tile: &Tile<f32>) {
    let mut sums = [[_mm256_setzero_ps(); 2]; P];
    // SAFETY: P rows of `depth` values, `depth` lines of 16 weights and P rows of 16 sums are valid.
    unsafe {
        if tile.add {
            for (p, sums) in sums.iter_mut().enumerate() {
                let from = tile.sums.add(p * tile.sums_stride);
                *sums = [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
            }
        }
        for k in 0..tile.depth {
            let line = tile.weights.add(k * LANES);
            let (low, high) = (_mm256_loadu_ps(line), _mm256_loadu_ps(line.add(8)));
            for (p, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*tile.x.add(p * tile.x_stride + k));
                sums[0] = _mm256_fmadd_ps(x, low, sums[0]);
                sums[1] = _mm256_fmadd_ps(x, high, sums[1]);
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            let to = tile.sums.add(p * tile.sums_stride);
            _mm256_storeu_ps(to, sums[0]);
            _mm256_storeu_ps(to.add(8), sums[1]);
        }
    }
}
