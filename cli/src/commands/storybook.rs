// SPDX-License-Identifier: MPL-2.0
//! `flashvideo storybook`: a clip of each prompt, enhanced, all of them on one sheet: prompt, frames, enhanced frames.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::media::clips::{self, Source};
use crate::media::enhancer::{Enlarge, Options, PictureSize};
use crate::output::PartialFile;

/// Frames of each clip on the sheet, and columns of each.
const SHOWN: usize = 4;
const WIDTH: u32 = 320;

/// Makes a clip of each prompt, enhances it, and puts all of them on one sheet.
#[derive(Debug, Args)]
pub struct Storybook {
    /// The PNG file to write
    sheet: PathBuf,

    /// What the clips show
    #[arg(required = true)]
    prompts: Vec<String>,

    /// Chooses the noise
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,

    /// Which model enhances
    #[arg(long, default_value = "builtin:live")]
    enhancer: String,

    /// Size of the enhanced clips: 1080p
    #[arg(long, num_args = 2, value_names = ["WIDTH", "HEIGHT"], default_values_t = [1920, 1080],
          value_parser = clap::value_parser!(u32).range(2..=16384))]
    size: Vec<u32>,

    #[command(flatten)]
    source: Source,

    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

impl Storybook {
    /// Runs the command.
    ///
    /// # Errors
    /// What GStreamer or the elements say, or that the sheet cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        let sheet = PartialFile::new(&self.sheet, self.force)?;
        crate::media::init()?;
        clips::check_captions()?;
        let (width, height) = match *self.size {
            [width, height] => (width, height),
            _ => (1920, 1080),
        };
        let options = Options {
            enlarge: Enlarge {
                size: Some(PictureSize { width, height }),
                ..Enlarge::default()
            },
            model: Some(self.enhancer.clone()),
            ..Options::default()
        };
        let mut rows = Vec::new();
        for prompt in &self.prompts {
            let begin = Instant::now();
            let mut made = clips::generate(&self.source, prompt, self.seed, 1, &|_| ())?;
            let clip = made.pop().context("no clip came out")?;
            let making = begin.elapsed().as_secs_f64();
            let begin = Instant::now();
            let large = clips::enhance(&clip, &options, &|_| ())?;
            let enhancing = begin.elapsed().as_secs_f64();
            tell!(
                "{making:6.1} s made, {enhancing:6.1} s enhanced to {width}x{height}, {} frames: {prompt}",
                large.len()
            );
            rows.push((prompt.clone(), clips::strip(&clip, SHOWN, WIDTH)?));
            let caption = format!("{width}x{height}");
            rows.push((caption, clips::strip(&large, SHOWN, WIDTH)?));
        }
        clips::sheet(&rows)?.save(sheet.path())?;
        sheet.keep()?;
        tell!("{}", self.sheet.display());
        Ok(ExitCode::SUCCESS)
    }
}
