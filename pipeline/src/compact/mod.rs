// SPDX-License-Identifier: MPL-2.0
//! The compact flow model: a small convolutional velocity field on space-to-depth latents of luma.
//!
//! The latent of a frame is its luma at four times the size, `[h, w, 16]` over the small grid ([`cpu::s2d`]);
//! the reference latent is the Catmull-Rom enlargement, computed straight into that layout. The network reads x_t,
//! the small luma of the frame and of its neighbours in time, and (through gains and shifts) the flow time and the
//! strength of the noise. Chroma and alpha never enter it.
//!
//! [`net`] is what a model is, [`backend`] the seam to what computes it, [`cpu`] the way there is; [`enlarge()`] makes
//! a whole frame of the luma that comes back.
//!
//! [`cpu::s2d`]: crate::cpu::s2d

pub mod backend;
pub mod cpu;
mod enlarge;
mod model;
pub mod net;
mod passes;
mod strips;

pub use self::backend::{Backend, Cost, Flow, Prepared, Sink};
pub use self::cpu::Cpu;
pub use self::enlarge::{Enlarge, enlarge};
pub use self::model::CompactModel;
pub use self::net::{Config, Net, SHIFT};
pub use self::strips::{Job, StripPlan};
pub use crate::media::luma::LumaPlane;
pub use crate::media::scene::Signature;

#[cfg(test)]
mod tests;

/// The file of a small random model, for tests of what stands on top of this one.
#[cfg(test)]
pub(crate) fn test_model(residual: bool, frames: usize) -> Vec<u8> {
    use self::net::weights::tests::{metadata, random_tensors, small, write};
    let config = small(residual, frames);
    write(&random_tensors(&config, 33), metadata(&config))
}
