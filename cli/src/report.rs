// SPDX-License-Identifier: MPL-2.0
//! What a long job tells while it runs: a bar on a terminal, a line now and then in a log, a line of JSON each second for
//! another program, or nothing.

use std::cell::RefCell;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// How it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A bar with what is left.
    Bar,
    /// A line every ten seconds.
    Lines,
    /// A line of JSON every second.
    Json,
    /// Nothing but errors.
    Quiet,
}

impl Style {
    /// From what is asked for and from what standard error is.
    pub fn of(json: bool, quiet: bool) -> Self {
        match (json, quiet) {
            (true, _) => Self::Json,
            (_, true) => Self::Quiet,
            _ if std::io::stderr().is_terminal() => Self::Bar,
            _ => Self::Lines,
        }
    }
}

/// Tells how one job goes.
#[derive(Debug)]
pub struct Report {
    style: Style,
    /// Whether standard output carries pictures.
    output_is_taken: bool,
    title: String,
    bar: ProgressBar,
    of: Option<u64>,
    started: Instant,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    frames: u64,
    told: Instant,
}

impl Report {
    /// On the job that people know as `title`.
    pub fn new(style: Style, output_is_taken: bool, title: &str) -> Self {
        let bar = match style {
            Style::Bar => ProgressBar::no_length(),
            _ => ProgressBar::hidden(),
        };
        if style == Style::Bar {
            bar.set_style(template("{spinner} {prefix}: {msg}  {elapsed}"));
            bar.set_prefix(title.to_owned());
            bar.set_message("starting");
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let now = Instant::now();
        Self {
            style,
            output_is_taken,
            title: title.to_owned(),
            bar,
            of: None,
            started: now,
            state: RefCell::new(State {
                frames: 0,
                told: now,
            }),
        }
    }

    /// Tells how many frames are to come, if that is known.
    pub fn expect(&mut self, frames: Option<u64>) {
        self.of = frames.filter(|frames| *frames > 0);
        if let (Some(of), Style::Bar) = (self.of, self.style) {
            self.bar.set_length(of);
            self.bar
                .set_style(template("{prefix} {wide_bar} {percent:>3}%  {msg}"));
        }
    }

    /// Seconds since the begin.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// One frame more is done.
    pub fn frame(&self) {
        let mut state = self.state.borrow_mut();
        state.frames += 1;
        let seconds = self.seconds().max(1e-3);
        let rate = state.frames as f64 / seconds;
        let left = self
            .of
            .map(|of| of.saturating_sub(state.frames) as f64 / rate);
        let period = match self.style {
            Style::Bar => Duration::from_millis(100),
            Style::Lines => Duration::from_secs(10),
            Style::Json => Duration::from_secs(1),
            Style::Quiet => return,
        };
        if state.told.elapsed() < period {
            return;
        }
        state.told = Instant::now();
        let frames = state.frames;
        drop(state);
        match self.style {
            Style::Json => self.json(&json!({
                "event": "progress", "input": self.title, "frames": frames, "of": self.of,
                "frames_per_second": round(rate), "seconds_left": left.map(f64::round),
            })),
            _ => {
                let of = self.of.map_or(String::new(), |of| format!(" of {of}"));
                let left = left.map_or(String::new(), |left| format!(", {} left", clock(left)));
                let text = format!("{frames}{of} frames, {} frames/s{left}", round(rate));
                if self.style == Style::Bar {
                    self.bar.set_position(frames);
                    self.bar.set_message(text);
                } else {
                    eprintln!("{}: {text}", self.title);
                }
            }
        }
    }

    /// Tells something in words.
    pub fn say(&self, line: &str) {
        match self.style {
            Style::Bar => self.bar.suspend(|| eprintln!("{}: {line}", self.title)),
            Style::Lines => eprintln!("{}: {line}", self.title),
            Style::Json => {
                self.json(&json!({ "event": "note", "input": self.title, "message": line }));
            }
            Style::Quiet => {}
        }
    }

    /// Tells that something is wrong, also where nothing else is told.
    pub fn warn(&self, line: &str) {
        match self.style {
            Style::Json => {
                self.json(&json!({ "event": "warning", "input": self.title, "message": line }));
            }
            _ => self
                .bar
                .suspend(|| eprintln!("warning: {}: {line}", self.title)),
        }
    }

    /// Tells that it is done: `line` for people, `event` for programs.
    pub fn done(&self, line: &str, event: &Value) {
        self.bar.finish_and_clear();
        match self.style {
            Style::Json => self.json(event),
            Style::Quiet => {}
            _ if self.output_is_taken => eprintln!("{line}"),
            _ => tell!("{line}"),
        }
    }

    /// Tells that it failed, to the programs; people read standard error.
    pub fn failed(&self, error: &str) {
        self.bar.finish_and_clear();
        if self.style == Style::Json {
            self.json(&json!({ "event": "error", "input": self.title, "message": error }));
        }
    }

    fn json(&self, value: &Value) {
        // Whoever closed the pipe does not want to know.
        let _ = if self.output_is_taken {
            writeln!(std::io::stderr(), "{value}")
        } else {
            writeln!(std::io::stdout(), "{value}")
        };
    }
}

fn round(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// Seconds as a clock shows them.
pub fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

fn template(text: &str) -> ProgressStyle {
    // The templates are constants of this file; a wrong one would only cost the bar.
    ProgressStyle::with_template(text).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::clock;

    #[test]
    fn seconds_are_shown_as_clocks_do() {
        assert_eq!(
            [0.2, 59.6, 61.0, 3725.0].map(clock),
            ["0:00", "1:00", "1:01", "1:02:05"]
        );
    }
}
