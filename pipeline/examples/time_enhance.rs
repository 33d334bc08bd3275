//! Times the enhancement of one frame at every CPU level that this machine has.
//!
//!     cargo run --release -p flashvideo --example time_enhance -- [--model builtin] [--size 480x270] [--threads 1] [--frames 5]
//!
//! Prints for each level the median milliseconds for a frame and how many of them in the network.

use clap::Parser;
use flashvideo::kernels::cpu::{CPU_VARIABLE, CpuLevel};
use flashvideo::{
    DeviceSpec, EnhanceOptions, EnhanceStream, Enhancer, Frame, FrameFormat, NumberType, Progress,
    Runtime, Samples, Size,
};

#[derive(Parser)]
struct Arguments {
    /// Name or file of the model.
    #[arg(long, default_value = "builtin")]
    model: String,
    /// Size of the input.
    #[arg(long, default_value = "480x270")]
    size: String,
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    match arguments.level {
        Some(level) => time(&arguments, level),
        None => {
            // The level is a setting of a process: one process for each.
            let program = std::env::current_exe()?;
            for level in CpuLevel::ALL {
                if level <= CpuLevel::detected() {
                    std::process::Command::new(&program)
                        .args(std::env::args_os().skip(1))
                        .args(["--level", &level.to_string()])
                        .env(CPU_VARIABLE, level.to_string())
                        .status()?;
                }
            }
            Ok(())
        }
    }
}

fn time(arguments: &Arguments, level: CpuLevel) -> Result<(), Box<dyn std::error::Error>> {
    let (width, height) = arguments
        .size
        .split_once('x')
        .ok_or("--size is WIDTHxHEIGHT")?;
    let size = Size::new(width.parse()?, height.parse()?);
    let number = if level == CpuLevel::Bf16 {
        NumberType::Bf16
    } else {
        NumberType::F32
    };
    let runtime = Runtime::new(DeviceSpec::Cpu, number, Some(arguments.threads))?;
    let enhancer = Enhancer::load(&arguments.model, &runtime, &Progress::none())?;
    let format = FrameFormat::i420();
    let options = EnhanceOptions {
        steps: arguments.steps,
        ..EnhanceOptions::default()
    };
    let mut stream = EnhanceStream::new(enhancer, format, size, options, Progress::none())?;
    let mut before = stream.stats();
    let (mut frames, mut networks) = (Vec::new(), Vec::new());
    for number in 0.. {
        if frames.len() > arguments.frames {
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
        arguments.model,
        stream.output_size(),
        arguments.threads,
        1e3 / frame
    );
    Ok(())
}

/// A picture with structure, so that nothing is flat or denormal.
fn picture(format: FrameFormat, size: Size, number: usize) -> flashvideo::Result<Frame> {
    let planes = (0..format.plane_count()).map(|index| {
        let plane = format.plane_size(index, size);
        let value = |i: usize| ((i % plane.width * 3) ^ (i / plane.width * 5 + number)) as u8;
        Samples::U8((0..plane.pixels()).map(value).collect())
    });
    Frame::new(format, size, planes.collect())
}
