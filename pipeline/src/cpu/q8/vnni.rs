// SPDX-License-Identifier: MPL-2.0
//! int8 dot products with AVX-512 VNNI: tiles of up to six rows by two vectors of 16 columns.

use std::arch::x86_64::*;

use super::{BLOCK, BLOCK_BYTES, GROUP, GROUPS, Q8Block};
use crate::cpu::gemm::{LANES, Tile};

/// # Safety
/// As [`Unit::tile`](super::Unit::tile), with AVX-512F and AVX-512 VNNI; the weights have 128 added.
#[target_feature(enable = "avx512f,avx512vnni")]
pub(super) unsafe fn tile(rows: usize, width: usize, tile: &Tile<Q8Block, u8>) {
    // Sums in f32 and in i32 leave room for two vectors of columns only.
    for column in (0..width).step_by(2 * LANES) {
        let strip = Strip { width, column };
        // SAFETY: passed on to the caller.
        unsafe {
            if width - column >= 2 * LANES {
                tall::<2>(rows, tile, strip);
            } else {
                tall::<1>(rows, tile, strip);
            }
        }
    }
}

/// Some columns of a panel.
#[derive(Clone, Copy)]
struct Strip {
    /// Columns of the panel.
    width: usize,
    /// First one of the strip.
    column: usize,
}

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn tall<const N: usize>(rows: usize, tile: &Tile<Q8Block, u8>, strip: Strip) {
    // SAFETY: passed on to the caller.
    unsafe {
        match rows {
            6 => sized::<6, N>(tile, strip),
            5 => sized::<5, N>(tile, strip),
            4 => sized::<4, N>(tile, strip),
            3 => sized::<3, N>(tile, strip),
            2 => sized::<2, N>(tile, strip),
            _ => sized::<1, N>(tile, strip),
        }
    }
}

/// # Safety
/// As [`tile`].
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn sized<const P: usize, const N: usize>(tile: &Tile<Q8Block, u8>, strip: Strip) {
    let Strip { width, column } = strip;
    // 12 sums of each kind, two weights and a broadcast: 27 of the 32 registers.
    let mut sums = [[_mm512_setzero_ps(); N]; P];
    // SAFETY: P rows of `depth` blocks, as many lines of `width` columns, and P rows of `width` sums are valid; 16 * N
    // columns from `column` on are inside of them.
    unsafe {
        let first = tile.sums.add(column);
        if tile.add {
            for (p, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(first.add(p * tile.sums_stride + n * LANES));
                }
            }
        }
        for block in 0..tile.depth {
            // A strip's groups are half of the lines that pass by.
            tile.ahead
                .fetch((column / (2 * LANES) * tile.depth + block) * GROUPS);
            let line = tile.weights.add(block * width * BLOCK_BYTES);
            let x = tile.x.add(block);
            let mut dots = [[_mm512_setzero_si512(); N]; P];
            for (p, dots) in dots.iter_mut().enumerate() {
                *dots = [_mm512_set1_epi32((*x.add(p * tile.x_stride)).offset); N];
            }
            for group in 0..GROUPS {
                let columns = line.add((group * width + column) * GROUP);
                let mut weights = [_mm512_setzero_si512(); N];
                for (n, weights) in weights.iter_mut().enumerate() {
                    *weights = _mm512_loadu_si512(columns.add(n * LANES * GROUP).cast());
                }
                for (p, dots) in dots.iter_mut().enumerate() {
                    let values = (*x.add(p * tile.x_stride)).values.as_ptr();
                    let values = values.add(group * GROUP).cast::<i32>().read_unaligned();
                    let values = _mm512_set1_epi32(values);
                    for (dot, weights) in dots.iter_mut().zip(weights) {
                        *dot = _mm512_dpbusd_epi32(*dot, weights, values);
                    }
                }
            }
            let scales = line.add(width * BLOCK + 2 * column);
            for n in 0..N {
                let scale = _mm256_loadu_si256(scales.add(2 * n * LANES).cast());
                let scale = _mm512_cvtph_ps(scale);
                for p in 0..P {
                    let rows = _mm512_set1_ps((*x.add(p * tile.x_stride)).scale);
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[p][n]), scale);
                    sums[p][n] = _mm512_fmadd_ps(scaled, rows, sums[p][n]);
                }
            }
        }
        for (p, sums) in sums.iter().enumerate() {
            for (n, sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(first.add(p * tile.sums_stride + n * LANES), *sum);
            }
        }
    }
}
