// SPDX-License-Identifier: MPL-2.0
//! `bench`: how fast the kernels and the models are, alone and beside PyTorch, ONNX Runtime and ncnn.
//!
//!     cargo build --release --workspace
//!     target/release/bench compare [--filter gemm] [--json FILE] [--python venv/bin/python]
//!     target/release/bench enhance [--model builtin] [--size 480x270] [--threads 1]
//!     target/release/bench generate [--model builtin] [--steps 0]

mod case;
mod compare;
mod data;
mod enhance;
mod generate;
mod kernels;
mod machine;
mod models;
mod q8;
mod rival;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How fast the kernels and the models are.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compare(compare::Compare),
    Enhance(enhance::Enhance),
    Generate(generate::Generate),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Compare(command) => command.run(),
        Command::Enhance(command) => command.run(),
        Command::Generate(command) => command.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
