// SPDX-License-Identifier: MPL-2.0
//! Random checkpoints of the true size, in the container of the release.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use indicatif::ProgressBar;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::shapes::Shapes;

/// Values written at a time.
const STRETCH: usize = 1 << 20;

/// Writes random bf16 tensors of `shapes` under `prefix` to `path` as `torch.save({'module': ..})` would.
pub fn write_torch(
    path: &Path,
    prefix: &str,
    shapes: &Shapes,
    bar: &ProgressBar,
) -> io::Result<()> {
    let mut zip = ZipWriter::new(BufWriter::new(File::create(path)?));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    zip.start_file("archive/data.pkl", options)?;
    zip.write_all(&pickle(prefix, shapes))?;
    zip.start_file("archive/byteorder", options)?;
    zip.write_all(b"little")?;
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut bytes = Vec::with_capacity(2 * STRETCH);
    for (index, shape) in shapes.values().enumerate() {
        zip.start_file(format!("archive/data/{index}"), options)?;
        let mut left: usize = shape.iter().product();
        while left > 0 {
            let count = left.min(STRETCH);
            bytes.clear();
            for _ in 0..count {
                // xorshift64; the sign and the mantissa are random, the magnitude is 1/128 to 1/64.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                bytes.extend((random as u16 & 0x807f | 0x3c00).to_le_bytes());
            }
            zip.write_all(&bytes)?;
            bar.inc(bytes.len() as u64);
            left -= count;
        }
    }
    zip.finish()?.flush()
}

/// The pickle of `{'module': {name: tensor, ..}}`.
fn pickle(prefix: &str, shapes: &Shapes) -> Vec<u8> {
    let mut out = b"\x80\x02}".to_vec();
    text(&mut out, "module");
    out.extend(b"}(");
    for (index, (name, shape)) in shapes.iter().enumerate() {
        text(&mut out, &format!("{prefix}{name}"));
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nBFloat16Storage\n");
        text(&mut out, &index.to_string());
        text(&mut out, "cpu");
        int(&mut out, shape.iter().product());
        out.extend(b"tQK\x00(");
        shape.iter().for_each(|&d| int(&mut out, d));
        out.extend(b"t(");
        for axis in 0..shape.len() {
            int(&mut out, shape[axis + 1..].iter().product());
        }
        out.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"us.");
    out
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn int(out: &mut Vec<u8>, value: usize) {
    // BININT is signed; the largest tensor has 1.3e8 values.
    out.push(b'J');
    out.extend((value as i32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use flashvideo::checkpoint::{Checkpoint, TensorType};

    #[test]
    fn written_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stage2.pt");
        let shapes = Shapes::from([
            ("a.weight".to_owned(), vec![3, 5]),
            ("a.bias".to_owned(), vec![3]),
        ]);
        write_torch(
            &path,
            "model.diffusion_model.",
            &shapes,
            &ProgressBar::hidden(),
        )
        .unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap().into_dit().unwrap();
        assert_eq!(
            checkpoint.names().collect::<Vec<_>>(),
            ["a.bias", "a.weight"]
        );
        assert_eq!(checkpoint.stored("a.weight"), Some(TensorType::BF16));
        let values = checkpoint
            .tensor("a.weight", &Device::Cpu, DType::F32)
            .unwrap();
        let values = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(
            values
                .iter()
                .all(|v| (1.0 / 128.0..1.0 / 64.0).contains(&v.abs()))
        );
        assert!(values.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
