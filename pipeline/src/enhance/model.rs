// SPDX-License-Identifier: MPL-2.0
//! Loaded Stage II models: which there are, where they come from and what they can do.

use std::path::Path;
use std::sync::Arc;

use super::options::{EnhanceOptions, MAX_SCALE, MAX_SIDE, Target};
use super::strips::COMFORTABLE;
use crate::checkpoint::builtin;
use crate::compact::{CompactModel, Cpu, Job, Net};
use crate::cpu::level::CpuLevel;
use crate::error::{Error, Result};
use crate::media::frame::FrameFormat;
use crate::progress::{Event, Progress};
use crate::registry::{self, Source};
use crate::release::enhance::ReleasedEnhancer;
use crate::release::extent;
use crate::release::generate::Placement;
use crate::release::guided::FlowOptions;
use crate::runtime::{DeviceSpec, NumberType, Runtime};
use crate::size::Size;

/// Name of the step that loads a model, in progress events.
const LOAD: &str = "load";

/// A loaded Stage II model. Shared by any number of streams.
#[derive(Debug)]
pub struct Enhancer {
    name: String,
    runtime: Runtime,
    model: Model,
}

/// The models that can stand behind an [`Enhancer`].
#[derive(Debug)]
pub(crate) enum Model {
    /// The small convolutional flow model.
    Compact(Arc<CompactModel>),
    /// The diffusion transformer of the FlashVideo release.
    Released(Arc<ReleasedEnhancer>),
}

impl Enhancer {
    /// Loads `model`: `builtin`, `builtin:live`, the path of a compact model's safetensors file, or the folder of a
    /// FlashVideo release or of a converted one.
    ///
    /// Within a process the weights of one model for one device and number type are held once.
    ///
    /// With [`NumberType::Auto`] `builtin:live` computes in int8 on processors that have fast kernels for it (AVX-512 VNNI):
    /// what that loses is far below what the small model gains, and it takes half the time.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] when there is no such model, [`Error::Checkpoint`] when its file is damaged,
    /// [`Error::Device`] when it cannot run on the runtime's device, [`Error::Invalid`] when it is to compute in int8 and
    /// is not calibrated for that, [`Error::Io`].
    pub fn load(model: &str, runtime: &Runtime, progress: &Progress) -> Result<Arc<Self>> {
        progress.check()?;
        progress.emit(Event::Started {
            step: LOAD,
            total: None,
        });
        let loaded = if Path::new(model).is_dir() {
            if runtime.int8() {
                return Err(Error::invalid(format!(
                    "the model {model} does not compute in int8; use f32, bf16 or f16"
                )));
            }
            Model::Released(load_released(model, runtime, progress)?)
        } else {
            Model::Compact(load_compact(model, &runtime.for_compact())?)
        };
        progress.emit(Event::Finished { step: LOAD });
        Ok(Arc::new(Self {
            name: model.to_owned(),
            runtime: runtime.clone(),
            model: loaded,
        }))
    }

    /// The model's name as given to [`load`](Self::load).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the model runs.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn model(&self) -> &Model {
        &self.model
    }

    /// Whether the model reads [`EnhanceOptions::prompt`].
    pub fn reads_text(&self) -> bool {
        match &self.model {
            Model::Compact(_) => false,
            Model::Released(_) => true,
        }
    }

    /// Most frames after a frame that must be seen before it can be finished (1 for the built-in model's next neighbour);
    /// what is in force [`EnhanceStream::look_ahead`](super::stream::EnhanceStream::look_ahead) says.
    pub fn look_ahead(&self) -> usize {
        match &self.model {
            Model::Compact(model) => model.config().neighbours(),
            Model::Released(_) => extent::FULL.window - 1,
        }
    }

    /// Function evaluations that `None` in [`EnhanceOptions::steps`] stands for.
    pub fn default_steps(&self) -> usize {
        match &self.model {
            Model::Compact(model) => model.config().default_steps,
            Model::Released(_) => FlowOptions::default().steps,
        }
    }

    /// Size of the result for input of `size`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a factor is not a number in 1..=16, a side of an exact size is 0 or more than 16 times
    /// the input's, or a side is beyond 16384.
    pub fn output_size(&self, size: Size, target: Target) -> Result<Size> {
        if size.pixels() == 0 {
            return Err(Error::invalid(format!("a frame of {size} has no pixels")));
        }
        let output = match target {
            Target::Scale(scale) if (1.0..=MAX_SCALE).contains(&scale) => {
                let side = |side: usize| (side as f64 * scale).round() as usize;
                Size::new(side(size.width), side(size.height))
            }
            Target::Scale(scale) => {
                return Err(Error::invalid(format!(
                    "scale of {scale}; use 1 to {MAX_SCALE}"
                )));
            }
            Target::Size(output) => output,
        };
        let side_fits = |from: usize, to: usize| {
            (1..=MAX_SIDE).contains(&to) && to as f64 <= from as f64 * MAX_SCALE
        };
        if !side_fits(size.width, output.width) || !side_fits(size.height, output.height) {
            return Err(Error::invalid(format!(
                "cannot make {output} of {size}: sides may be 1 to {MAX_SIDE} pixels and {MAX_SCALE} times the input's"
            )));
        }
        Ok(output)
    }

    /// Whether a model has anything to do: a side gets larger and none smaller.
    pub(crate) fn enlarges(size: Size, output: Size) -> bool {
        output.width >= size.width && output.height >= size.height && output != size
    }

    /// Estimated peak memory in bytes of enhancing frames of `size`, beside the weights.
    ///
    /// With less than this a stream still works, in smaller parts and slower.
    ///
    /// # Errors
    /// As [`output_size`](Self::output_size).
    pub fn memory_needed(&self, format: &FrameFormat, size: Size, target: Target) -> Result<u64> {
        let output = self.output_size(size, target)?;
        match &self.model {
            Model::Compact(model) => {
                let job = Job {
                    format: *format,
                    input: size,
                    output,
                    steps: self.default_steps(),
                    threads: self.runtime.threads(),
                };
                Ok(model.plan(&job, COMFORTABLE).bytes())
            }
            Model::Released(model) => model.memory_needed(output),
        }
    }
}

/// Number of evaluations and whether the settings are possible at all.
pub(crate) fn resolve_steps(enhancer: &Enhancer, options: &EnhanceOptions) -> Result<usize> {
    options.check()?;
    Ok(options.steps.unwrap_or_else(|| enhancer.default_steps()))
}

fn load_released(
    folder: &str,
    runtime: &Runtime,
    progress: &Progress,
) -> Result<Arc<ReleasedEnhancer>> {
    let model = ReleasedEnhancer::open(folder, &Placement::from(runtime.clone()), false)?;
    model.preload(progress)?;
    Ok(Arc::new(model))
}

fn load_compact(model: &str, runtime: &Runtime) -> Result<Arc<CompactModel>> {
    let not_found = |hint: String| Error::ModelNotFound {
        name: model.to_owned(),
        hint,
    };
    let on_cpu = || match runtime.spec() {
        DeviceSpec::Cpu => Ok(()),
        other => Err(Error::Device {
            device: other.to_string(),
            hint: format!("the model {model} has kernels for the cpu only; use device=cpu"),
        }),
    };
    if let Some(builtin) = builtin::enhancer(model) {
        on_cpu()?;
        return on_processor(Source::Builtin(builtin.name), runtime, || {
            Net::parse(builtin.bytes, Path::new(builtin.name))
        });
    }
    let path = Path::new(model);
    if !path.exists() {
        let names: Vec<&str> = builtin::ENHANCERS.iter().map(|model| model.name).collect();
        return Err(not_found(if names.is_empty() {
            "there is no such file, and this build has no models inside (feature `builtin`)"
                .to_owned()
        } else {
            format!(
                "there is no such file; built in are {}. Other compact models are given by the path of their .safetensors file",
                names.join(" and ")
            )
        }));
    }
    on_cpu()?;
    on_processor(Source::path(path)?, runtime, || Net::open(path))
}

/// The model whose network `load` reads from `source`, made ready for the processor. Networks and what is made ready of
/// them are shared: the number type of a network may depend on what it is.
fn on_processor(
    source: Source,
    runtime: &Runtime,
    load: impl FnOnce() -> Result<Net>,
) -> Result<Arc<CompactModel>> {
    let level = CpuLevel::selected()?;
    let net = registry::shared(source.clone(), runtime, load)?;
    let runtime = match in_int8(&net, level, runtime.number_type()) {
        true => &runtime.with_int8(),
        false => runtime,
    };
    registry::shared(source, runtime, || {
        let cpu = Cpu {
            level: level.for_dtype(runtime.dtype()),
            int8: runtime.int8(),
        };
        CompactModel::new(net, level, &cpu)
    })
}

/// Whether `net` computes in int8 where it is calibrated for it: as asked for, or else as suits it and the processor.
pub(super) fn in_int8(net: &Net, level: CpuLevel, number: NumberType) -> bool {
    match number {
        NumberType::Auto => net.auto_is_int8(level),
        number => number == NumberType::Int8,
    }
}
