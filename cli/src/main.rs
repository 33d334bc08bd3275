// SPDX-License-Identifier: MPL-2.0
//! `flashvideo`: enhances video files, makes clips from prompts, and works on the models' files.
//!
//! It loads the plugin that was built or installed with it.
//!
//! | folder | subject |
//! |---|---|
//! | `commands` | one file for each command: its arguments and what it does |
//! | `jobs` | what `enhance` does: names to jobs, and one job from clip to file |
//! | `media` | GStreamer: the elements, windows, pictures |
//! | `ffmpeg` | clips in and out by the program ffmpeg |
//! | `model` | files of models: names, shapes, reading, writing, fetching |

/// Prints a line for people; whoever has closed the pipe does not want it.
macro_rules! tell {
    ($($arguments:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($arguments)*);
    }};
}

mod commands;
mod ffmpeg;
mod interrupt;
mod jobs;
mod media;
mod model;
mod output;
mod picture;
mod progress;
mod report;
mod terminal;
mod usage;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::Cli::parse()
        .run()
        .unwrap_or_else(|error| commands::failed(&error))
}
