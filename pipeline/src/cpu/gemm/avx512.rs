// SPDX-License-Identifier: MPL-2.0
//! f32 with AVX-512F: tiles of up to six rows by four vectors of 16 columns.

use std::arch::x86_64::*;

use super::tile::{LANES, Tile};

/// # Safety
/// As [`Unit::tile`](super::Unit::tile), with AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn tile(rows: usize, width: usize, tile: &Tile<f32>) {
    // SAFETY: passed on to the caller.
    unsafe {
        match width / LANES {
            4 => tall::<4>(rows, tile),
            3 => tall::<3>(rows, tile),
            2 => tall::<2>(rows, tile),
            _ => tall::<1>(rows, tile),
        }
    }
}

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f")]
unsafe fn tall<const N: usize>(rows: usize, tile: &Tile<f32>) {
    // SAFETY: passed on to the caller.
    unsafe {
        match rows {
            6 => sized::<6, N>(tile),
            5 => sized::<5, N>(tile),
            4 => sized::<4, N>(tile),
            3 => sized::<3, N>(tile),
            2 => sized::<2, N>(tile),
            _ => sized::<1, N>(tile),
        }
    }
}

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f")]
unsafe fn sized<const P: usize, const N: usize>(tile: &Tile<f32>) {
    // 24 sums, four weights and a broadcast: 29 of the 32 registers.
    let mut sums = [[_mm512_setzero_ps(); N]; P];
    // SAFETY: P rows of `depth` values, `depth` lines of 16 * N weights and P rows of 16 * N sums are valid.
    unsafe {
        if tile.add {
            for (p, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(tile.sums.add(p * tile.sums_stride + n * LANES));
                }
            }
        }
        for k in 0..tile.depth {
            tile.ahead.fetch(k);
            let line = tile.weights.add(k * LANES * N);
            let mut weights = [_mm512_setzero_ps(); N];
            for (n, weights) in weights.iter_mut().enumerate() {
                *weights = _mm512_loadu_ps(line.add(n * LANES));
            }
            for (p, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*tile.x.add(p * tile.x_stride + k));
                for n in 0..N {
                    sums[n] = _mm512_fmadd_ps(x, weights[n], sums[n]);
                }
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(tile.sums.add(p * tile.sums_stride + n * LANES), *sum);
            }
        }
    }
}
