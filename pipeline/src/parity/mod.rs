//! Comparison with golden numbers: files of inputs and outputs that the reference implementation wrote.
//!
//! A golden file is a `.safetensors` with a `.json` of the same name beside it that tells settings and meanings. Which
//! check a file gets is told from its name; sizes, settings and the checkpoints come from the sidecar and the folder,
//! so that sets of any size can be run.

mod dit;
mod e2e;
mod golden;
mod tables;
mod text;
mod vae;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::progress::Progress;
use golden::{Check, Golden};

/// What came out for one golden file.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Name of the file without its extension.
    pub name: String,
    /// Number of tensors that were compared.
    pub tensors: usize,
    /// Largest absolute error, of the tensor that came closest to its tolerance or went furthest beyond.
    pub error: f64,
    /// The tolerance of that tensor.
    pub tolerance: f64,
    /// The tensors that failed, with their errors, or what kept the check from running.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Whether all tensors were within their tolerances.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }
}

type Run = fn(&Golden, &mut Check<'_>) -> Result<()>;

/// Beginnings of names, the longer ones first, and what is done with files of that name.
const CHECKS: [(&str, Run); 17] = [
    ("embeddings", tables::embeddings),
    ("schedule", tables::schedules),
    ("sampler", tables::sampler),
    ("preprocess", vae::preprocess),
    ("vae_encode", vae::encode),
    ("vae_decode", vae::decode),
    ("vae_save_mem", vae::decode_tiled),
    ("vae_taps", vae::taps),
    ("vae_blocks", vae::blocks),
    ("flow", dit::flow),
    ("stage1_merged", dit::merged_linears),
    ("stage2_merged", dit::merged_linears),
    ("stage1", dit::transformer),
    ("stage2", dit::transformer),
    ("dit", dit::transformer),
    ("t5", text::encoder),
    ("e2e", e2e::end_to_end),
];

/// The golden files in `folder`, sorted by name.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let safetensors = path.extension().is_some_and(|e| e == "safetensors");
        // Weights have no sidecar.
        if safetensors && path.with_extension("json").is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Runs the check for the golden file at `path`. What goes wrong is part of the outcome.
///
/// # Errors
/// [`Error::Cancelled`].
pub fn run(path: &Path, progress: &Progress) -> Result<Outcome> {
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut check = Check::new(progress);
    let result = Golden::open(path).and_then(|golden| {
        let run = CHECKS.iter().find(|(prefix, _)| name.starts_with(prefix));
        let (_, run) =
            run.ok_or_else(|| Error::invalid("no check is known for a file of this name"))?;
        run(&golden, &mut check)
    });
    let mut problems: Vec<String> = check
        .failures
        .iter()
        .map(|c| {
            format!(
                "{}: error {:.3e}, tolerance {:.0e}",
                c.tensor, c.error, c.tolerance
            )
        })
        .collect();
    match result {
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => problems.push(error.to_string()),
        Ok(()) if check.compared == 0 => {
            problems.push("the file holds nothing that could be compared".to_owned())
        }
        Ok(()) => {}
    }
    let (error, tolerance) = check
        .worst
        .map_or((f64::NAN, f64::NAN), |w| (w.error, w.tolerance));
    Ok(Outcome {
        name,
        tensors: check.compared,
        error,
        tolerance,
        problems,
    })
}
