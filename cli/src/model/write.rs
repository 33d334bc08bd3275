// SPDX-License-Identifier: MPL-2.0
//! Writing model files tensor by tensor.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flashvideo::checkpoint::TensorType;
use flashvideo::checkpoint::gguf::{self, Planned};

/// Formats that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For plain number types.
    Safetensors,
    /// For quantised weights.
    Gguf,
}

impl Format {
    /// Ending of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
        }
    }
}

/// A file that grows tensor by tensor, under another name until it is whole.
pub struct ModelFile {
    path: PathBuf,
    part: PathBuf,
    out: Output,
}

enum Output {
    Safetensors(BufWriter<File>, std::vec::IntoIter<Planned>),
    Gguf(gguf::Writer<BufWriter<File>>),
}

impl ModelFile {
    /// Begins the file at `path` with what `plan` says will follow.
    pub fn create(path: &Path, format: Format, plan: Vec<Planned>) -> io::Result<Self> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&part)?);
        let out = match format {
            Format::Gguf => Output::Gguf(gguf::Writer::new(
                file,
                &[("general.architecture", "flashvideo")],
                plan,
            )?),
            Format::Safetensors => {
                file.write_all(&header(&plan)?)?;
                Output::Safetensors(file, plan.into_iter())
            }
        };
        Ok(Self {
            path: path.to_owned(),
            part,
            out,
        })
    }

    /// Writes the next tensor of the plan.
    pub fn tensor(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.out {
            Output::Gguf(writer) => writer.tensor(data),
            Output::Safetensors(file, left) => match left.next() {
                Some(planned) if planned.bytes() == data.len() => file.write_all(data),
                _ => Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "a tensor that was not planned",
                )),
            },
        }
    }

    /// Ends the file and gives it its name.
    pub fn finish(self) -> io::Result<()> {
        let file = match self.out {
            Output::Gguf(writer) => writer.finish()?,
            Output::Safetensors(mut file, _) => {
                file.flush()?;
                file
            }
        };
        file.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)
    }
}

/// The head of a safetensors file.
fn header(plan: &[Planned]) -> io::Result<Vec<u8>> {
    let mut table = serde_json::Map::new();
    let mut start = 0;
    for tensor in plan {
        let dtype = match tensor.stored {
            TensorType::F64 => "F64",
            TensorType::F32 => "F32",
            TensorType::F16 => "F16",
            TensorType::BF16 => "BF16",
            other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("safetensors cannot hold \"{}\" of {other}", tensor.name),
                ));
            }
        };
        let end = start + tensor.bytes();
        let entry = serde_json::json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]});
        table.insert(tensor.name.clone(), entry);
        start = end;
    }
    let mut text = serde_json::to_vec(&table)?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text);
    Ok(out)
}
