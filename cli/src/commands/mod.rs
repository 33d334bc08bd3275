// SPDX-License-Identifier: MPL-2.0
//! The commands. Each is a struct of its arguments with a `run` that gives the exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | it failed, and standard error says why; or `info`, `parity` found something wrong |
//! | 2 | the arguments are wrong |
//! | 3 | done as far as a damaged clip can be read |
//! | 130 | ended by Ctrl-C |

mod compare;
mod convert;
mod devices;
mod enhance;
mod fetch;
mod generate;
mod info;
mod manual;
mod parity;
mod preview;
mod storybook;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::interrupt::{self, Interrupted};
use crate::usage::Usage;

/// Tells why a command failed: its exit code.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(|cause| cause.is::<Interrupted>()) {
        eprintln!("interrupted: nothing was written");
        return ExitCode::from(interrupt::EXIT_CODE);
    }
    eprintln!("error: {error:#}");
    ExitCode::from(if error.chain().any(|cause| cause.is::<Usage>()) {
        2
    } else {
        1
    })
}

/// The exit code of a job whose clip is damaged: what can be read of it is done.
const DAMAGED: u8 = 3;

/// Enlarges and sharpens clips, and makes clips from prompts
#[derive(Parser)]
#[command(name = "flashvideo", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Example:
  flashvideo enhance old.mp4 new.mp4

Exit codes: 0 done; 1 failed; 2 wrong arguments; 3 done as far as a damaged clip can be read; 130 ended by Ctrl-C.";

#[derive(Subcommand)]
enum Command {
    Enhance(enhance::Enhance),
    Compare(compare::Compare),
    Generate(generate::Generate),
    Preview(preview::Preview),
    Devices(devices::Devices),
    #[command(hide = true)]
    Storybook(storybook::Storybook),
    Info(info::Info),
    Convert(convert::Convert),
    Fetch(fetch::Fetch),
    Parity(parity::Parity),
    Completions(manual::Completions),
    #[command(hide = true)]
    Man(manual::Man),
}

impl Cli {
    /// Runs the command that was asked for.
    ///
    /// # Errors
    /// What standard error is to say; the exit code is then 1.
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Enhance(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Generate(command) => command.run(),
            Command::Preview(command) => command.run(),
            Command::Devices(command) => command.run(),
            Command::Storybook(command) => command.run(),
            Command::Info(command) => Ok(command.run()?),
            Command::Convert(command) => Ok(command.run()?),
            Command::Fetch(command) => Ok(command.run()?),
            Command::Parity(command) => Ok(command.run()?),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
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
