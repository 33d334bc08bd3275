// SPDX-License-Identifier: MPL-2.0
//! `flashvideo info`: what a file or folder holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use flashvideo::checkpoint::{Checkpoint, ModelFolder};
use flashvideo::{Result, Size};
use indicatif::HumanBytes;

use crate::model::measure::measure;
use crate::model::shapes::{Kind, Shapes, normalised};

/// Shows what a model file or folder holds: parameters, number types, and what is missing.
#[derive(Args)]
#[command(after_help = "Example:\n  flashvideo info flashvideo-release --tensors")]
pub struct Info {
    /// A torch, safetensors or GGUF file, the index of a sharded model, or a model folder. With --synthetic the folder to
    /// write to (default: the temporary folder).
    #[arg(required_unless_present = "synthetic")]
    path: Option<PathBuf>,
    /// Writes random bf16 weights of a released model's true shapes, loads them, runs one block, and shows seconds and
    /// peak memory. The file is deleted afterwards.
    #[arg(long)]
    synthetic: Option<Kind>,
    /// Size of the frames whose number of tokens the block of --synthetic gets, such as 960x544; the default is the
    /// model's own, 480x256 for Stage I and 1920x1072 for Stage II (an hour for two cores).
    #[arg(long, value_parser = size, requires = "synthetic")]
    size: Option<Size>,
    /// Every tensor with its shape.
    #[arg(long)]
    tensors: bool,
}

fn size(text: &str) -> std::result::Result<Size, String> {
    let sides = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width, height)) if width > 0 && height > 0 && width % 16 == 0 && height % 16 == 0 => {
            Ok(Size::new(width, height))
        }
        _ => Err("expected WIDTHxHEIGHT in multiples of 16".to_owned()),
    }
}

impl Info {
    /// Runs the command; fails with exit code 1 when tensors of a released model are missing.
    pub fn run(&self) -> Result<ExitCode> {
        let folder = self.path.clone().unwrap_or_else(std::env::temp_dir);
        if let Some(kind) = self.synthetic {
            measure(kind, &folder, self.size)?;
            return Ok(ExitCode::SUCCESS);
        }
        let complete = match ModelFolder::open(&folder) {
            Ok(model) if folder.is_dir() => self.folder(&model)?,
            // A folder of one model, or a file.
            _ => self.file(&folder)?,
        };
        Ok(if complete {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    fn folder(&self, model: &ModelFolder) -> Result<bool> {
        tell!("{}: {:?} layout", model.path.display(), model.layout);
        let mut complete = true;
        let parts = [
            ("Stage I", &model.stage1),
            ("Stage II", &model.stage2),
            ("VAE", &model.vae),
            ("T5 encoder", &model.text_encoder),
        ];
        for (name, file) in parts {
            tell!();
            match file {
                Some(file) => complete &= self.file(file)?,
                None => tell!("{name}: not in this folder"),
            }
        }
        match &model.tokenizer {
            Some(file) => tell!("\n{}: tokenizer", file.display()),
            None => tell!("\ntokenizer: not in this folder"),
        }
        Ok(complete)
    }

    /// Describes one file; returns whether it is a whole released model or none at all.
    fn file(&self, path: &Path) -> Result<bool> {
        let checkpoint = normalised(Checkpoint::open(path)?)?;
        tell!("{}", checkpoint.path().display());
        let summary = Summary::of(&checkpoint);
        tell!(
            "  {} tensors, {} parameters, {}",
            checkpoint.len(),
            grouped(summary.parameters),
            HumanBytes(summary.bytes as u64)
        );
        for (stored, (tensors, parameters)) in &summary.types {
            tell!(
                "  {stored:>8}  {tensors:>5} tensors  {:>14} parameters",
                grouped(*parameters)
            );
        }
        for (group, (tensors, parameters)) in &summary.groups {
            tell!(
                "  {group:<32}  {tensors:>5} tensors  {:>14} parameters",
                grouped(*parameters)
            );
        }
        if self.tensors {
            for name in checkpoint.names() {
                let shape = checkpoint.shape(name).unwrap_or_default();
                let stored = checkpoint
                    .stored(name)
                    .map(|s| s.to_string())
                    .unwrap_or_default();
                tell!("    {name}  {shape:?}  {stored}");
            }
        }
        let Some(kind) = Kind::of(&checkpoint) else {
            tell!("  no released model");
            return Ok(true);
        };
        let report = compare(&checkpoint, &kind.shapes());
        let whole = report.missing.is_empty() && report.misshapen.is_empty();
        if whole {
            tell!("  the released {}, complete", kind.name());
        } else if report.misshapen.len() > report.matching {
            tell!("  a {} of another size than the released one", kind.name());
            return Ok(true);
        } else {
            tell!("  the released {}, incomplete:", kind.name());
        }
        for line in report
            .missing
            .iter()
            .chain(&report.misshapen)
            .chain(&report.extra)
        {
            tell!("    {line}");
        }
        Ok(whole)
    }
}

struct Summary {
    parameters: usize,
    bytes: usize,
    types: BTreeMap<String, (usize, usize)>,
    groups: BTreeMap<String, (usize, usize)>,
}

impl Summary {
    fn of(checkpoint: &Checkpoint) -> Self {
        let mut out = Self {
            parameters: 0,
            bytes: 0,
            types: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for name in checkpoint.names() {
            let (Some(shape), Some(stored)) = (checkpoint.shape(name), checkpoint.stored(name))
            else {
                continue;
            };
            let count = shape.iter().product::<usize>();
            let (per_block, block_bytes) = stored.block();
            out.parameters += count;
            out.bytes += count / per_block * block_bytes;
            let group: Vec<_> = name
                .split('.')
                .take(2)
                .filter(|part| part.parse::<usize>().is_err())
                .collect();
            for (map, key) in [
                (&mut out.types, stored.to_string()),
                (&mut out.groups, group.join(".")),
            ] {
                let entry = map.entry(key).or_default();
                entry.0 += 1;
                entry.1 += count;
            }
        }
        out
    }
}

struct Report {
    matching: usize,
    missing: Vec<String>,
    misshapen: Vec<String>,
    extra: Vec<String>,
}

fn compare(checkpoint: &Checkpoint, expected: &Shapes) -> Report {
    let mut report = Report {
        matching: 0,
        missing: Vec::new(),
        misshapen: Vec::new(),
        extra: Vec::new(),
    };
    for (name, shape) in expected {
        // Adapters are absent and their layers have plain names in files that were merged.
        let merged = name.replace(".original.", ".");
        match checkpoint.shape(name).or_else(|| checkpoint.shape(&merged)) {
            Some(found) if found == shape.as_slice() => report.matching += 1,
            Some(found) => report
                .misshapen
                .push(format!("{name}: expected {shape:?}, found {found:?}")),
            None if name.contains(".matrix_") => {}
            None => report
                .missing
                .push(format!("{name}: expected {shape:?}, found nothing")),
        }
    }
    for name in checkpoint.names() {
        let original = ["weight", "bias"].iter().find_map(|part| {
            let layer = name.strip_suffix(part)?;
            Some(format!("{layer}original.{part}"))
        });
        if !expected.contains_key(name) && original.is_none_or(|name| !expected.contains_key(&name))
        {
            let shape = checkpoint.shape(name).unwrap_or_default();
            report
                .extra
                .push(format!("{name}: not expected, found {shape:?}"));
        }
    }
    report
}

/// A number with spaces between the thousands.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::golden;
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn kinds_of_the_release() {
        for (file, kind) in [
            ("stage1.pt", Kind::Stage1),
            ("stage2.pt", Kind::Stage2),
            ("3d-vae.pt", Kind::Vae),
            ("t5", Kind::T5),
        ] {
            let checkpoint = normalised(Checkpoint::open(golden(file)).unwrap()).unwrap();
            assert_eq!(Kind::of(&checkpoint), Some(kind), "{file}");
            let report = compare(&checkpoint, &kind.shapes());
            assert!(!report.misshapen.is_empty(), "{file} is tiny");
        }
    }

    #[test]
    fn a_folder_is_described() {
        let info = Info {
            path: Some(golden("")),
            synthetic: None,
            size: None,
            tensors: true,
        };
        assert_eq!(info.run().unwrap(), ExitCode::SUCCESS);
    }

    #[test]
    fn missing_and_superfluous_tensors() {
        let shapes = Shapes::from([
            ("a.original.weight".to_owned(), vec![2, 2]),
            ("a.matrix_A.0".to_owned(), vec![1, 2]),
            ("b.weight".to_owned(), vec![3]),
            ("c.weight".to_owned(), vec![3]),
        ]);
        let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let tensors = [("a.weight", &[2, 2][..]), ("c.weight", &[4]), ("d", &[1])];
        let tensors = tensors.map(|(name, shape)| (name.to_owned(), tensor(shape)));
        let report = compare(&Checkpoint::from_tensors(tensors.into()).unwrap(), &shapes);
        assert_eq!(report.matching, 1);
        assert_eq!(report.missing, ["b.weight: expected [3], found nothing"]);
        assert_eq!(report.misshapen, ["c.weight: expected [3], found [4]"]);
        assert_eq!(report.extra, ["d: not expected, found [1]"]);
    }

    #[test]
    fn sizes() {
        assert_eq!(size("960x544"), Ok(Size::new(960, 544)));
        for wrong in ["960", "x", "0x16", "960x540", "-16x16"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn thousands() {
        assert_eq!(grouped(5_570_479_680), "5 570 479 680");
        assert_eq!(grouped(12), "12");
    }
}
