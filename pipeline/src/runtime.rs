// SPDX-License-Identifier: MPL-2.0
//! Where the arithmetic runs: device, number type and threads.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use candle_core::{DType, Device};

use crate::cpu::level::best_dtype;
use crate::error::{Error, Result};

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

/// In which numbers a model computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NumberType {
    /// What suits model and device: bf16 on GPUs, f32 on the processor. There the compact models, whose results change by
    /// less than 0.001 dB, use bf16 where it is faster, and one of them int8 (see [`Enhancer::load`](crate::Enhancer::load)).
    #[default]
    Auto,
    /// 32-bit floating point.
    F32,
    /// 16 bits with the range of f32; compact models use f32 on processors without instructions for it.
    Bf16,
    /// IEEE half precision; compact models use f32 on the processor.
    F16,
    /// 8-bit integers in what the calibration of a compact model covers, on the processor; everything else is in the
    /// fastest floating point type.
    Int8,
}

impl NumberType {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::F32, Self::Bf16, Self::F16, Self::Int8];
}

impl FromStr for NumberType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|number| number.to_string() == text)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "number type \"{text}\"; use auto, f32, bf16, f16 or int8"
                ))
            })
    }
}

impl fmt::Display for NumberType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

/// Device, number type and thread pool of one model. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Runtime {
    spec: DeviceSpec,
    device: Device,
    number: NumberType,
    dtype: DType,
    compact: DType,
    int8: bool,
    pool: Arc<rayon::ThreadPool>,
}

impl Runtime {
    /// Opens `device` for numbers of the type `number` and starts `threads` workers, `None` for one on each core.
    ///
    /// # Errors
    /// [`Error::Device`] when the device cannot be opened, [`Error::Invalid`] when threads cannot start or the device
    /// does not compute in `number`.
    pub fn new(device: DeviceSpec, number: NumberType, threads: Option<usize>) -> Result<Self> {
        let on_cpu = device == DeviceSpec::Cpu;
        let (dtype, compact) = match number {
            NumberType::Auto if on_cpu => (DType::F32, best_dtype()),
            NumberType::Auto | NumberType::Bf16 => (DType::BF16, DType::BF16),
            NumberType::F32 => (DType::F32, DType::F32),
            NumberType::F16 => (DType::F16, DType::F16),
            NumberType::Int8 if on_cpu => (best_dtype(), best_dtype()),
            NumberType::Int8 => {
                return Err(Error::invalid(format!(
                    "number type int8 on {device}; it has kernels for the cpu only: use device=cpu, or bf16 or f16"
                )));
            }
        };
        if threads == Some(0) {
            return Err(Error::invalid(
                "0 threads; use 1 or more, or leave the number out for one on each core",
            ));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            // 0 stands for one on each core.
            .num_threads(threads.unwrap_or(0))
            .thread_name(|index| format!("flashvideo-{index}"))
            .build()
            .map_err(|e| Error::invalid(format!("cannot start the threads of a model: {e}")))?;
        Ok(Self {
            spec: device,
            device: device.open()?,
            number,
            dtype,
            compact,
            int8: number == NumberType::Int8,
            pool: Arc::new(pool),
        })
    }

    /// The processor in f32 with one thread for each core.
    ///
    /// # Errors
    /// As [`Runtime::new`].
    pub fn cpu() -> Result<Self> {
        Self::new(DeviceSpec::Cpu, NumberType::F32, None)
    }

    /// The device by name.
    pub fn spec(&self) -> DeviceSpec {
        self.spec
    }

    /// The opened device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The number type as it was asked for.
    pub fn number_type(&self) -> NumberType {
        self.number
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

    /// The same runtime for a compact model that computes in int8 where it is calibrated for it.
    #[must_use]
    pub(crate) fn with_int8(&self) -> Self {
        Self {
            int8: true,
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
            .field("number", &self.number)
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
    fn number_types_round_trip() {
        for number in NumberType::ALL {
            assert_eq!(number.to_string().parse::<NumberType>().unwrap(), number);
        }
        let error = "int4".parse::<NumberType>().unwrap_err().to_string();
        assert!(error.contains("int4") && error.contains("bf16"), "{error}");
    }

    fn on_cpu(number: NumberType) -> Runtime {
        Runtime::new(DeviceSpec::Cpu, number, Some(1)).unwrap()
    }

    #[test]
    fn compact_models_use_the_fastest_number_type_unless_another_is_named() {
        let auto = on_cpu(NumberType::Auto);
        assert_eq!(
            (auto.dtype(), auto.for_compact().dtype()),
            (DType::F32, best_dtype())
        );
        let named = on_cpu(NumberType::F32);
        assert_eq!(named.for_compact().dtype(), DType::F32);
        assert_eq!(named.number_type(), NumberType::F32);
    }

    #[test]
    fn int8_is_for_the_processor() {
        let runtime = on_cpu(NumberType::Int8);
        assert!(runtime.int8() && runtime.dtype() == best_dtype());
        let error = Runtime::new(DeviceSpec::Metal, NumberType::Int8, Some(1)).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }

    #[test]
    fn no_threads_at_all_are_refused() {
        let error = Runtime::new(DeviceSpec::Cpu, NumberType::F32, Some(0)).unwrap_err();
        assert!(error.to_string().contains("1 or more"), "{error}");
        let all = Runtime::new(DeviceSpec::Cpu, NumberType::F32, None).unwrap();
        assert!(all.threads() > 0);
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn absent_device_names_a_way_out() {
        let error = Runtime::new(DeviceSpec::Cuda(0), NumberType::F32, Some(1)).unwrap_err();
        assert!(error.to_string().contains("device=cpu"), "{error}");
    }
}
