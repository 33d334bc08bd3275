// SPDX-License-Identifier: MPL-2.0
//! The commands. Each is a struct of its arguments with a `run` that gives the exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed, and standard error says why; or `info`, `parity` found something wrong |
//! | 2 | the arguments are wrong |
//! | 130 | ended by Ctrl-C |

mod compare;
mod convert;
mod enhance;
mod fetch;
mod info;
mod parity;
mod preview;
mod storybook;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Enhances video files and makes clips from prompts.
#[derive(Parser)]
#[command(name = "flashvideo", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Enhance(enhance::Enhance),
    Preview(preview::Preview),
    Compare(compare::Compare),
    #[command(hide = true)]
    Storybook(storybook::Storybook),
    Info(info::Info),
    Convert(convert::Convert),
    Fetch(fetch::Fetch),
    Parity(parity::Parity),
}

impl Cli {
    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// What standard error is to say; the exit code is then 1.
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Enhance(command) => command.run(),
            Command::Preview(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Storybook(command) => command.run(),
            Command::Info(command) => Ok(command.run()?),
            Command::Convert(command) => Ok(command.run()?),
            Command::Fetch(command) => Ok(command.run()?),
            Command::Parity(command) => Ok(command.run()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_of_all_commands_are_sound() {
        super::Cli::command().debug_assert();
    }
}
