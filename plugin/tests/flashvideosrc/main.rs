// SPDX-License-Identifier: MPL-2.0
//! `flashvideosrc` as other elements and applications see it, with a tiny model of random weights.

mod cancel;
mod caps;
mod clips;
#[path = "../common/mod.rs"]
mod common;
mod errors;
mod fixture;
mod latched;
mod leaks;
mod live;
mod messages;
mod seek;
