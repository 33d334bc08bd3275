// SPDX-License-Identifier: MPL-2.0
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

/// A kind of golden file.
struct Kind {
    /// How its name begins.
    prefix: &'static str,
    /// Tells a tensor that only files of this kind have, for files that are named otherwise.
    mark: fn(&str) -> bool,
    run: Run,
}

const fn kind(prefix: &'static str, mark: fn(&str) -> bool, run: Run) -> Kind {
    Kind { prefix, mark, run }
}

/// All kinds. Where a mark is found in files of several kinds, the more particular kind comes first.
const KINDS: [Kind; 15] = [
    kind(
        "embeddings",
        |n| n.starts_with("temb_dim"),
        tables::embeddings,
    ),
    kind(
        "schedule",
        |n| n.starts_with("sqrt_alpha_bar_shift"),
        tables::schedules,
    ),
    kind("sampler", |n| n == "x_steps", tables::sampler),
    kind("preprocess", |n| n.starts_with("clip_"), vae::preprocess),
    kind("vae_encode", |n| n.ends_with("_z_scaled"), vae::encode),
    kind("vae_decode", |n| n.ends_with("_raw"), vae::decode),
    kind("vae_taps", |n| n == "conv_in", vae::taps),
    kind("vae_blocks", |n| n.starts_with("w.enc."), vae::blocks),
    kind("e2e", |n| n == "s1_latents", e2e::end_to_end),
    kind(
        "vae_save_mem",
        |n| n.ends_with("_frames255"),
        vae::decode_tiled,
    ),
    kind("flow", |n| n == "ref_latents", dit::flow),
    kind(
        "stage1_merged",
        |n| n.ends_with("query_key_value.weight"),
        dit::merged_linears,
    ),
    kind("stage", |n| n == "block0_in", dit::transformer),
    kind("dit", |n| n == "context", dit::transformer),
    kind("t5", |n| n.ends_with("_hidden"), text::encoder),
];

impl Kind {
    fn of(golden: &Golden) -> Option<&'static Self> {
        let named = KINDS
            .iter()
            .find(|kind| golden.name.starts_with(kind.prefix));
        named.or_else(|| {
            let names = golden.names();
            KINDS
                .iter()
                .find(|kind| names.iter().any(|name| (kind.mark)(name)))
        })
    }
}

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
        let kind = Kind::of(&golden).ok_or_else(|| {
            Error::invalid("neither its name nor its tensors tell what it is to be compared with")
        })?;
        (kind.run)(&golden, &mut check)
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
            problems.push("the file holds nothing that could be compared".to_owned());
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
