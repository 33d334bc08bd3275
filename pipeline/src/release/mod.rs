// SPDX-License-Identifier: MPL-2.0
//! What is particular to the released models: how frames are prepared, the flow of Stage II, parts on demand.

pub mod bilinear;
pub mod colour_fix;
pub mod dit;
pub mod enhance;
pub mod extent;
pub mod generate;
pub mod guided;
mod operands;
pub mod parts;
pub mod text;
pub mod tiles;
pub mod vae;
