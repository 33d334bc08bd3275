//! Where the arithmetic runs: device, number type and threads.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use candle_core::{DType, Device};

use crate::error::{Error, Result};
use crate::kernels::cpu::best_dtype;

/// A device by name: `cpu`, `cuda:N` or `metal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceSpec {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this index.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let unknown = || Error::Device {
            device: text.to_owned(),
            hint: "use cpu, cuda:N (for example cuda:0) or metal".to_owned(),
        };
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "metal" => Ok(Self::Metal),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl DeviceSpec {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Error::Device`] when support is not compiled in or the device is absent.
    pub fn open(self) -> Result<Device> {
        let missing = |hint: String| Error::Device {
            device: self.to_string(),
            hint,
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(missing(
                "this build has no CUDA support; use device=cpu or build with the feature `cuda`"
                    .to_owned(),
            )),
            Self::Metal if !cfg!(feature = "metal") => Err(missing(
                "this build has no Metal support; use device=cpu or build with the feature `metal`"
                    .to_owned(),
            )),
            Self::Cuda(index) => Device::new_cuda(index).map_err(|e| missing(e.to_string())),
            Self::Metal => Device::new_metal(0).map_err(|e| missing(e.to_string())),
        }
    }
}

/// Device, number type and thread pool of one model. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Runtime {
    spec: DeviceSpec,
    device: Device,
    dtype: DType,
    compact: DType,
    int8: bool,
    pool: Arc<rayon::ThreadPool>,
}

impl Runtime {
    /// Opens `device` and starts `threads` workers (0: one for each core).
    ///
    /// # Errors
    /// [`Error::Device`] when the device cannot be opened, [`Error::Invalid`] when threads cannot start.
    pub fn new(device: DeviceSpec, dtype: DType, threads: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("flashvideo-{index}"))
            .build()
            .map_err(|e| Error::invalid(format!("cannot start {threads} threads: {e}")))?;
        Ok(Self {
            spec: device,
            device: device.open()?,
            dtype,
            compact: dtype,
            int8: false,
            pool: Arc::new(pool),
        })
    }

    /// As [`Runtime::new`], in the number type that suits the device: bf16 on GPUs, f32 on the processor. There the
    /// compact models, whose results change by less than 0.001 dB, use bf16 where it is faster.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn open(device: DeviceSpec, threads: usize) -> Result<Self> {
        match device {
            DeviceSpec::Cpu => Ok(Self {
                compact: best_dtype(),
                ..Self::new(device, DType::F32, threads)?
            }),
            DeviceSpec::Cuda(_) | DeviceSpec::Metal => Self::new(device, DType::BF16, threads),
        }
    }

    /// As [`Runtime::new`], in the number type `f32`, `bf16`, `f16` or `int8`.
    ///
    /// `int8` is for compact models on the processor: what their calibration covers is in int8, everything else in the
    /// fastest number type (see [`int8`](Self::int8)).
    ///
    /// # Errors
    /// As [`Runtime::new`], and [`Error::Invalid`] for other names and for `int8` on another device.
    pub fn with_number_type(device: DeviceSpec, name: &str, threads: usize) -> Result<Self> {
        let dtype = match name {
            "int8" if device == DeviceSpec::Cpu => {
                return Ok(Self {
                    int8: true,
                    ..Self::new(device, best_dtype(), threads)?
                });
            }
            "int8" => {
                return Err(Error::invalid(format!(
                    "number type \"int8\" on {device}; it has kernels for the cpu only"
                )));
            }
            "f32" => DType::F32,
            "bf16" => DType::BF16,
            "f16" => DType::F16,
            other => {
                return Err(Error::invalid(format!(
                    "number type \"{other}\"; use f32, bf16, f16 or int8"
                )));
            }
        };
        Self::new(device, dtype, threads)
    }

    /// The processor in f32 with one thread for each core.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn cpu() -> Result<Self> {
        Self::new(DeviceSpec::Cpu, DType::F32, 0)
    }

    /// The device by name.
    pub fn spec(&self) -> DeviceSpec {
        self.spec
    }

    /// The opened device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Number type of weights and activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The same runtime in the number type of compact models.
    #[must_use]
    pub fn for_compact(&self) -> Self {
        Self {
            dtype: self.compact,
            ..self.clone()
        }
    }

    /// Whether compact models are to compute in int8 where they are calibrated for it.
    pub fn int8(&self) -> bool {
        self.int8
    }

    /// Number of worker threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `work` inside the pool; all rayon parallelism below it uses these threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("device", &self.spec.to_string())
            .field("dtype", &self.dtype)
            .field("int8", &self.int8)
            .field("threads", &self.threads())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_round_trip() {
        for name in ["cpu", "cuda:0", "cuda:3", "metal"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
        for name in ["gpu", "cuda:x", "cpu:0", ""] {
            assert!(name.parse::<DeviceSpec>().is_err(), "{name}");
        }
    }

    #[test]
    fn compact_models_use_the_fastest_number_type_unless_another_is_named() {
        let open = Runtime::open(DeviceSpec::Cpu, 1).unwrap();
        assert_eq!(
            (open.dtype(), open.for_compact().dtype()),
            (DType::F32, best_dtype())
        );
        let named = Runtime::with_number_type(DeviceSpec::Cpu, "f32", 1).unwrap();
        assert_eq!(named.for_compact().dtype(), DType::F32);
    }

    #[test]
    fn int8_is_for_the_processor() {
        let runtime = Runtime::with_number_type(DeviceSpec::Cpu, "int8", 1).unwrap();
        assert!(runtime.int8() && runtime.dtype() == best_dtype());
        for (device, name) in [(DeviceSpec::Metal, "int8"), (DeviceSpec::Cpu, "int4")] {
            let error = Runtime::with_number_type(device, name, 1).unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn absent_device_names_a_way_out() {
        let error = Runtime::new(DeviceSpec::Cuda(0), DType::F32, 1).unwrap_err();
        assert!(error.to_string().contains("device=cpu"), "{error}");
    }
}
