// SPDX-License-Identifier: MPL-2.0
//! `flashvideo preview`: a prompt in several seeds, small; only the one that is chosen is enhanced.
//!
//! In a terminal the clips play side by side, and keys choose; elsewhere a picture shows frames of each, and its seed is asked for.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::ffmpeg::container::Container;
use crate::interrupt;
use crate::media::clips::{self, Source};
use crate::media::enhancer::{Enlarge, Options};
use crate::output::PartialFile;
use crate::terminal;
use crate::usage::Usage;

/// Frames of each clip on the sheet, and columns of each.
const SHOWN: usize = 5;
const WIDTH: u32 = 240;

/// Shows a prompt in several seeds, small, and enhances only the one that is chosen
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  flashvideo preview \"a blue boat sails on the sea\" boat.mp4 --seeds 6 --to 1080p"
)]
pub struct Preview {
    /// What the clip shows
    prompt: String,

    /// The file to write: .mp4, .mov, .mkv or .webm
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

    #[command(flatten)]
    enlarge: Enlarge,

    #[command(flatten)]
    source: Source,

    /// Overwrite the files if they exist
    #[arg(long)]
    force: bool,
}

impl Preview {
    /// Runs the command.
    ///
    /// # Errors
    /// What GStreamer or the elements say, or that nothing was chosen.
    pub fn run(self) -> Result<ExitCode> {
        Container::from_path(&self.output)?;
        let last = self.seed + i64::from(self.seeds) - 1;
        if let Some(seed) = self
            .choose
            .filter(|seed| !(self.seed..=last).contains(seed))
        {
            return Err(Usage(format!(
                "--choose {seed}: the seeds are {} to {last}",
                self.seed
            ))
            .into());
        }
        let output = PartialFile::new(&self.output, self.force)?;
        let sheet = PartialFile::new(&self.sheet, self.force)?;
        crate::media::init()?;
        interrupt::watch();
        clips::check_captions()?;
        let say = told(&format!("making {} clips", self.seeds));
        let made = clips::generate(&self.source, &self.prompt, self.seed, self.seeds, &say)?;
        let seeds = self.seed..;
        let rows = seeds
            .clone()
            .zip(&made)
            .map(|(seed, clip)| Ok((format!("seed {seed}"), clips::strip(clip, SHOWN, WIDTH)?)))
            .collect::<Result<Vec<_>>>()?;
        clips::sheet(&rows)?.save(sheet.path())?;
        sheet.keep()?;
        tell!("{}: {} clips", self.sheet.display(), made.len());

        let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let chosen = match self.choose {
            Some(seed) => seed,
            None if interactive && !self.still => play(self.seed, &made)?,
            None => ask(self.seed, last)?,
        };
        let Some((_, clip)) = seeds.zip(&made).find(|(seed, _)| *seed == chosen) else {
            bail!("seed {chosen} is none of {} to {last}", self.seed);
        };
        let options = Options {
            enlarge: self.enlarge,
            model: Some(self.enhancer.clone()),
            ..Options::default()
        };
        let large = clips::enhance(clip, &options, &told("enhancing"))?;
        clips::write(&large, output.path(), &self.output)?;
        output.keep()?;
        let size = clips::picture(large.first().context("a clip without frames")?)?.size();
        tell!(
            "{}: seed {chosen}, {} frames of {}x{}",
            self.output.display(),
            large.len(),
            size.0,
            size.1
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// Tells what is done while it takes its time, each step once.
pub(super) fn told(begin: &str) -> impl Fn(&str) + use<> {
    eprintln!("{begin} ...");
    let last = std::cell::RefCell::new(String::new());
    move |line| {
        if last.replace(line.to_owned()) != line {
            eprintln!("  {line}");
        }
    }
}

/// Plays the clips in the terminal until one is chosen: its seed.
fn play(first: i64, made: &[Vec<gst::Sample>]) -> Result<i64> {
    let tiles = (first..)
        .zip(made)
        .map(|(seed, clip)| {
            let label = format!("seed {seed}");
            let frames = clips::strip(clip, clip.len(), WIDTH)?;
            Ok(terminal::Tile { label, frames })
        })
        .collect::<Result<Vec<_>>>()?;
    let rate = made.first().and_then(|clip| clips::rate(clip.first()?));
    let chosen = terminal::choose(&tiles, rate.context("a clip without a framerate")?)?;
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
            _ => tell!("'{}' is none of them", line.trim()),
        }
    }
}
