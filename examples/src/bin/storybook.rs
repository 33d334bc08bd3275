//! Makes a clip of each prompt, enhances it, and puts all of them on one sheet: prompt, frames, enhanced frames.
//!
//! ```sh
//! cargo run --release -p flashvideo-examples --bin storybook -- sheet.png "a red balloon over the sea" "a blue boat at night"
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use flashvideo_examples::clips::{self, Source};
use flashvideo_examples::output::PartialFile;

/// Frames of each clip on the sheet, and columns of each.
const SHOWN: usize = 4;
const WIDTH: u32 = 320;

/// Makes a clip of each prompt, enhances it, and puts all of them on one sheet.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
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
          value_parser = clap::value_parser!(i32).range(1..=16384))]
    size: Vec<i32>,

    #[command(flatten)]
    source: Source,

    /// Overwrite the file if it exists
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    match tell(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell(arguments: &Arguments) -> Result<()> {
    let sheet = PartialFile::new(&arguments.sheet, arguments.force)?;
    flashvideo_examples::init()?;
    clips::check_captions()?;
    let (width, height) = match *arguments.size {
        [width, height] => (width, height),
        _ => (1920, 1080),
    };
    let mut rows = Vec::new();
    for prompt in &arguments.prompts {
        let begin = Instant::now();
        let mut made = clips::generate(&arguments.source, prompt, arguments.seed, 1)?;
        let clip = made.pop().context("no clip came out")?;
        let making = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let large = clips::enhance(&clip, &arguments.enhancer, (width, height))?;
        let enhancing = begin.elapsed().as_secs_f64();
        println!(
            "{making:6.1} s made, {enhancing:6.1} s enhanced to {width}x{height}, {} frames: {prompt}",
            large.len()
        );
        rows.push((prompt.clone(), clips::strip(&clip, SHOWN, WIDTH)?));
        let caption = format!("{width}x{height}");
        rows.push((caption, clips::strip(&large, SHOWN, WIDTH)?));
    }
    clips::sheet(&rows)?
        .save_with_format(sheet.path(), image::ImageFormat::Png)
        .context("writing the sheet")?;
    sheet.keep()?;
    println!("{}", arguments.sheet.display());
    Ok(())
}
