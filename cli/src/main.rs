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

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
