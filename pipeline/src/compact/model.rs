// SPDX-License-Identifier: MPL-2.0
//! A compact model and what computes it.

use std::sync::Arc;

use super::backend::{Backend, Prepared};
use super::cpu::buffers::Pool;
use super::net::{Config, MARGIN, Net};
use super::strips::{Job, StripPlan};
use crate::cpu::level::CpuLevel;
use crate::cpu::resize::ResizeBuffers;
use crate::error::Result;
use crate::media::frame::Frame;
use crate::media::luma::LumaPlane;

/// A compact model, ready to compute. Shared by any number of streams.
#[derive(Debug)]
pub struct CompactModel {
    net: Arc<Net>,
    /// Of what is around the network.
    pub(super) level: CpuLevel,
    pub(super) prepared: Box<dyn Prepared>,
    pub(super) resizing: Pool<ResizeBuffers>,
}

impl CompactModel {
    /// `net` as `backend` computes it; what is around it, on the processor, has kernels of `level`.
    ///
    /// # Errors
    /// As [`Backend::prepare`].
    pub fn new(net: Arc<Net>, level: CpuLevel, backend: &dyn Backend) -> Result<Self> {
        let prepared = backend.prepare(net.clone())?;
        Ok(Self::of(net, level, prepared))
    }

    pub(super) fn of(net: Arc<Net>, level: CpuLevel, prepared: Box<dyn Prepared>) -> Self {
        Self {
            net,
            level,
            prepared,
            resizing: Pool::new(),
        }
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Shape and defaults.
    pub fn config(&self) -> &Config {
        &self.net.config
    }

    /// Luma of `frame` as the network reads it.
    pub fn luma(&self, frame: &Frame) -> LumaPlane {
        LumaPlane::framed(frame, MARGIN)
    }

    /// The fastest plan for `job` that needs at most `limit` bytes, or the one that needs least if there is none.
    pub fn plan(&self, job: &Job, limit: u64) -> StripPlan {
        self.prepared.plan(job, limit)
    }
}
