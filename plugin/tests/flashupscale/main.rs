// SPDX-License-Identifier: MPL-2.0
//! `flashupscale` as other elements and applications see it.

mod caps;
mod element;
mod errors;
mod events;
mod flush;
mod frames;
mod leaks;
mod live;
mod properties;
mod rig;
