//! Writes a picture of one frame, enlarged plainly (left) and with `flashupscale` (right).
//!
//! ```sh
//! cargo run --release -p flashvideo-examples --bin side_by_side -- in.mp4 out.png --at 1.5 --crop 640x540
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use flashvideo_examples::enhancer::Options;
use flashvideo_examples::output::PartialFile;
use flashvideo_examples::picture::{self, Crop};

/// Writes a picture of one frame: plain Lanczos on the left, flashupscale on the right.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
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

fn main() -> ExitCode {
    match write(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> Result<()> {
    if !arguments.input.is_file() {
        bail!("'{}' is no file", arguments.input.display());
    }
    if !arguments.at.is_finite() || arguments.at < 0.0 {
        bail!(
            "--at {}: expected seconds from the start of the clip",
            arguments.at
        );
    }
    let partial = PartialFile::new(&arguments.output, arguments.force)?;
    flashvideo_examples::init()?;
    let at = gst::ClockTime::from_nseconds((arguments.at * 1e9) as u64);
    let (plain, ours) = picture::both(&arguments.input, at, &arguments.options)?;
    let pair = picture::side_by_side(&plain, &ours, arguments.crop)?;
    pair.save_with_format(partial.path(), image::ImageFormat::Png)
        .context("writing the picture")?;
    partial.keep()?;
    println!(
        "{}: {}x{}, plain Lanczos | flashupscale",
        arguments.output.display(),
        pair.width(),
        pair.height()
    );
    Ok(())
}
