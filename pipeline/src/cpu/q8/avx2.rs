// SPDX-License-Identifier: MPL-2.0
//! int8 dot products with AVX2: tiles of up to three rows by two vectors of eight columns.

use std::arch::x86_64::*;

use super::{BLOCK, BLOCK_BYTES, GROUP, GROUPS, Q8Block};
use crate::cpu::gemm::{LANES, Tile};

/// Rows whose sums, beside the weights, fit into the registers.
const ROWS: usize = 3;

/// # Safety
/// As [`Unit::tile`](super::Unit::tile), with AVX2, FMA and F16C; the width is 16 and the weights are signed.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn tile(rows: usize, tile: &Tile<Q8Block, u8>) {
    for first in (0..rows).step_by(ROWS) {
        // SAFETY: passed on to the caller.
        unsafe {
            match rows - first {
                1 => sized::<1>(tile, first),
                2 => sized::<2>(tile, first),
                _ => sized::<ROWS>(tile, first),
            }
        }
    }
}

/// # Safety
/// As [`tile`], for P rows from `first` on.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn sized<const P: usize>(tile: &Tile<Q8Block, u8>, first: usize) {
    let ones = _mm256_set1_epi16(1);
    // SAFETY: P rows of `depth` blocks, as many lines of 16 columns and P rows of 16 sums are valid.
    unsafe {
        let x = tile.x.add(first * tile.x_stride);
        let sums = tile.sums.add(first * tile.sums_stride);
        if !tile.add {
            for p in 0..P {
                std::slice::from_raw_parts_mut(sums.add(p * tile.sums_stride), LANES).fill(0.0);
            }
        }
        for block in 0..tile.depth {
            tile.ahead
                .fetch((first / ROWS * tile.depth + block) * GROUPS);
            let line = tile.weights.add(block * LANES * BLOCK_BYTES);
            let x = x.add(block);
            let mut dots = [[_mm256_setzero_si256(); 2]; P];
            for group in 0..GROUPS {
                let columns = line.add(group * LANES * GROUP).cast::<__m256i>();
                let weights = [
                    _mm256_loadu_si256(columns),
                    _mm256_loadu_si256(columns.add(1)),
                ];
                let magnitudes = weights.map(|weights| _mm256_abs_epi8(weights));
                for (p, dots) in dots.iter_mut().enumerate() {
                    let values = (*x.add(p * tile.x_stride)).values.as_ptr();
                    let values = values.add(group * GROUP).cast::<i32>().read_unaligned();
                    let values = _mm256_set1_epi32(values);
                    for n in 0..2 {
                        // The first operand has no sign: it moves to the values, which are never -128. Two products are
                        // 2 * 128 * 127 at most, which 16 bits hold.
                        let signed = _mm256_sign_epi8(values, weights[n]);
                        let pairs = _mm256_maddubs_epi16(magnitudes[n], signed);
                        dots[n] = _mm256_add_epi32(dots[n], _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            let scales = line.add(LANES * BLOCK).cast::<__m128i>();
            for n in 0..2 {
                let scale = _mm256_cvtph_ps(_mm_loadu_si128(scales.add(n)));
                for (p, dots) in dots.iter().enumerate() {
                    let rows = _mm256_set1_ps((*x.add(p * tile.x_stride)).scale);
                    let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dots[n]), scale);
                    // The sums stay in memory: the registers are full.
                    let sum = sums.add(p * tile.sums_stride + n * LANES / 2);
                    _mm256_storeu_ps(sum, _mm256_fmadd_ps(scaled, rows, _mm256_loadu_ps(sum)));
                }
            }
        }
    }
}
