//! Shows a prompt in several seeds, small, and enhances only the one that is chosen.
//!
//! In a terminal the clips play side by side, and keys choose; elsewhere a picture shows frames of each, and its seed is asked for.
//!
//! ```sh
//! cargo run --release -p flashvideo-examples --bin preview -- "a red balloon rises over the sea" out.mp4 --seeds 4
//! ```

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use flashvideo_examples::clips::{self, Source};
use flashvideo_examples::grid;
use flashvideo_examples::output::PartialFile;

/// Frames of each clip on the sheet, and columns of each.
const SHOWN: usize = 5;
const WIDTH: u32 = 240;

/// Shows a prompt in several seeds, small, and enhances only the one that is chosen.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// What the clip shows
    prompt: String,

    /// The MP4 file to write
    output: PathBuf,

    /// How many clips to choose from
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    seeds: u32,

    /// The first seed; the others follow it
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    seed: i64,

    /// Take this seed without asking
    #[arg(long)]
    choose: Option<i64>,

    /// Ask for the number instead of playing the clips in the terminal
    #[arg(long)]
    still: bool,

    /// Where to put the picture of all clips
    #[arg(long, default_value = "preview.png")]
    sheet: PathBuf,

    /// Which model enhances
    #[arg(long, default_value = "builtin")]
    enhancer: String,

    /// How many times as large the result is
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=16))]
    scale: i32,

    #[command(flatten)]
    source: Source,

    /// Overwrite the files if they exist
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    match preview(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn preview(arguments: &Arguments) -> Result<()> {
    let output = PartialFile::new(&arguments.output, arguments.force)?;
    let sheet = PartialFile::new(&arguments.sheet, arguments.force)?;
    flashvideo_examples::init()?;
    clips::check_captions()?;
    let Arguments { source, prompt, .. } = arguments;
    let made = clips::generate(source, prompt, arguments.seed, arguments.seeds)?;
    let seeds = arguments.seed..;
    let rows = seeds
        .clone()
        .zip(&made)
        .map(|(seed, clip)| Ok((format!("seed {seed}"), clips::strip(clip, SHOWN, WIDTH)?)))
        .collect::<Result<Vec<_>>>()?;
    clips::sheet(&rows)?
        .save_with_format(sheet.path(), image::ImageFormat::Png)
        .context("writing the sheet")?;
    sheet.keep()?;
    println!("{}: {} clips", arguments.sheet.display(), made.len());

    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let last = arguments.seed + i64::from(arguments.seeds) - 1;
    let chosen = match arguments.choose {
        Some(seed) => seed,
        None if terminal && !arguments.still => play(arguments.seed, &made)?,
        None => ask(arguments.seed, last)?,
    };
    let Some((_, clip)) = seeds.zip(&made).find(|(seed, _)| *seed == chosen) else {
        bail!("seed {chosen} is none of {} to {last}", arguments.seed);
    };
    let first = clips::picture(clip.first().context("a clip without frames")?)?;
    let side = |side: u32| side as i32 * arguments.scale;
    let size = (side(first.width()), side(first.height()));
    let large = clips::enhance(clip, &arguments.enhancer, size)?;
    clips::write(&large, output.path())?;
    output.keep()?;
    println!(
        "{}: seed {chosen}, {} frames of {}x{}",
        arguments.output.display(),
        large.len(),
        size.0,
        size.1
    );
    Ok(())
}

/// Plays the clips in the terminal until one is chosen: its seed.
fn play(first: i64, made: &[Vec<gst::Sample>]) -> Result<i64> {
    let tiles = (first..)
        .zip(made)
        .map(|(seed, clip)| {
            let label = format!("seed {seed}");
            let frames = clips::strip(clip, clip.len(), WIDTH)?;
            Ok(grid::Tile { label, frames })
        })
        .collect::<Result<Vec<_>>>()?;
    let rate = made.first().and_then(|clip| clips::rate(clip.first()?));
    let chosen = grid::choose(&tiles, rate.context("a clip without a framerate")?)?;
    Ok(first + chosen.context("nothing was chosen")? as i64)
}

/// Asks for a seed until there is one.
fn ask(first: i64, last: i64) -> Result<i64> {
    loop {
        print!("which seed, {first} to {last}? ");
        std::io::stdout().flush()?;
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line)? == 0 {
            bail!("nothing was chosen");
        }
        match line.trim().parse() {
            Ok(seed) if (first..=last).contains(&seed) => return Ok(seed),
            _ => println!("'{}' is none of them", line.trim()),
        }
    }
}
