// SPDX-License-Identifier: MPL-2.0
//! `flashvideo parity DIR`: comparison with golden numbers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use flashvideo::{Error, Progress, Result, parity};

/// Compares every golden file in a folder with what this program computes.
#[derive(Args)]
#[command(after_help = "Example:\n  flashvideo parity golden/")]
pub struct Parity {
    /// A folder of golden files (.safetensors with a .json beside each) and the checkpoints they belong to.
    dir: PathBuf,
}

impl Parity {
    /// One line for each file: name, tensors compared, largest absolute error, its tolerance, `ok` or `FAIL`.
    pub fn run(self) -> Result<ExitCode> {
        let files = parity::files(&self.dir)?;
        if files.is_empty() {
            return Err(Error::invalid(format!(
                "{}: no golden files; these are .safetensors files with a .json of the same name",
                self.dir.display()
            )));
        }
        let (mut passed, mut failed) = (0, 0);
        for file in &files {
            let outcome = parity::run(file, &Progress::none())?;
            let verdict = if outcome.passed() { "ok" } else { "FAIL" };
            tell!(
                "{:<28} {:>4} tensors  error {:.3e}  tolerance {:.0e}  {verdict}",
                outcome.name,
                outcome.tensors,
                outcome.error,
                outcome.tolerance
            );
            for problem in &outcome.problems {
                tell!("    {problem}");
            }
            if outcome.passed() {
                passed += 1;
            } else {
                failed += 1;
            }
        }
        tell!("{passed} passed, {failed} failed");
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
