// SPDX-License-Identifier: MPL-2.0
//! `flashvideo generate`: a clip from a prompt, enhanced if a size is asked for.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use super::preview::told;
use crate::ffmpeg::container::Container;
use crate::interrupt;
use crate::media::clips::{self, Source};
use crate::media::enhancer::{Enlarge, Options};
use crate::output::PartialFile;

/// Makes a clip from a prompt
///
/// With --scale, --size or --to the clip is enhanced to that size before it is written.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  flashvideo generate \"a red balloon rises over snowy mountains at sunset\" balloon.mp4 --to 1080p"
)]
pub struct Generate {
    /// What the clip shows
    prompt: String,

    /// The file to write: .mp4, .mov, .mkv, .webm, or numbered pictures
    output: PathBuf,

    /// Chooses the noise: another seed is another clip
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,

    /// Which model enhances
    #[arg(long, default_value = "builtin")]
    enhancer: String,

    #[command(flatten)]
    enlarge: Enlarge,

    #[command(flatten)]
    source: Source,

    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

impl Generate {
    /// Runs the command.
    ///
    /// # Errors
    /// What the elements say, or that the file cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        Container::from_path(&self.output)?;
        let output = PartialFile::new(&self.output, self.force)?;
        crate::media::init()?;
        interrupt::watch();
        let made = clips::generate(
            &self.source,
            &self.prompt,
            self.seed,
            1,
            &told("making a clip"),
        )?;
        let mut clip = made.into_iter().next().context("no clip came out")?;
        if self.enlarge.scale.is_some() || self.enlarge.size.is_some() || self.enlarge.to.is_some()
        {
            let options = Options {
                enlarge: self.enlarge,
                model: Some(self.enhancer.clone()),
                ..Options::default()
            };
            clip = clips::enhance(&clip, &options, &told("enhancing"))?;
        }
        clips::write(&clip, output.path(), &self.output)?;
        output.keep()?;
        let (width, height) =
            clips::picture(clip.first().context("a clip without frames")?)?.size();
        tell!(
            "{}: {} frames of {width}x{height}",
            self.output.display(),
            clip.len()
        );
        Ok(ExitCode::SUCCESS)
    }
}
