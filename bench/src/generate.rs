// SPDX-License-Identifier: MPL-2.0
//! `bench generate`: the time of the parts of one clip, which are reading the prompt, sampling, decoding.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use clap::Args;
use flashvideo::{
    CancelToken, DeviceSpec, Event, Generator, NumberType, Placement, Progress, Result, Runtime,
};

/// Times the making of one clip
#[derive(Args)]
pub struct Generate {
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

impl Generate {
    /// Runs the command.
    ///
    /// # Errors
    /// When the model does not load or run.
    pub fn run(&self) -> Result<()> {
        let runtime = Runtime::new(DeviceSpec::Cpu, NumberType::Auto, self.threads)?;
        let generator = Generator::find(&self.model, None, &Placement::from(runtime))?;
        let mut options = generator.defaults();
        options.steps = self.steps.unwrap_or(options.steps);
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
}
