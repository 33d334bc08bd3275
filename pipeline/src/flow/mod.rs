// SPDX-License-Identifier: MPL-2.0
//! Flows: time grids, solvers, guidance and noise. Arithmetic that is the same for every model.

pub mod dpmpp;
pub mod euler;
pub mod guidance;
pub mod noise;
pub mod picture_noise;
pub mod schedule;
