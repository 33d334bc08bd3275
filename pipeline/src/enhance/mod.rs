// SPDX-License-Identifier: MPL-2.0
//! Stage II: any clip to a larger, sharper one.
//!
//! [`Enhancer`] is a loaded model of either kind, [`EnhanceStream`](stream::EnhanceStream) takes frames and gives them back
//! enhanced, [`EnhanceOptions`] says how; [`control`] says how much where there is too little time.

pub mod control;
#[doc(hidden)]
pub mod drag;
mod model;
mod options;
pub mod stream;
mod strips;

pub use self::model::Enhancer;
pub(crate) use self::model::{Model, resolve_steps};
pub use self::options::{EnhanceOptions, MAX_STEPS, Target};
pub(crate) use self::strips::plan_strips;

#[cfg(test)]
mod tests;
