// SPDX-License-Identifier: MPL-2.0
//! How work is cut up so that it fits into memory.

pub mod budget;
pub mod memory;
pub mod operands;
pub mod windows;

pub use budget::Budget;
