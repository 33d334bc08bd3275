// SPDX-License-Identifier: MPL-2.0
//! Compact models on the processor: packed weights, buffers that outlive a frame, and one evaluation of the network.

mod flow;
mod picture;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use half::bf16;

use super::backend::{Backend, Cost, Flow, Prepared, Sink};
use super::buffers::{Pool, Rows, shape};
use super::chain::{Chain, Evaluation, Input, float_layers};
use super::int8::Int8Chain;
use super::luma::LumaPlane;
use super::net::Net;
use super::strips::{Job, StripPlan};
use crate::clip::Size;
use crate::error::{Error, Result};
use crate::kernels::conv3x3::bands::{Bands, Layer};
use crate::kernels::conv3x3::{Activation, Cell};
use crate::kernels::cpu::CpuLevel;
use crate::kernels::resize::ResizeBuffers;
use crate::progress::CancelToken;

/// Packed networks that are kept: those of the last times and noise strengths.
const KEPT_CHAINS: usize = 16;

/// The processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// The level whose kernels run: in bf16 at [`CpuLevel::Bf16`], else in f32.
    pub level: CpuLevel,
    /// Whether evaluations at t = 0 without noise are in int8, where the level has fast kernels for it
    /// ([`CpuLevel::has_vnni`]). All other evaluations, and other levels, keep the number type that they have.
    pub int8: bool,
}

impl Backend for Cpu {
    /// # Errors
    /// [`Error::Invalid`] when int8 is asked for and the model's file has no calibrated ranges, on any processor.
    fn prepare(&self, net: Arc<Net>) -> Result<Box<dyn Prepared>> {
        let model = CpuModel::new(net, self.level);
        if !self.int8 {
            return Ok(Box::new(model));
        }
        let chain = model.int8_chain()?;
        Ok(Box::new(if self.level.has_vnni() {
            model.with_int8(chain)
        } else {
            model
        }))
    }
}

/// A model with its weights packed for one level.
#[derive(Debug)]
pub(super) struct CpuModel {
    net: Arc<Net>,
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

impl CpuModel {
    pub fn new(net: Arc<Net>, level: CpuLevel) -> Self {
        let engine = if level == CpuLevel::Bf16 {
            Engine::Bf16(Cache::new())
        } else {
            Engine::F32(Cache::new())
        };
        Self {
            net,
            level,
            engine,
            int8: None,
            states: Pool::new(),
            resizing: Pool::new(),
        }
    }

    /// What it was made of.
    #[cfg(test)]
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// The level whose kernels run.
    #[cfg(test)]
    pub fn level(&self) -> CpuLevel {
        self.level
    }

    /// The same model with its evaluations at t = 0 without noise by `chain`.
    pub fn with_int8(self, chain: Int8Chain) -> Self {
        let bands = Pool::new();
        Self {
            int8: Some(Int8 { chain, bands }),
            ..self
        }
    }

    /// The network rounded to int8.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the model's file has no calibrated ranges.
    pub fn int8_chain(&self) -> Result<Int8Chain> {
        Int8Chain::new(&self.net, self.level).ok_or_else(|| {
            Error::invalid(
                "this model has no calibrated ranges, which int8 needs; add them with training/calibrate.py, or use \
                 bf16 or f32",
            )
        })
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
        let config = &self.net.config;
        // With several evaluations the first has buffers of its own.
        let int8 = self.int8.as_ref();
        int8.map_or(0, |int8| bytes(int8.chain.layers(), picture))
            + match self.engine {
                Engine::F32(_) => bytes(&float_layers::<f32>(config), picture),
                Engine::Bf16(_) => bytes(&float_layers::<bf16>(config), picture),
            }
    }

    /// One evaluation, at flow time and noise strength `at`, of one picture, and its Euler step: x + `dt` * v.
    pub fn step<O: Send>(
        &self,
        at: (f64, f64),
        dt: f32,
        input: Input<'_>,
        planes: bool,
        rows: Rows<'_, O, impl Fn(&[f32], &mut [O]) + Sync>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let picture = (input.size, planes);
        if let Some(int8) = &self.int8
            && at == (0.0, 0.0)
        {
            let chain = &int8.chain;
            let evaluation = Evaluation { chain, input, dt };
            return int8.bands.run(&evaluation, picture, rows, cancel);
        }
        match &self.engine {
            Engine::F32(cache) => {
                let chain = &*cache.chain(&self.net, self.level, at);
                let evaluation = Evaluation { chain, input, dt };
                cache.bands.run(&evaluation, picture, rows, cancel)
            }
            Engine::Bf16(cache) => {
                let chain = &*cache.chain(&self.net, self.level, at);
                let evaluation = Evaluation { chain, input, dt };
                cache.bands.run(&evaluation, picture, rows, cancel)
            }
        }
    }
}

impl Prepared for CpuModel {
    fn plan(&self, job: &Job, limit: u64) -> StripPlan {
        let buffers = |grid, planes| self.buffer_bytes(grid, planes, job.threads);
        StripPlan::new(job, &self.net.config, limit, buffers)
    }

    fn flow(
        &self,
        plan: &StripPlan,
        window: &[&LumaPlane],
        flow: &Flow,
        out: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<Cost> {
        self.resizing.lend(
            |_| true,
            || ResizeBuffers::new(self.level),
            |buffers| picture::enlarge(self, plan, window, flow, out, buffers, cancel),
        )
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
    fn chain(&self, net: &Net, level: CpuLevel, (t, sigma): (f64, f64)) -> Arc<Chain<T>> {
        let key = (t.to_bits(), sigma.to_bits());
        let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = chains.iter().position(|(kept, _)| *kept == key) {
            // The last used one is the last to go.
            let entry = chains.remove(index);
            let chain = entry.1.clone();
            chains.push(entry);
            return chain;
        }
        let chain = Arc::new(Chain::new(net, level, t, sigma));
        if chains.len() == KEPT_CHAINS {
            chains.remove(0);
        }
        chains.push((key, chain.clone()));
        chain
    }
}
