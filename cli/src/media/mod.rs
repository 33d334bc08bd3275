// SPDX-License-Identifier: MPL-2.0
//! What the commands do through GStreamer.

pub mod clips;
pub mod container;
pub mod elements;
pub mod enhancer;
pub mod pair;
pub mod run;
pub mod subtitles;
pub mod transcode;

pub use elements::init;
