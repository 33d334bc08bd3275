// SPDX-License-Identifier: MPL-2.0
//! `bench enhance`: the time of one frame at every CPU level that this machine has.

use clap::Args;
use flashvideo::cpu::level::{CPU_VARIABLE, CpuLevel};
use flashvideo::{
    DeviceSpec, EnhanceOptions, EnhanceStream, Enhancer, Error, Frame, FrameFormat, NumberType,
    Progress, Result, Runtime, Samples, Size, Target,
};

/// Prints for each level the median milliseconds for a frame and how many of them in the network
#[derive(Args)]
pub struct Enhance {
    /// Name or file of the model.
    #[arg(long, default_value = "builtin")]
    model: String,
    /// Size of the input.
    #[arg(long, default_value = "480x270", value_parser = size)]
    size: Size,
    /// Size of the result over that of the input.
    #[arg(long, default_value_t = 4.0)]
    scale: f64,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Frames to time; one more is run first.
    #[arg(long, default_value_t = 5)]
    frames: usize,
    /// Function evaluations; the model's own number unless said otherwise.
    #[arg(long)]
    steps: Option<usize>,
    /// Run this level alone in this process (what the program does for each level).
    #[arg(long)]
    level: Option<CpuLevel>,
}

impl Enhance {
    /// Runs the command.
    ///
    /// # Errors
    /// When the model does not load or run.
    pub fn run(&self) -> Result<()> {
        if let Some(level) = self.level {
            return self.time(level);
        }
        // The level is a setting of a process: one process for each.
        let program = std::env::current_exe().map_err(|e| Error::io("this program", e))?;
        for level in CpuLevel::ALL {
            if level <= CpuLevel::detected() {
                std::process::Command::new(&program)
                    .args(std::env::args_os().skip(1))
                    .args(["--level", &level.to_string()])
                    .env(CPU_VARIABLE, level.to_string())
                    .status()
                    .map_err(|e| Error::io(&program, e))?;
            }
        }
        Ok(())
    }

    fn time(&self, level: CpuLevel) -> Result<()> {
        let size = self.size;
        let number = match level {
            CpuLevel::Bf16 => NumberType::Bf16,
            _ => NumberType::F32,
        };
        let runtime = Runtime::new(DeviceSpec::Cpu, number, Some(self.threads))?;
        let enhancer = Enhancer::load(&self.model, &runtime, &Progress::none())?;
        let format = FrameFormat::i420();
        let options = EnhanceOptions {
            target: Target::Scale(self.scale),
            steps: self.steps,
            ..EnhanceOptions::default()
        };
        let mut stream = EnhanceStream::new(enhancer, format, size, options, Progress::none())?;
        let mut before = stream.stats();
        let (mut frames, mut networks) = (Vec::new(), Vec::new());
        for number in 0.. {
            if frames.len() > self.frames {
                break;
            }
            stream.push(picture(format, size, number)?, ())?;
            let after = stream.stats();
            if after.frames > before.frames {
                let ms = |later: std::time::Duration, sooner| (later - sooner).as_secs_f64() * 1e3;
                frames.push(ms(after.busy, before.busy));
                networks.push(ms(after.evaluating, before.evaluating));
                before = after;
            }
        }
        let median = |values: &mut Vec<f64>| {
            values.remove(0);
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let (frame, network) = (median(&mut frames), median(&mut networks));
        println!(
            "{} {size} -> {} {level:>6} {} threads: {frame:8.1} ms a frame ({network:.1} in the network), {:.2} fps",
            self.model,
            stream.output_size(),
            self.threads,
            1e3 / frame
        );
        Ok(())
    }
}

fn size(text: &str) -> std::result::Result<Size, String> {
    let sides = text.split_once('x');
    let sides = sides.and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let (width, height) = sides.ok_or("expected WIDTHxHEIGHT")?;
    Ok(Size::new(width, height))
}

/// A picture with structure, so that nothing is flat or denormal.
fn picture(format: FrameFormat, size: Size, number: usize) -> Result<Frame> {
    let planes = (0..format.plane_count()).map(|index| {
        let plane = format.plane_size(index, size);
        let value = |i: usize| ((i % plane.width * 3) ^ (i / plane.width * 5 + number)) as u8;
        Samples::U8((0..plane.pixels()).map(value).collect())
    });
    Frame::new(format, size, planes.collect())
}
