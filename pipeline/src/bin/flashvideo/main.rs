//! `flashvideo`: looks into model files, converts and fetches them, compares with golden numbers.

mod convert;
mod fetch;
mod info;
mod measure;
mod parity;
mod shapes;
mod synthetic;
mod write;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Works on the model files of FlashVideo.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Info(info::Info),
    Convert(convert::Convert),
    Fetch(fetch::Fetch),
    Parity(parity::Parity),
}

/// What a command that did not fail found out.
type Outcome = flashvideo::Result<ExitCode>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Info(info) => info.run(),
        Command::Convert(convert) => convert.run(),
        Command::Fetch(fetch) => fetch.run(),
        Command::Parity(parity) => parity.run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("flashvideo: {error}");
        ExitCode::FAILURE
    })
}

/// A file of the golden set that the tests use.
#[cfg(test)]
fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}
