// SPDX-License-Identifier: MPL-2.0
//! What the machine is and what it can do at most.

use flashvideo::cpu::level::CpuLevel;
use rayon::prelude::*;
use serde_json::{Value, json};

/// Name, levels, threads and the measured peak of its multiply-adds with `threads` threads.
pub fn describe(threads: usize) -> Value {
    let levels: Vec<String> = CpuLevel::ALL
        .into_iter()
        .filter(|level| *level <= CpuLevel::detected())
        .map(|level| level.to_string())
        .collect();
    json!({
        "cpu": name(),
        "levels": levels,
        "threads": threads,
        "peak_f32_gflops": peak(threads, Kind::F32),
        "peak_bf16_gflops": peak(threads, Kind::Bf16),
    })
}

fn name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.to_owned(),
    )
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    F32,
    Bf16,
}

/// Best of some tries, in G operations per second; a multiply-add is two. None where there is no instruction for it.
fn peak(threads: usize, kind: Kind) -> Option<f64> {
    let rounds = 4_000_000u64;
    let operations = per_round(kind)? * rounds as f64 * threads as f64;
    let best = (0..8)
        .map(|_| {
            let start = std::time::Instant::now();
            (0..threads)
                .into_par_iter()
                .for_each(|_| spin(kind, rounds));
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    Some((operations / best / 1e9).round())
}

/// Independent sums, more than any processor has multiply-adds under way.
#[cfg(target_arch = "x86_64")]
const SUMS: usize = 12;

/// Operations in a round of [`spin`].
fn per_round(kind: Kind) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let lanes = match (CpuLevel::detected(), kind) {
            (CpuLevel::Bf16, Kind::Bf16) => 32.0,
            (CpuLevel::Bf16 | CpuLevel::Avx512, Kind::F32) => 16.0,
            (CpuLevel::Avx2, Kind::F32) => 8.0,
            _ => return None,
        };
        Some(2.0 * lanes * SUMS as f64)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = kind;
        None
    }
}

#[cfg(target_arch = "x86_64")]
fn spin(kind: Kind, rounds: u64) {
    match (CpuLevel::detected(), kind) {
        // SAFETY: the processor was found to have the instructions.
        (CpuLevel::Bf16, Kind::Bf16) => unsafe { x86::bf16(rounds) },
        // SAFETY: as above.
        (CpuLevel::Bf16 | CpuLevel::Avx512, Kind::F32) => unsafe { x86::avx512(rounds) },
        // SAFETY: as above.
        (CpuLevel::Avx2, Kind::F32) => unsafe { x86::avx2(rounds) },
        _ => {}
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn spin(_kind: Kind, _rounds: u64) {}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::SUMS;

    /// # Safety
    /// The processor must have AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2(rounds: u64) {
        let x = black_box(_mm256_set1_ps(0.5));
        let mut sums = [x; SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, x, x);
            }
        }
        black_box(sums);
    }

    /// # Safety
    /// The processor must have AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512(rounds: u64) {
        let x = black_box(_mm512_set1_ps(0.5));
        let mut sums = [x; SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, x, x);
            }
        }
        black_box(sums);
    }

    /// # Safety
    /// The processor must have AVX-512F and AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn bf16(rounds: u64) {
        let x = black_box(_mm512_set1_epi32(0x3f00_3f00));
        // SAFETY: both are 512 bits without invalid values.
        let x: __m512bh = unsafe { std::mem::transmute(x) };
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, x);
            }
        }
        black_box(sums);
    }
}
