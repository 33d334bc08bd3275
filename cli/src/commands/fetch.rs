// SPDX-License-Identifier: MPL-2.0
//! `flashvideo fetch`: the released weights from the Hugging Face hub.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use flashvideo::Result;

use crate::model::hub;

/// Fetches the released weights into a folder that the other commands and the elements take as a model.
///
/// Needs the program curl. Interrupted downloads go on where they ended. HF_ENDPOINT names another server, HF_HOME the
/// folder of the token.
#[derive(Args)]
#[command(after_help = "Example:\n  flashvideo fetch flashvideo-release")]
pub struct Fetch {
    /// The folder to fill.
    folder: PathBuf,
    /// Agrees to the licences without asking.
    #[arg(long)]
    yes: bool,
    /// Leaves out the text encoder, the largest download.
    #[arg(long)]
    without_text: bool,
}

impl Fetch {
    /// Runs the command; exit code 1 when the licences were not agreed to.
    ///
    /// # Errors
    /// As [`hub::fetch`].
    pub fn run(&self) -> Result<ExitCode> {
        if !hub::fetch(&self.folder, !self.without_text, self.yes)? {
            eprintln!("nothing was fetched");
            return Ok(ExitCode::FAILURE);
        }
        tell!("{}: complete", self.folder.display());
        Ok(ExitCode::SUCCESS)
    }
}
