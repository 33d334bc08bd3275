// SPDX-License-Identifier: MPL-2.0
//! `flashvideo man` and `flashvideo completions`: for those who make packages.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Writes the manual pages into a folder
#[derive(Debug, Args)]
pub struct Man {
    /// The folder; it is made if need be
    folder: PathBuf,
}

impl Man {
    /// Runs the command.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn run(&self) -> Result<ExitCode> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("the folder '{}' cannot be made", self.folder.display()))?;
        clap_mangen::generate_to(Cli::command(), &self.folder)
            .with_context(|| format!("the folder '{}' cannot be written", self.folder.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Prints what makes a shell complete the arguments
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  flashvideo completions bash > ~/.local/share/bash-completion/completions/flashvideo"
)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Runs the command.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn run(&self) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "flashvideo", &mut script);
        std::io::stdout()
            .write_all(&script)
            .context("writing to standard output")?;
        Ok(ExitCode::SUCCESS)
    }
}
