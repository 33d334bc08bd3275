// SPDX-License-Identifier: MPL-2.0
//! `flashupscale` as other elements and applications see it.

mod cancel;
mod caps;
#[path = "../common/mod.rs"]
mod common;
mod controlled;
mod element;
mod errors;
mod events;
mod fixture;
mod flush;
mod formats;
mod frames;
mod interlaced;
mod latched;
mod leaks;
mod live;
mod memory;
mod ops;
mod pace;
mod properties;
mod sequences;
mod siting;
mod transient;
