//! CPU kernels: those of the compact model have a scalar reference and faster versions chosen at run time, those of the
//! released models are plain loops and the `gemm` crate's products.

pub mod aligned;
pub mod attention;
pub mod conv3d;
pub mod conv3x3;
pub mod cpu;
pub mod elementwise;
pub mod gemm;
pub mod matmul;
pub mod reference;
pub mod resize;
pub mod s2d;
pub(crate) mod shared;
pub mod tensors;
pub mod transpose;
pub mod vector;
