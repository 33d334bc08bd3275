// SPDX-License-Identifier: MPL-2.0
//! `flashvideosrc` as other elements and applications see it, with a tiny model of random weights.

mod cancel;
mod caps;
mod clips;
mod errors;
mod leaks;
mod live;
mod messages;
mod rig;
mod seek;
