// SPDX-License-Identifier: MPL-2.0
//! Any bytes as the pickle of a torch file with two storages.
#![no_main]

use std::io::{Cursor, Write};

use candle_core::{DType, Device};
use flashvideo::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn archive(pickle: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [("data.pkl", pickle), ("data/0", &[1; 64]), ("data/1", &[2; 6])] {
        zip.start_file(format!("archive/{name}"), stored)?;
        zip.write_all(content)?;
    }
    Ok(zip.finish()?.into_inner())
}

fuzz_target!(|pickle: &[u8]| {
    let Ok(bytes) = archive(pickle) else { return };
    let Ok(checkpoint) = Checkpoint::from_bytes("fuzz.pt", bytes) else {
        return;
    };
    for name in checkpoint.names() {
        let _ = checkpoint.tensor(name, &Device::Cpu, DType::F32);
    }
});
