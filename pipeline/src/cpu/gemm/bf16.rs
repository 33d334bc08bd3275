// SPDX-License-Identifier: MPL-2.0
//! bf16 operands with AVX-512 BF16: pairs of products summed in f32.

use std::arch::x86_64::*;

use half::bf16;

use super::tile::{LANES, Tile};

/// # Safety
/// As [`Unit::tile`](super::Unit::tile), with AVX-512F and AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn tile(rows: usize, width: usize, tile: &Tile<bf16>) {
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
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn tall<const N: usize>(rows: usize, tile: &Tile<bf16>) {
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
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn sized<const P: usize, const N: usize>(tile: &Tile<bf16>) {
    // 24 sums, four weights and a broadcast: 29 of the 32 registers.
    let mut sums = [[_mm512_setzero_ps(); N]; P];
    // SAFETY: P rows of `depth` values, `depth / 2` lines of 16 * N pairs of weights and P rows of 16 * N sums are
    // valid; `bf16` is 16 bits, `__m512bh` any 512 bits.
    unsafe {
        if tile.add {
            for (p, sums) in sums.iter_mut().enumerate() {
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(tile.sums.add(p * tile.sums_stride + n * LANES));
                }
            }
        }
        for k in 0..tile.depth / 2 {
            tile.ahead.fetch(k);
            let line = tile.weights.add(2 * k * LANES * N);
            let mut weights = [_mm512_setzero_si512(); N];
            for (n, weights) in weights.iter_mut().enumerate() {
                *weights = _mm512_loadu_si512(line.add(2 * n * LANES).cast());
            }
            for (p, sums) in sums.iter_mut().enumerate() {
                let pair = tile.x.add(p * tile.x_stride + 2 * k).cast::<i32>();
                let x = _mm512_set1_epi32(pair.read_unaligned());
                for n in 0..N {
                    sums[n] = _mm512_dpbf16_ps(sums[n], as_bf16(x), as_bf16(weights[n]));
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

/// The same bits as 32 bf16 values.
#[target_feature(enable = "avx512f,avx512bf16")]
fn as_bf16(bits: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute(bits) }
}
