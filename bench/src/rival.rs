// SPDX-License-Identifier: MPL-2.0
//! The rivals: a Python process that runs one case for each line.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

/// Something whose runs alternate with ours.
pub trait Rival {
    /// Milliseconds of one run of `case`, or why there are none.
    fn time(&mut self, case: &str) -> Result<f64, String>;

    /// Some values of the result of `case`.
    fn probe(&mut self, case: &str) -> Result<Vec<f32>, String>;
}

/// A running `rivals.py`.
pub struct Rivals {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    /// Libraries and their versions, those that are not installed without one.
    pub versions: serde_json::Value,
}

#[derive(Deserialize)]
struct Answer {
    ms: Option<f64>,
    probe: Option<Vec<f32>>,
    missing: Option<String>,
    versions: Option<serde_json::Value>,
}

impl Rivals {
    /// Starts `script` with `python`.
    pub fn start(python: &Path, script: &Path, threads: usize) -> io::Result<Self> {
        let mut child = Command::new(python)
            .arg(script)
            .env("BENCH_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let closed = || io::Error::other("the rivals' process has no pipes");
        let to = child.stdin.take().ok_or_else(closed)?;
        let from = BufReader::new(child.stdout.take().ok_or_else(closed)?);
        let mut rivals = Self {
            child,
            to: Some(to),
            from,
            versions: serde_json::Value::Null,
        };
        rivals.versions = rivals.read()?.versions.unwrap_or_default();
        Ok(rivals)
    }

    fn ask(&mut self, line: &str) -> Result<Answer, String> {
        let failed = |e: io::Error| format!("the rivals' process failed: {e}");
        if let Some(to) = &mut self.to {
            writeln!(to, "{line}")
                .and_then(|()| to.flush())
                .map_err(failed)?;
        }
        let answer = self.read().map_err(failed)?;
        match answer.missing {
            Some(why) => Err(why),
            None => Ok(answer),
        }
    }

    fn read(&mut self) -> io::Result<Answer> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Rival for Rivals {
    fn time(&mut self, case: &str) -> Result<f64, String> {
        let answer = self.ask(case)?;
        answer.ms.ok_or_else(|| "no time in the answer".to_owned())
    }

    fn probe(&mut self, case: &str) -> Result<Vec<f32>, String> {
        let answer = self.ask(&format!("probe {case}"))?;
        answer
            .probe
            .ok_or_else(|| "no values in the answer".to_owned())
    }
}

impl Drop for Rivals {
    fn drop(&mut self) {
        // The end of its input ends the process.
        self.to = None;
        let _ = self.child.wait();
    }
}
