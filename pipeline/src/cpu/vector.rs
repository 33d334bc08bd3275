// SPDX-License-Identifier: MPL-2.0
//! Plain loops compiled for each instruction set.

use super::level::CpuLevel;

/// A loop that the compiler turns into vector code. `run` must be `#[inline(always)]`, as must be what it calls.
pub trait Work {
    /// What comes out.
    type Result;

    /// Does it.
    fn run(self) -> Self::Result;
}

/// Runs `work` with the instructions of `level`, or of what the processor has if that is less.
pub fn run<W: Work>(level: CpuLevel, work: W) -> W::Result {
    #[cfg(target_arch = "x86_64")]
    {
        /// # Safety
        /// The processor must have AVX2 and FMA.
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<W: Work>(work: W) -> W::Result {
            work.run()
        }
        /// # Safety
        /// The processor must have AVX-512F, BW, DQ and VL.
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512<W: Work>(work: W) -> W::Result {
            work.run()
        }
        match level.available() {
            CpuLevel::Scalar => {}
            // SAFETY: the processor was found to have this.
            CpuLevel::Avx2 => return unsafe { avx2(work) },
            // SAFETY: as above.
            CpuLevel::Avx512 | CpuLevel::Bf16 => return unsafe { avx512(work) },
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = level;
    work.run()
}

/// `value` cut to a whole number within 0..=`max`, which is 65535 at most; NaN gives 0.
///
/// A plain conversion would limit to what an i32 holds, and that keeps compilers from using vector instructions.
// `clamp` would keep a NaN.
#[allow(clippy::manual_clamp)]
#[inline(always)]
pub fn cut(value: f32, max: f32) -> i32 {
    let limited = value.max(0.0).min(max.max(0.0).min(65535.0));
    // SAFETY: `min` and `max` give the other number where one is NaN, so that this is one from 0 to 65535.
    unsafe { limited.to_int_unchecked() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_cut_and_limited() {
        let cases = [
            (1.99, 1),
            (-0.5, 0),
            (254.9, 254),
            (255.5, 255),
            (1e30, 255),
            (f32::NAN, 0),
        ];
        for (value, want) in cases {
            assert_eq!(cut(value, 255.0), want, "{value}");
        }
        assert_eq!(cut(f32::INFINITY, f32::INFINITY), 65535);
        assert_eq!(cut(f32::NEG_INFINITY, f32::NAN), 0);
        assert_eq!(cut(3.0, -1.0), 0);
    }
}
