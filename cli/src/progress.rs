// SPDX-License-Identifier: MPL-2.0
//! Progress bars, and the count of what went through.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use gst::prelude::*;
use indicatif::{ProgressBar, ProgressStyle};

/// Watches one pad: draws a bar with frames, frames per second and time left, and counts.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bar: ProgressBar,
    frames: AtomicU64,
    size: OnceLock<(i32, i32)>,
    started: Instant,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new()
    }
}

impl Watch {
    /// A bar on standard error; nothing is drawn where that is no terminal.
    pub fn new() -> Self {
        let bar = ProgressBar::no_length();
        bar.set_style(style("{spinner} {msg}  {elapsed}"));
        bar.set_message("starting");
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Arc::new(Inner {
            bar,
            frames: AtomicU64::new(0),
            size: OnceLock::new(),
            started: Instant::now(),
        }))
    }

    /// Tells how long the whole clip is; without it the bar shows no time left.
    pub fn set_duration(&self, duration: gst::ClockTime) {
        self.0.bar.set_length(duration.mseconds());
        self.0
            .bar
            .set_style(style("{wide_bar} {percent}%  {msg}  {eta} left"));
    }

    /// Counts the frames that leave `pad`.
    pub fn attach(&self, pad: &gst::Pad) {
        let inner = Arc::clone(&self.0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data {
                inner.count(pad, buffer);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        if self.0.bar.is_hidden() {
            eprintln!("{line}");
        } else {
            self.0.bar.println(line);
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.0.bar.finish_and_clear();
    }

    /// Frames so far.
    pub fn frames(&self) -> u64 {
        self.0.frames.load(Ordering::Relaxed)
    }

    /// Width and height of the frames, once there was one.
    pub fn size(&self) -> Option<(i32, i32)> {
        self.0.size.get().copied()
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }
}

impl Inner {
    fn count(&self, pad: &gst::Pad, buffer: &gst::Buffer) {
        let frames = self.frames.fetch_add(1, Ordering::Relaxed) + 1;
        self.size.get_or_init(|| {
            let caps = pad.current_caps();
            let field = |name| {
                caps.as_ref()
                    .and_then(|c| c.structure(0)?.get(name).ok())
                    .unwrap_or(0)
            };
            (field("width"), field("height"))
        });
        let rate = frames as f64 / self.started.elapsed().as_secs_f64().max(1e-3);
        self.bar
            .set_message(format!("{frames} frames  {rate:.1} frames/s"));
        if let Some(end) = buffer
            .pts()
            .map(|pts| pts + buffer.duration().unwrap_or_default())
        {
            self.bar.set_position(end.mseconds());
        }
    }
}

/// A progress bar that counts bytes.
pub fn bytes_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(style(
        "{msg:>12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    ));
    bar
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; a wrong one would only cost the bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
