//! Times the making of one clip: reading the prompt, sampling, decoding.
//!
//!     cargo run --release -p flashvideo --example time_generate -- [--model builtin] [--threads 2] [--steps 8]

use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Parser;
use flashvideo::{
    CancelToken, DeviceSpec, Event, Generator, NumberType, Placement, Progress, Runtime,
};

#[derive(Parser)]
struct Arguments {
    /// Name, file or folder of the model.
    #[arg(long, default_value = "builtin")]
    model: String,
    /// Threads; one on each core unless said otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// Sampling steps; the model's own number unless said otherwise.
    #[arg(long)]
    steps: Option<usize>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::Auto, arguments.threads)?;
    let generator = Generator::find(&arguments.model, None, &Placement::from(runtime))?;
    let mut options = generator.defaults();
    options.steps = arguments.steps.unwrap_or(options.steps);
    let begin = Instant::now();
    generator.preload(&Progress::none())?;
    println!("load    {:7.2} s", begin.elapsed().as_secs_f64());
    let started = Arc::new(Mutex::new(Instant::now()));
    let progress = Progress::new(CancelToken::new(), move |event| {
        let mut started = started.lock().unwrap_or_else(|e| e.into_inner());
        match event {
            Event::Started { .. } => *started = Instant::now(),
            Event::Finished { step } => {
                println!("{step:7} {:7.2} s", started.elapsed().as_secs_f64());
            }
            _ => {}
        }
    });
    let begin = Instant::now();
    let frames = Mutex::new(0);
    generator.pictures(&options, &progress, |_| {
        *frames.lock().unwrap_or_else(|e| e.into_inner()) += 1;
        Ok(())
    })?;
    let frames = frames.into_inner().unwrap_or_else(|e| e.into_inner());
    println!(
        "{frames} frames of {} in {:.2} s",
        options.size,
        begin.elapsed().as_secs_f64()
    );
    Ok(())
}
