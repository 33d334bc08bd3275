// SPDX-License-Identifier: MPL-2.0
//! Which instruction sets the kernels use: found at run time, limited by `FLASHVIDEO_CPU`.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;

use crate::error::{Error, Result};

/// Environment variable that limits the kernels to a level: `scalar`, `avx2`, `avx512` or `bf16`.
pub const CPU_VARIABLE: &str = "FLASHVIDEO_CPU";

/// Instruction set of the kernels, from slow to fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CpuLevel {
    /// Plain Rust; any processor.
    Scalar,
    /// AVX2 and FMA, f32.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL), f32.
    Avx512,
    /// AVX-512 with bf16 dot products: bf16 weights and activations, f32 sums.
    Bf16,
}

impl CpuLevel {
    /// All levels, from slow to fast.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Bf16];

    /// The fastest level of this processor.
    pub fn detected() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            // Every processor with AVX-512F but the Xeon Phi has the other three.
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx512 {
                if is_x86_feature_detected!("avx512bf16") {
                    return Self::Bf16;
                }
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Scalar
    }

    /// The level to use: the detected one, or the one that [`CPU_VARIABLE`] names.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the variable names no level or one that this processor lacks.
    pub fn selected() -> Result<Self> {
        match std::env::var_os(CPU_VARIABLE) {
            None => Ok(Self::detected()),
            Some(value) => Self::choose(&value.to_string_lossy(), Self::detected()),
        }
    }

    /// As [`selected`](Self::selected), for code that cannot report a wrong name: that one is an error wherever a model is
    /// loaded.
    pub fn selected_or_detected() -> Self {
        Self::selected().unwrap_or_else(|_| Self::detected())
    }

    /// This level, or the processor's where that is less. Kernels of any level can be asked for; what runs is one that the
    /// processor has.
    pub fn available(self) -> Self {
        self.min(Self::detected())
    }

    fn choose(value: &str, detected: Self) -> Result<Self> {
        if value.is_empty() {
            return Ok(detected);
        }
        let level: Self = value.parse()?;
        if level > detected {
            return Err(Error::invalid(format!(
                "{CPU_VARIABLE}={level}, but this processor has {detected} at most"
            )));
        }
        Ok(level)
    }

    /// Whether kernels at or below this level may use int8 dot products: AVX-512 VNNI, which many processors with AVX-512
    /// have.
    pub fn has_vnni(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.available() >= Self::Avx512 {
            return is_x86_feature_detected!("avx512vnni");
        }
        false
    }

    /// Whether kernels at or below this level may convert between f16 and f32: F16C, which every processor with AVX2 has
    /// though nothing says that it must.
    pub fn has_f16c(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.available() >= Self::Avx2 {
            return is_x86_feature_detected!("f16c");
        }
        false
    }

    /// The level for kernels of `dtype`: bf16 dot products only where bf16 was asked for.
    pub fn for_dtype(self, dtype: DType) -> Self {
        if dtype == DType::BF16 {
            self
        } else {
            self.min(Self::Avx512)
        }
    }
}

impl fmt::Display for CpuLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for CpuLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|level| level.to_string() == text)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "{CPU_VARIABLE}={text}: the levels are scalar, avx2, avx512 and bf16"
                ))
            })
    }
}

/// The number type that is fastest on this processor: BF16 where it has bf16 dot products, else F32.
pub fn best_dtype() -> DType {
    match CpuLevel::selected_or_detected() {
        CpuLevel::Bf16 => DType::BF16,
        _ => DType::F32,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn names_round_trip() {
        for level in CpuLevel::ALL {
            assert_eq!(level.to_string().parse::<CpuLevel>().unwrap(), level);
        }
        assert!("sse9".parse::<CpuLevel>().is_err());
    }

    #[test]
    fn a_level_the_processor_lacks_is_refused() {
        let error = CpuLevel::choose("avx512", CpuLevel::Avx2)
            .unwrap_err()
            .to_string();
        assert!(error.contains("avx2 at most"), "{error}");
        assert_eq!(
            CpuLevel::choose("scalar", CpuLevel::Bf16).unwrap(),
            CpuLevel::Scalar
        );
        assert_eq!(
            CpuLevel::choose("", CpuLevel::Avx2).unwrap(),
            CpuLevel::Avx2
        );
    }

    /// The Rust files below `folder` that are no tests.
    fn sources(folder: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let tests = |path: &PathBuf| path.file_stem().is_some_and(|name| name == "tests");
        paths
            .filter(|path| !tests(path))
            .flat_map(|path| match path.is_dir() {
                true => sources(&path),
                false => vec![path],
            })
            .collect()
    }

    /// A level is selected once and handed on: whoever asks the processor instead does not honour [`CPU_VARIABLE`].
    #[test]
    fn nothing_else_asks_the_processor() {
        let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let this = Path::new(file!()).file_name().unwrap();
        let mut asked = Vec::new();
        let files = sources(&library);
        assert!(files.iter().any(|path| path.ends_with(this)));
        for path in files {
            let text = std::fs::read_to_string(&path).unwrap();
            // What follows are the file's own tests.
            let code = text.split("mod tests {").next().unwrap();
            let asks = ["CpuLevel::detected", "is_x86_feature_detected"];
            let program = path.strip_prefix(&library).unwrap().starts_with("bin");
            if !program && !path.ends_with(this) && asks.iter().any(|asks| code.contains(asks)) {
                asked.push(path);
            }
        }
        assert!(asked.is_empty(), "{asked:?}");
    }

    #[test]
    fn f32_never_computes_in_bf16() {
        assert_eq!(CpuLevel::Bf16.for_dtype(DType::F32), CpuLevel::Avx512);
        assert_eq!(CpuLevel::Bf16.for_dtype(DType::BF16), CpuLevel::Bf16);
        assert_eq!(CpuLevel::Avx2.for_dtype(DType::BF16), CpuLevel::Avx2);
    }
}
