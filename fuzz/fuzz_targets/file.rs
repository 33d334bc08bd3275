// SPDX-License-Identifier: MPL-2.0
//! Any bytes as a model file; the first ones choose the format (`PK`, `GGUF`, the length of a safetensors header).
#![no_main]

use candle_core::{DType, Device};
use flashvideo::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", bytes.to_vec()) else {
        return;
    };
    for name in checkpoint.names() {
        let _ = checkpoint.tensor(name, &Device::Cpu, DType::BF16);
        let _ = checkpoint.blocks(name, &Device::Cpu);
    }
    let _ = checkpoint.into_dit().map(Checkpoint::into_vae).map(Checkpoint::into_t5);
});
