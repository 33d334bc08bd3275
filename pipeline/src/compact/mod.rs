//! The compact flow model: a small convolutional velocity field on space-to-depth latents of luma.
//!
//! The latent of a frame is its luma at four times the size, `[h, w, 16]` over the small grid ([`kernels::s2d`]);
//! the reference latent is the Catmull-Rom enlargement, computed straight into that layout. The network reads x_t,
//! the small luma of the frame and of its neighbours in time, and (through gains and shifts) the flow time and the
//! strength of the noise. Chroma and alpha never enter it.
//!
//! [`kernels::s2d`]: crate::kernels::s2d

mod buffers;
mod chain;
mod enlarge;
mod int8;
mod luma;
mod noise;
mod scene;
mod state;
mod strips;
mod weights;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, DType, Storage, Tensor};
use half::bf16;

use self::buffers::{Pool, Rows, copied, shape};
use self::chain::{Chain, Evaluation, Input, Step, float_layers};
use self::int8::Int8Chain;
use self::state::State;
use self::weights::Weights;
use crate::clip::{Frame, Size};
use crate::error::{Error, Result};
use crate::kernels::conv3x3::bands::{Bands, Layer};
use crate::kernels::conv3x3::{Activation, Cell};
use crate::kernels::cpu::CpuLevel;
use crate::kernels::reference::reference_latent;
use crate::kernels::resize::ResizeBuffers;
use crate::kernels::s2d::{FACTOR, LATENT};
use crate::progress::{CancelToken, Progress};
use crate::solver::{FlowTime, LatentCodec, VelocityField};

pub use self::enlarge::{Enlarge, Work, enlarge};
pub use self::luma::LumaPlane;
pub use self::noise::add_noise;
pub use self::scene::Signature;
pub use self::strips::{StripPlan, StripRequest};
pub use self::weights::Config;

/// Shift of the time grid that the model was trained with, that of the released model.
pub const SHIFT: f64 = 2.5;
/// Packed networks that are kept: those of the last times and noise strengths.
const KEPT_CHAINS: usize = 16;
/// Files beyond this are no compact models.
const MAX_FILE: u64 = 1 << 30;

/// What the velocity of some frames depends on beside x and t.
#[derive(Clone, Debug)]
pub struct Condition {
    /// For each frame its own luma and that of its neighbours, in order of time; as many as the model sees.
    pub windows: Vec<Vec<Arc<LumaPlane>>>,
    /// Strength of the noise in x at t = 0, in model units.
    pub sigma: f64,
    /// Whether layers of the whole picture may be in memory; without them it takes longer and gives the same result.
    pub planes: bool,
}

/// A compact model with its weights. Shared by any number of streams.
#[derive(Debug)]
pub struct CompactModel {
    weights: Weights,
    level: CpuLevel,
    engine: Engine,
    int8: Option<Int8>,
    /// States between the first and the last evaluation of a flow.
    states: Pool<[Vec<f32>; 2]>,
    resizing: Pool<ResizeBuffers>,
}

/// The network in int8 with its buffers.
#[derive(Debug)]
struct Int8 {
    chain: Int8Chain,
    bands: Pool<Bands<u8>>,
}

/// The number type of the activations with its caches.
#[derive(Debug)]
enum Engine {
    F32(Cache<f32>),
    Bf16(Cache<bf16>),
}

/// A network with the bits of the flow time and of the noise strength that it is for.
type Kept<T> = ((u64, u64), Arc<Chain<T>>);

#[derive(Debug)]
struct Cache<T> {
    chains: Mutex<Vec<Kept<T>>>,
    bands: Pool<Bands<T>>,
}

impl CompactModel {
    /// Reads the model at `path` for numbers of `dtype`.
    ///
    /// # Errors
    /// [`Error::Io`], or as [`from_bytes`](Self::from_bytes).
    pub fn open(path: &Path, dtype: DType) -> Result<Self> {
        let length = std::fs::metadata(path)
            .map_err(|e| Error::io(path, e))?
            .len();
        if length > MAX_FILE {
            let problem = format!("has {length} bytes; compact models have a few MB");
            return Err(Error::checkpoint(path, problem));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_bytes(&bytes, path, dtype)
    }

    /// Parses a model's bytes; `path` is for messages. BF16 is used where the processor has dot products for it, and
    /// f32 elsewhere.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] that names every wrong setting and tensor, [`Error::Invalid`] for a wrong
    /// [`CPU_VARIABLE`](crate::kernels::cpu::CPU_VARIABLE).
    pub fn from_bytes(bytes: &[u8], path: &Path, dtype: DType) -> Result<Self> {
        let level = CpuLevel::selected()?.for_dtype(dtype);
        Ok(Self::new(Weights::parse(bytes, path)?, level))
    }

    fn new(weights: Weights, level: CpuLevel) -> Self {
        let engine = if level == CpuLevel::Bf16 {
            Engine::Bf16(Cache::new())
        } else {
            Engine::F32(Cache::new())
        };
        Self {
            weights,
            level,
            engine,
            int8: None,
            states: Pool::new(),
            resizing: Pool::new(),
        }
    }

    /// The same model with its evaluations at t = 0 without noise in int8, where the processor has fast kernels for it
    /// (AVX-512 VNNI); all other evaluations, and other processors, keep the number type that it has.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the model's file has no calibrated ranges, on any processor.
    pub fn in_int8(self) -> Result<Self> {
        let fast = self.level.has_vnni();
        let chain = self.int8_chain()?;
        Ok(Self {
            int8: fast.then(|| Int8::new(chain)),
            ..self
        })
    }

    fn int8_chain(&self) -> Result<Int8Chain> {
        Int8Chain::new(&self.weights.base, self.config(), self.level).ok_or_else(|| {
            Error::invalid(
                "this model has no calibrated ranges, which int8 needs; add them with training/calibrate.py, or use \
                 bf16 or f32",
            )
        })
    }

    /// Whether evaluations at t = 0 without noise are in int8.
    pub fn is_int8(&self) -> bool {
        self.int8.is_some()
    }

    /// Shape and defaults.
    pub fn config(&self) -> &Config {
        &self.weights.config
    }

    /// The level whose kernels run.
    pub fn level(&self) -> CpuLevel {
        self.level
    }

    /// Strength in model units of the requested `noise` in 0..=1; `None` takes the model's default.
    pub fn sigma(&self, noise: Option<f64>) -> f64 {
        noise.unwrap_or(self.config().default_noise) * self.config().detail_sigma
    }

    /// Bytes of the buffers of so many threads for pictures of `size`, with layers of whole pictures or without.
    fn buffer_bytes(&self, size: Size, planes: bool, threads: usize) -> u64 {
        let picture = (size, planes, threads);
        fn bytes<C: Cell>(
            layers: &[Layer<C>],
            (size, planes, threads): (Size, bool, usize),
        ) -> u64 {
            shape(layers, size, planes).bytes(threads)
        }
        // With several evaluations the first has buffers of its own.
        let int8 = self.int8.as_ref();
        int8.map_or(0, |int8| bytes(int8.chain.layers(), picture))
            + match self.engine {
                Engine::F32(_) => bytes(&float_layers::<f32>(self.config()), picture),
                Engine::Bf16(_) => bytes(&float_layers::<bf16>(self.config()), picture),
            }
    }

    /// The reference latent `[1, h, w, 16]` of one picture.
    fn reference(&self, luma: &LumaPlane) -> Vec<f32> {
        let mut latent = vec![0.0; luma.size.pixels() * LATENT];
        reference_latent(
            self.level,
            &luma.data,
            luma.size,
            0..luma.size.height,
            &mut latent,
        );
        latent
    }

    /// One evaluation for all frames of x `[n, h, w, 16]`.
    fn evaluate(
        &self,
        x: &Tensor,
        at: FlowTime,
        condition: &Condition,
        step: Step,
        cancel: &CancelToken,
    ) -> Result<Tensor> {
        let (frames, height, width, channels) = x.dims4()?;
        let size = Size::new(width, height);
        let fits = |window: &Vec<Arc<LumaPlane>>| {
            window.len() == self.config().frames && window.iter().all(|luma| luma.size == size)
        };
        if channels != LATENT
            || condition.windows.len() != frames
            || !condition.windows.iter().all(fits)
        {
            return Err(Error::invalid(format!(
                "a latent of {:?} with {} windows; expected [frames, height, width, {LATENT}] and for each frame a window \
                 of {} planes of its size",
                x.dims(),
                condition.windows.len(),
                self.config().frames
            )));
        }
        let length = size.pixels() * LATENT;
        let mut out = vec![0.0; length * frames];
        values(x, |values| {
            for (index, window) in condition.windows.iter().enumerate() {
                let planes: Vec<&[f32]> = window.iter().map(|luma| &luma.data[..]).collect();
                let input = Input {
                    size,
                    state: State::Latent(&values[index * length..][..length]),
                    frames: &planes,
                };
                let rows = copied(&mut out[index * length..][..length], height);
                let at = (at.t, condition.sigma);
                self.run(at, input, step, condition.planes, rows, cancel)?;
            }
            Ok(())
        })?;
        Ok(Tensor::from_vec(
            out,
            (frames, height, width, LATENT),
            x.device(),
        )?)
    }

    /// One evaluation, at flow time and noise strength `at`, for one frame.
    fn run<O: Send>(
        &self,
        at: (f64, f64),
        input: Input<'_>,
        step: Step,
        planes: bool,
        rows: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let picture = (input.size, planes);
        if let Some(int8) = &self.int8
            && at == (0.0, 0.0)
        {
            let chain = &int8.chain;
            let evaluation = Evaluation { chain, input, step };
            return int8.bands.run(&evaluation, picture, rows, cancel);
        }
        match &self.engine {
            Engine::F32(cache) => {
                let chain = &*cache.chain(self, at);
                let evaluation = Evaluation { chain, input, step };
                cache.bands.run(&evaluation, picture, rows, cancel)
            }
            Engine::Bf16(cache) => {
                let chain = &*cache.chain(self, at);
                let evaluation = Evaluation { chain, input, step };
                cache.bands.run(&evaluation, picture, rows, cancel)
            }
        }
    }
}

impl Int8 {
    fn new(chain: Int8Chain) -> Self {
        Self {
            chain,
            bands: Pool::new(),
        }
    }
}

/// Lends the values of a latent to `work` without copying them (unless they are not contiguous).
fn values<R>(latent: &Tensor, work: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let latent = latent.contiguous()?;
    let (storage, layout) = latent.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => work(&values[start..end]),
        _ => Err(Error::invalid(format!(
            "a latent of {:?} on {:?}; the compact model computes on f32 on the cpu",
            latent.dtype(),
            latent.device()
        ))),
    }
}

impl<T: Activation> Cache<T> {
    fn new() -> Self {
        Self {
            chains: Mutex::new(Vec::new()),
            bands: Pool::new(),
        }
    }

    /// The network of one flow time and noise strength.
    fn chain(&self, model: &CompactModel, (t, sigma): (f64, f64)) -> Arc<Chain<T>> {
        let key = (t.to_bits(), sigma.to_bits());
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = chains.iter().position(|(kept, _)| *kept == key) {
            // The last used one is the last to go.
            let entry = chains.remove(index);
            let chain = entry.1.clone();
            chains.push(entry);
            return chain;
        }
        let weights = &model.weights;
        let net = match &weights.detail {
            Some(detail) if sigma > 0.0 => detail,
            _ => &weights.base,
        };
        let chain = Arc::new(Chain::new(net, &weights.config, model.level, t, sigma));
        if chains.len() == KEPT_CHAINS {
            chains.remove(0);
        }
        chains.push((key, chain.clone()));
        chain
    }
}

impl VelocityField for CompactModel {
    type Condition = Condition;

    fn velocity(
        &self,
        x: &Tensor,
        at: FlowTime,
        condition: &Condition,
        progress: &Progress,
    ) -> Result<Tensor> {
        let step = Step {
            keep: false,
            scale: 1.0,
        };
        self.evaluate(x, at, condition, step, progress.cancel_token())
    }

    fn advance(
        &self,
        x: Tensor,
        at: FlowTime,
        condition: &Condition,
        progress: &Progress,
    ) -> Result<Tensor> {
        let step = Step {
            keep: true,
            scale: at.dt as f32,
        };
        self.evaluate(&x, at, condition, step, progress.cancel_token())
    }
}

/// Latents are `[frames, h, w, 16]`; the target must be four times the size of the frames.
impl LatentCodec for CompactModel {
    fn encode(&self, frames: &[Frame], target: Size, progress: &Progress) -> Result<Tensor> {
        let Some(size) = frames.first().map(Frame::size) else {
            return Err(Error::invalid("no frames to encode"));
        };
        check_target(size, target)?;
        let mut latents = Vec::with_capacity(frames.len() * size.pixels() * LATENT);
        for frame in frames {
            progress.check()?;
            if frame.size() != size {
                return Err(Error::invalid(format!(
                    "frames of {size} and {} together",
                    frame.size()
                )));
            }
            latents.append(&mut self.reference(&LumaPlane::of(frame)));
        }
        let shape = (frames.len(), size.height, size.width, LATENT);
        Ok(Tensor::from_vec(latents, shape, &candle_core::Device::Cpu)?)
    }

    fn decode(
        &self,
        latent: &Tensor,
        like: &[Frame],
        target: Size,
        progress: &Progress,
    ) -> Result<Vec<Frame>> {
        let (count, height, width, _) = latent.dims4()?;
        if like.len() != count {
            return Err(Error::invalid(format!(
                "a latent of {count} frames like {} frames",
                like.len()
            )));
        }
        let size = Size::new(width, height);
        check_target(size, target)?;
        let frames = like.iter().enumerate().map(|(index, frame)| {
            progress.check()?;
            if frame.size() != size {
                return Err(Error::invalid(format!(
                    "a latent of {size} like a frame of {}",
                    frame.size()
                )));
            }
            enlarge::finish(&latent.get(index)?, frame, target, progress.cancel_token())
        });
        frames.collect()
    }
}

fn check_target(size: Size, target: Size) -> Result<()> {
    if target != Size::new(size.width * FACTOR, size.height * FACTOR) {
        return Err(Error::invalid(format!(
            "the compact model makes pictures of {FACTOR} times {size}, not {target}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
/// The file of a small random model, for tests of what stands on top of this one.
#[cfg(test)]
pub(crate) fn test_model(residual: bool, frames: usize) -> Vec<u8> {
    use self::weights::tests::{metadata, random_tensors, small, write};
    let config = small(residual, frames);
    write(&random_tensors(&config, 33), metadata(&config))
}
