//! What is particular to the released models: how frames are prepared, the flow of Stage II, parts on demand.

pub mod colour;
pub mod effort;
pub mod flow;
mod operands;
pub mod parts;
pub mod resize;
pub mod stage2;
pub mod tiles;
pub mod tone;
