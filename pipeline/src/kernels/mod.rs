//! CPU kernels: each has a scalar reference and faster versions chosen at run time.
