//! Plain loops compiled for each instruction set.

use super::cpu::CpuLevel;

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
        match level.min(CpuLevel::detected()) {
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
