//! The diffusion transformer of both stages (CogVideoX with 3D RoPE).
