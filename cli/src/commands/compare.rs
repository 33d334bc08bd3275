// SPDX-License-Identifier: MPL-2.0
//! `flashvideo compare`: a picture of one frame, enlarged plainly (left) and with `flashupscale` (right).

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::media::enhancer::Options;
use crate::media::pair::{self, Crop};
use crate::output::PartialFile;

/// Writes a picture of one frame: plain Lanczos on the left, flashupscale on the right.
#[derive(Debug, Args)]
pub struct Compare {
    /// The small clip
    input: PathBuf,

    /// The PNG file to write
    output: PathBuf,

    /// Which frame: the first one at or after this many seconds
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    at: f64,

    /// What to show of the enlarged frame, in pixels; the middle unless a place is given
    #[arg(
        long,
        default_value = "640x540",
        value_name = "WIDTHxHEIGHT[+LEFT+TOP]"
    )]
    crop: Crop,

    #[command(flatten)]
    options: Options,

    /// Overwrite the output if it exists
    #[arg(long)]
    force: bool,
}

impl Compare {
    /// Runs the command.
    ///
    /// # Errors
    /// When there is no such frame, it cannot be enhanced, or the picture cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        if !self.input.is_file() {
            bail!("'{}' is no file", self.input.display());
        }
        if !self.at.is_finite() || self.at < 0.0 {
            bail!(
                "--at {}: expected seconds from the start of the clip",
                self.at
            );
        }
        let partial = PartialFile::new(&self.output, self.force)?;
        crate::media::init()?;
        let at = gst::ClockTime::from_nseconds((self.at * 1e9) as u64);
        let (plain, ours) = pair::both(&self.input, at, &self.options)?;
        let picture = pair::side_by_side(&plain, &ours, self.crop)?;
        picture.save(partial.path())?;
        partial.keep()?;
        println!(
            "{}: {}x{}, plain Lanczos | flashupscale",
            self.output.display(),
            picture.width(),
            picture.height()
        );
        Ok(ExitCode::SUCCESS)
    }
}
