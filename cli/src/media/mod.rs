// SPDX-License-Identifier: MPL-2.0
//! What the commands do through GStreamer.

pub mod clips;
pub mod compose;
pub mod elements;
pub mod enhancer;
pub mod pair;
pub mod pump;
pub mod run;
pub mod window;

pub use elements::init;
