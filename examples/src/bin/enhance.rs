//! Enlarges and sharpens a video file with `flashupscale`; sound and subtitles are kept.
//!
//! ```sh
//! cargo run --release -p flashvideo-examples --bin enhance -- in.mp4 out.mp4 --scale 4
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use flashvideo_examples::container::{CRF, Container};
use flashvideo_examples::enhancer::Options;
use flashvideo_examples::output::PartialFile;
use flashvideo_examples::progress::Watch;
use flashvideo_examples::run::{self, Outcome};
use flashvideo_examples::transcode::{self, Job};

/// Enlarges and sharpens a video file; sound and subtitles are kept.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
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

fn main() -> ExitCode {
    match enhance(&Arguments::parse()) {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => {
            eprintln!("interrupted: nothing was written");
            // What shells expect of a program that ended on Ctrl-C.
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn enhance(arguments: &Arguments) -> Result<Outcome> {
    if !arguments.input.is_file() {
        bail!("'{}' is no file", arguments.input.display());
    }
    let container = Container::from_path(&arguments.output)?;
    let partial = PartialFile::new(&arguments.output, arguments.force)?;
    flashvideo_examples::init()?;

    let watch = Watch::new();
    let job = Job {
        options: arguments.options.clone(),
        container,
        crf: arguments.crf,
    };
    let pipeline = transcode::pipeline(&arguments.input, partial.path(), &job, &watch)?;
    run::stop_on_signals(&pipeline)?;
    let outcome = run::to_the_end(&pipeline, |line| watch.say(line));
    watch.finish();
    let outcome = outcome?;
    if outcome == Outcome::Finished {
        let Some((width, height)) = watch.size() else {
            bail!("no frame came out of '{}'", arguments.input.display());
        };
        partial.keep()?;
        let (frames, seconds) = (watch.frames(), watch.elapsed().as_secs_f64());
        println!(
            "{}: {frames} frames of {width}x{height} in {seconds:.1} s ({:.2} frames/s)",
            arguments.output.display(),
            frames as f64 / seconds
        );
    }
    Ok(outcome)
}
