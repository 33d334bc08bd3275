//! CPU kernels: each has a scalar reference and faster versions chosen at run time.

pub mod aligned;
pub mod conv3x3;
pub mod cpu;
pub mod reference;
pub mod resize;
pub mod s2d;
