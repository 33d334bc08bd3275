// SPDX-License-Identifier: MPL-2.0
//! `flashvideo enhance`: a file in, a larger and sharper file out, with sound and subtitles kept.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::media::container::{CRF, Container};
use crate::media::enhancer::Options;
use crate::media::run::{self, Outcome};
use crate::media::transcode::{self, Job};
use crate::output::PartialFile;
use crate::progress::Watch;

/// What shells expect of a program that ended on Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Enlarges and sharpens a video file; sound and subtitles are kept
#[derive(Debug, Args)]
pub struct Enhance {
    /// The clip to enhance: anything GStreamer decodes
    input: PathBuf,

    /// The file to write: .mp4, .mov, .mkv or .webm
    output: PathBuf,

    #[command(flatten)]
    options: Options,

    /// Quality of the encoded video, 0 (lossless) to 51 (worst)
    #[arg(long, default_value_t = CRF, value_parser = clap::value_parser!(u32).range(0..=51))]
    crf: u32,

    /// Overwrite the output if it exists
    #[arg(long)]
    force: bool,
}

impl Enhance {
    /// Runs the command; exit code 130 when it was interrupted, which leaves nothing behind.
    ///
    /// # Errors
    /// When the input cannot be read or enhanced, or the output cannot be written.
    pub fn run(self) -> Result<ExitCode> {
        if !self.input.is_file() {
            bail!("'{}' is no file", self.input.display());
        }
        let container = Container::from_path(&self.output)?;
        let partial = PartialFile::new(&self.output, self.force)?;
        crate::media::init()?;

        let watch = Watch::new();
        let job = Job {
            options: self.options,
            container,
            crf: self.crf,
        };
        let pipeline = transcode::pipeline(&self.input, partial.path(), &job, &watch)?;
        run::stop_on_signals(&pipeline)?;
        let outcome = run::to_the_end(&pipeline, |line| watch.say(line));
        watch.finish();
        if outcome? == Outcome::Interrupted {
            eprintln!("interrupted: nothing was written");
            return Ok(ExitCode::from(INTERRUPTED));
        }
        let Some((width, height)) = watch.size() else {
            bail!("no frame came out of '{}'", self.input.display());
        };
        partial.keep()?;
        let (frames, seconds) = (watch.frames(), watch.elapsed().as_secs_f64());
        println!(
            "{}: {frames} frames of {width}x{height} in {seconds:.1} s ({:.2} frames/s)",
            self.output.display(),
            frames as f64 / seconds
        );
        Ok(ExitCode::SUCCESS)
    }
}
