// SPDX-License-Identifier: MPL-2.0
//! Starting `ffmpeg` and `ffprobe`, and what they say when they fail.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::interrupt::{self, Interrupted};

/// How often a program that runs is looked after.
const POLL: Duration = Duration::from_millis(10);
/// Lines of a program's complaints that are kept.
const KEPT: usize = 200;

/// `ffmpeg`, quiet but for errors, that neither asks nor reads the terminal.
pub fn ffmpeg() -> Command {
    let mut command = program("ffmpeg");
    command.args([
        "-hide_banner",
        "-nostdin",
        "-loglevel",
        "repeat+error",
        "-y",
    ]);
    command
}

/// `ffprobe`, quiet but for errors.
pub fn ffprobe() -> Command {
    let mut command = program("ffprobe");
    command.args(["-hide_banner", "-loglevel", "error"]);
    command
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    // Ctrl-C goes to the whole group of the terminal; this process decides what becomes of its helpers.
    command.process_group(0);
    command.stdin(Stdio::null());
    command
}

/// A path as ffmpeg takes it: its own syntax has colons and a leading minus sign.
pub fn file(path: &Path) -> OsString {
    let mut name = OsString::from("file:");
    name.push(path);
    name
}

/// Starts a program.
///
/// # Errors
/// If it is not installed.
pub fn start(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|error| {
        let name = command.get_program().to_string_lossy().into_owned();
        if error.kind() == std::io::ErrorKind::NotFound {
            anyhow!(
                "the program '{name}' is not installed; clips are read and written with it: on Debian, apt install ffmpeg"
            )
        } else {
            anyhow!("the program '{name}' does not start: {error}")
        }
    })
}

/// Runs a program to its end.
///
/// # Errors
/// If it is not installed, or [`Interrupted`].
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(command)?;
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What came before an error is what there is.
            let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            bytes
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let status = loop {
        if let Some(status) = child.try_wait().context("waiting for a program")? {
            break status;
        }
        if interrupt::wanted() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Interrupted.into());
        }
        std::thread::sleep(POLL);
    };
    let joined = |thread: JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Output {
        status,
        stdout: joined(stdout),
        stderr: joined(stderr),
    })
}

/// Runs `ffmpeg` or `ffprobe` to its end, which must be a good one: what it printed.
///
/// # Errors
/// What it says, in one sentence.
pub fn succeed(command: &mut Command) -> Result<Vec<u8>> {
    let done = output(command)?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let lines: Vec<String> = String::from_utf8_lossy(&done.stderr)
        .lines()
        .map(str::to_owned)
        .collect();
    bail!("{}", reason(&lines))
}

/// The lines that a running program writes to its standard error, collected by a thread so that it never waits for us.
#[derive(Debug)]
pub struct Complaints {
    lines: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

impl Complaints {
    /// From `pipe` until it closes.
    pub fn collect(pipe: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::clone(&lines);
        let thread = std::thread::spawn(move || {
            // Lines need not be UTF-8: they name files.
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let mut lines = ours.lock().unwrap_or_else(PoisonError::into_inner);
                if !line.is_empty() && lines.len() < KEPT {
                    lines.push(line);
                }
            }
        });
        Self { lines, thread }
    }

    /// All lines, once the program has ended.
    pub fn all(self) -> Vec<String> {
        // A reader that panicked has read what it has read.
        let _ = self.thread.join();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *lines)
    }
}

/// Whether a program complains of a full disk.
pub fn is_full(lines: &[String]) -> bool {
    lines
        .iter()
        .any(|line| line.contains("No space left on device"))
}

/// Why a program failed, from its complaints: the last line that tells something, without the address of a C structure.
pub fn reason(lines: &[String]) -> String {
    if is_full(lines) {
        return "the disk is full".to_owned();
    }
    let vague = |line: &str| {
        [
            "Conversion failed!",
            "Error initializing output stream",
            "Could not write header",
            "Error while opening encoder",
            "Error opening output file",
            "Error opening input file",
            "Exiting normally",
            "Nothing was written into output file",
        ]
        .iter()
        .any(|words| line.contains(words))
    };
    let telling = lines
        .iter()
        .rev()
        .find(|line| !vague(line) && !line.trim().is_empty());
    match telling.or(lines.last()) {
        Some(line) => without_address(line).to_owned(),
        None => "ffmpeg failed without a word".to_owned(),
    }
}

/// `[libx264 @ 0x5581]` in front of a line tells people nothing.
pub fn without_address(line: &str) -> &str {
    match line.split_once("] ") {
        Some((tag, rest)) if tag.starts_with('[') && tag.contains(" @ 0x") => without_address(rest),
        _ => line,
    }
}

/// Adds `words` and gives the command back.
pub fn with<S: AsRef<OsStr>>(mut command: Command, words: impl IntoIterator<Item = S>) -> Command {
    command.args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_reason_is_the_line_that_tells_something() {
        let said = lines(
            "[libx264 @ 0x55d0] [eq @ 0x1] width not divisible by 2 (171x95)\n\
             Error initializing output stream 0:0 -- Error while opening encoder\nConversion failed!",
        );
        assert_eq!(reason(&said), "width not divisible by 2 (171x95)");
        assert_eq!(
            reason(&lines("a: No space left on device\nb")),
            "the disk is full"
        );
        assert_eq!(reason(&[]), "ffmpeg failed without a word");
    }

    #[test]
    fn a_failure_is_an_error_in_one_line() {
        let mut command = with(ffprobe(), ["file:/no/such/file"]);
        let error = succeed(&mut command).unwrap_err().to_string();
        assert!(
            error.contains("No such file") && !error.contains('\n'),
            "{error}"
        );
        let missing = output(&mut Command::new("no-such-program")).unwrap_err();
        assert!(missing.to_string().contains("not installed"), "{missing}");
    }
}
