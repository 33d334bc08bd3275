// SPDX-License-Identifier: MPL-2.0
//! The seam between a compact model and what computes it. A whole flow crosses it, not a layer: a window of small luma
//! goes in, the luma of the large picture comes out.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::net::Net;
use super::strips::{Job, StripPlan};
use crate::cpu::s2d::Scale;
use crate::error::Result;
use crate::flow::euler::FlowTime;
use crate::media::frame::Samples;
use crate::media::luma::LumaPlane;
use crate::progress::CancelToken;

/// A way to compute compact models.
pub trait Backend {
    /// Brings `net` into the form that is computed with.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when the network lacks what the number type needs, and whatever may
    /// happen on a device.
    fn prepare(&self, net: Arc<Net>) -> Result<Box<dyn Prepared>>;
}

/// A network made ready by a [`Backend`]. It is shared by any number of streams.
pub trait Prepared: Debug + Send + Sync {
    /// The fastest plan for `job` that needs at most `limit` bytes, or the one that needs least if there is none.
    fn plan(&self, job: &Job, limit: u64) -> StripPlan;

    /// Computes the luma of the large picture and gives it to `out`.
    ///
    /// `window` is the luma of the small picture and of its neighbours in order of time, each with a margin of
    /// [`MARGIN`](super::net::MARGIN) pixels; `plan` was made for their size and for as many evaluations as `flow` has.
    /// A second pass sees the picture alone.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled) within 100 ms of the token being triggered,
    /// [`Error::Invalid`](crate::Error::Invalid) for a window that is none of the network's or of the plan's.
    fn flow(
        &self,
        plan: &StripPlan,
        window: &[&LumaPlane],
        flow: &Flow,
        out: Sink<'_>,
        cancel: &CancelToken,
    ) -> Result<Cost>;
}

/// The flow from the plain enlargement to the enhanced picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// Times of the function evaluations.
    pub times: Vec<FlowTime>,
    /// Strength of the noise at the start in model units; 0 is none.
    pub sigma: f64,
    /// Chooses the noise.
    pub seed: u64,
}

/// Takes the luma of a large picture.
pub enum Sink<'a> {
    /// As codes of this scale, all rows.
    Codes(Scale, &'a mut Samples),
    /// In model units: some rows at a time, in order.
    Rows(&'a mut RowSink<'a>),
}

/// Takes some rows of a picture and their values.
pub type RowSink<'a> = dyn FnMut(Range<usize>, &[f32]) -> Result<()> + Send + 'a;

/// What a flow cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Function evaluations of a whole picture.
    pub evaluations: u64,
    /// Time spent in them, from the luma of the frames to the codes of the result.
    pub evaluating: Duration,
}
