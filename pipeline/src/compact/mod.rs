//! The compact flow model: a small convolutional velocity field on space-to-depth latents of luma.
//!
//! The latent of a frame is its luma at four times the size, `[h, w, 16]` over the small grid ([`kernels::s2d`]);
//! the reference latent is the Catmull-Rom enlargement, computed straight into that layout. The network reads x_t,
//! the small luma of the frame and of its neighbours in time, and (through gains and shifts) the flow time and the
//! strength of the noise. Chroma and alpha never enter it.
//!
//! [`net`] is what a model is, [`backend`] the seam to what computes it, [`cpu`] the way there is; [`enlarge`] makes a
//! whole frame of the luma that comes back.
//!
//! [`kernels::s2d`]: crate::kernels::s2d

pub mod backend;
mod buffers;
mod chain;
pub mod cpu;
mod enlarge;
mod int8;
mod luma;
pub mod net;
mod noise;
mod passes;
mod scene;
mod state;
mod strips;
mod weights;

use std::sync::Arc;

use self::buffers::Pool;
use self::net::MARGIN;
use crate::clip::Frame;
use crate::error::Result;
use crate::kernels::cpu::CpuLevel;
use crate::kernels::resize::ResizeBuffers;

pub use self::backend::{Backend, Cost, Flow, Prepared, Sink};
pub use self::cpu::Cpu;
pub use self::enlarge::{Enlarge, enlarge};
pub use self::luma::LumaPlane;
pub use self::net::{Config, Net};
pub use self::noise::add_noise;
pub use self::scene::Signature;
pub use self::strips::{Job, StripPlan};

/// Shift of the time grid that the model was trained with, that of the released model.
pub const SHIFT: f64 = 2.5;

/// A compact model, ready to compute. Shared by any number of streams.
#[derive(Debug)]
pub struct CompactModel {
    net: Arc<Net>,
    /// Of what is around the network.
    level: CpuLevel,
    prepared: Box<dyn Prepared>,
    resizing: Pool<ResizeBuffers>,
}

impl CompactModel {
    /// `net` as `backend` computes it; what is around it, on the processor, has kernels of `level`.
    ///
    /// # Errors
    /// As [`Backend::prepare`].
    pub fn new(net: Net, level: CpuLevel, backend: &dyn Backend) -> Result<Self> {
        let net = Arc::new(net);
        let prepared = backend.prepare(net.clone())?;
        Ok(Self::of(net, level, prepared))
    }

    fn of(net: Arc<Net>, level: CpuLevel, prepared: Box<dyn Prepared>) -> Self {
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

#[cfg(test)]
mod tests;
/// The file of a small random model, for tests of what stands on top of this one.
#[cfg(test)]
pub(crate) fn test_model(residual: bool, frames: usize) -> Vec<u8> {
    use self::weights::tests::{metadata, random_tensors, small, write};
    let config = small(residual, frames);
    write(&random_tensors(&config, 33), metadata(&config))
}
