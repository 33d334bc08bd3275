// SPDX-License-Identifier: MPL-2.0
//! Compact models on the processor.

pub(crate) mod buffers;
pub(crate) mod chain;
mod flow;
pub(crate) mod int8;
mod model;
mod picture;
pub(crate) mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(super) use self::model::CpuModel;
use super::backend::{Backend, Cost, Flow, Prepared, Sink};
use super::net::Net;
use super::strips::{Job, StripPlan};
use crate::cpu::level::CpuLevel;
use crate::cpu::resize::ResizeBuffers;
use crate::error::Result;
use crate::media::luma::LumaPlane;
use crate::progress::CancelToken;

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
    /// [`Error::Invalid`](crate::Error::Invalid) when int8 is asked for and the model's file has no calibrated ranges, on any processor.
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

impl Prepared for CpuModel {
    fn plan(&self, job: &Job, limit: u64) -> StripPlan {
        let buffers = |grid, planes| self.buffer_bytes(grid, planes, job.threads);
        StripPlan::new(job, &self.net().config, limit, buffers)
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
            || ResizeBuffers::new(self.level()),
            |buffers| picture::enlarge(self, plan, window, flow, out, buffers, cancel),
        )
    }
}
