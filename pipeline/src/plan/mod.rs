// SPDX-License-Identifier: MPL-2.0
//! How work is cut up so that it fits into memory.

pub mod budget;
pub mod extent;
pub mod memory;
pub mod operands;
pub mod tile;
pub mod window;

pub use budget::Budget;
