// SPDX-License-Identifier: MPL-2.0
//! `flashvideo`: enhances video files, makes clips from prompts, and works on the models' files.
//!
//! The elements are linked into the program, so nothing has to be installed into GStreamer's plugin path.
//!
//! | folder | subject |
//! |---|---|
//! | `commands` | one file for each command: its arguments and what it does |
//! | `media` | GStreamer: pipelines, formats, pictures |
//! | `model` | files of models: names, shapes, reading, writing, fetching |

mod commands;
mod media;
mod model;
mod output;
mod picture;
mod progress;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    commands::Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
