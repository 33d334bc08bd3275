// SPDX-License-Identifier: MPL-2.0
//! Frames as they come from a decoder and what their samples mean; what is done with pictures without a model.

pub mod colour;
pub mod frame;
pub mod luma;
pub mod pictures;
pub mod resize;
pub mod scene;
