// SPDX-License-Identifier: MPL-2.0
//! A model with its packed weights, buffers that outlive a frame, and one evaluation of the network.

use std::sync::{Arc, Mutex, PoisonError};

use half::bf16;

use crate::compact::cpu::buffers::{Pool, Rows, shape};
use crate::compact::cpu::chain::{Chain, Evaluation, Input, float_layers};
use crate::compact::cpu::int8::Int8Chain;
use crate::compact::net::Net;
use crate::cpu::conv3x3::bands::{Bands, Layer};
use crate::cpu::conv3x3::{Activation, Cell};
use crate::cpu::level::CpuLevel;
use crate::cpu::resize::ResizeBuffers;
use crate::error::{Error, Result};
use crate::progress::CancelToken;
use crate::size::Size;

/// Packed networks that are kept: those of the last times and noise strengths.
pub(super) const KEPT_CHAINS: usize = 16;

/// A model with its weights packed for one level.
#[derive(Debug)]
pub(in crate::compact) struct CpuModel {
    net: Arc<Net>,
    level: CpuLevel,
    pub(super) engine: Engine,
    int8: Option<Int8>,
    /// States between the first and the last evaluation of a flow.
    pub(super) states: Pool<[Vec<f32>; 2]>,
    pub(super) resizing: Pool<ResizeBuffers>,
}

/// The network in int8 with its buffers.
#[derive(Debug)]
struct Int8 {
    chain: Int8Chain,
    bands: Pool<Bands<u8>>,
}

/// The number type of the activations with its caches.
#[derive(Debug)]
pub(super) enum Engine {
    F32(Cache<f32>),
    Bf16(Cache<bf16>),
}

/// A network with the bits of the flow time and of the noise strength that it is for.
type Kept<T> = ((u64, u64), Arc<Chain<T>>);

#[derive(Debug)]
pub(super) struct Cache<T> {
    pub(super) chains: Mutex<Vec<Kept<T>>>,
    pub(super) bands: Pool<Bands<T>>,
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
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// The level whose kernels run.
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
    pub fn buffer_bytes(&self, size: Size, planes: bool, threads: usize) -> u64 {
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

impl<T: Activation> Cache<T> {
    fn new() -> Self {
        Self {
            chains: Mutex::new(Vec::new()),
            bands: Pool::new(),
        }
    }

    /// The network of one flow time and noise strength.
    pub(super) fn chain(
        &self,
        net: &Net,
        level: CpuLevel,
        (t, sigma): (f64, f64),
    ) -> Arc<Chain<T>> {
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
