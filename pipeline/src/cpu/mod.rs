// SPDX-License-Identifier: MPL-2.0
//! CPU kernels. Each has a plain version and faster ones for instruction sets, one of which is chosen at run time.

pub mod aligned;
pub mod attention;
pub mod conv3d;
pub mod conv3x3;
pub mod elementwise;
pub mod gemm;
pub mod groupnorm;
pub mod level;
pub mod matmul;
pub mod q8;
pub mod reference;
pub mod resize;
pub mod s2d;
pub(crate) mod shared;
pub mod tensors;
pub mod transpose;
pub mod vector;
