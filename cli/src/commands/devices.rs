// SPDX-License-Identifier: MPL-2.0
//! `flashvideo devices`: what this machine computes and encodes with.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use flashvideo::cpu::level::{CpuLevel, best_dtype};
use flashvideo::plan::Budget;
use flashvideo::{DeviceSpec, NumberType, Runtime};
use indicatif::HumanBytes;

use crate::ffmpeg::codec::{Codec, hardware_works};
use crate::ffmpeg::program::{ffmpeg, succeed, with};

/// Shows what this machine computes and encodes with
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  flashvideo devices")]
pub struct Devices {}

impl Devices {
    /// Runs the command.
    ///
    /// # Errors
    /// When `FLASHVIDEO_CPU` names what the processor has not.
    pub fn run(&self) -> Result<ExitCode> {
        let level = CpuLevel::selected()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = Budget::host().limit().map_or_else(String::new, |bytes| {
            format!(", {} of memory to use", HumanBytes(bytes))
        });
        tell!("cpu       {}, {cores} cores{memory}", processor());
        tell!(
            "          kernels: {level:?}; dtype auto is {:?} for the built-in models",
            best_dtype()
        );
        for device in [DeviceSpec::Cuda(0), DeviceSpec::Metal] {
            let name = device.to_string();
            match Runtime::new(device, NumberType::Auto, None) {
                Ok(_) => tell!("{name:9} for the released models"),
                Err(error) => tell!("{name:9} not usable: {error}"),
            }
        }
        tell!();
        let version = succeed(&mut with(ffmpeg(), ["-version"]))?;
        let version = String::from_utf8_lossy(&version);
        tell!(
            "ffmpeg    {}",
            version
                .lines()
                .next()
                .unwrap_or_default()
                .trim_start_matches("ffmpeg version ")
        );
        for codec in Codec::value_variants() {
            let found: Vec<_> = codec
                .hardware()
                .iter()
                .filter(|name| hardware_works(name))
                .copied()
                .collect();
            if !found.is_empty() {
                tell!(
                    "          {} in hardware: {}",
                    codec.label(),
                    found.join(", ")
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The processor's name, as far as the system tells.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(
        || std::env::consts::ARCH.to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}
