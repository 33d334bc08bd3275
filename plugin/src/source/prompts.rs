// SPDX-License-Identifier: MPL-2.0
//! Prompts: what can be one, and the file of them, one in each line.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Most bytes of a prompt, which are what tokenizers take. Of so many only the first few hundred are ever read.
pub(super) const MAX_PROMPT: usize = 1 << 16;
/// More than this is no list of prompts.
const MAX_BYTES: u64 = 1 << 20;
/// A state change waits no longer for a pipe that nobody writes to.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is wrong with `prompt`, if something is.
pub(super) fn problem(prompt: &str) -> Option<String> {
    if prompt.len() > MAX_PROMPT {
        let bytes = prompt.len();
        return Some(format!(
            "a prompt of {bytes} bytes; expected at most {MAX_PROMPT}, of which models read a few hundred words"
        ));
    }
    prompt
        .contains('\0')
        .then(|| "a NUL character; expected text".to_owned())
}

/// The prompts in the file at `path`; empty lines and those that begin with `#` are left out.
///
/// # Errors
/// When the file cannot be read, is no text, has no prompt, or one that is none.
pub(super) fn read(path: &Path) -> Result<Vec<String>, gst::ErrorMessage> {
    let shown = path.display();
    let bytes = bytes(path).map_err(|e| {
        gst::error_msg!(gst::ResourceError::OpenRead, ("prompts-file {shown}: {e}"))
    })?;
    prompts(bytes).map_err(|problem| {
        gst::error_msg!(
            gst::ResourceError::Read,
            ("prompts-file {shown}: {problem}")
        )
    })
}

/// What is in the file at `path`, or as much of it as is too much.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.is_file() {
        return first_bytes(path);
    }
    // Opening a pipe waits for its writer, and reading it for what that writes.
    let (found, result) = mpsc::channel();
    let reader = thread::Builder::new().name("flashvideosrc:prompts".to_owned());
    reader.spawn({
        let path = path.to_owned();
        move || {
            let _ = found.send(first_bytes(&path));
        }
    })?;
    result.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        // A writer that writes nothing lets the reader go, before it can take what is written for another one.
        drop(File::options().read(true).write(true).open(path));
        let _ = result.recv_timeout(PATIENCE / 10);
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nobody has written to it for {PATIENCE:?}; name a regular file"),
        ))
    })
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The prompts in a text.
///
/// # Errors
/// What is wrong, and in which line.
fn prompts(bytes: Vec<u8>) -> Result<Vec<String>, String> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err("more than 1 MiB; expected text with a prompt in each line".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..before]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        format!("line {line}: no UTF-8; expected text with a prompt in each line")
    })?;
    // Some editors mark UTF-8 so.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut prompts = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(problem) = problem(line) {
            return Err(format!("line {}: {problem}", index + 1));
        }
        prompts.push(line.to_owned());
    }
    if prompts.is_empty() {
        return Err("no prompt in it; expected one in each line".to_owned());
    }
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_prompts() {
        let of = |text: &str| prompts(text.as_bytes().to_vec());
        assert_eq!(
            of("\u{feff}# a\r\n\n one \r\ntwo"),
            Ok(vec!["one".into(), "two".into()])
        );
        assert_eq!(of("\u{feff}one"), Ok(vec!["one".into()]));
        let longest = "a".repeat(MAX_PROMPT);
        assert_eq!(of(&longest).map(|all| all.len()), Ok(1));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let of = |text: &[u8]| prompts(text.to_vec()).unwrap_err();
        let long = format!("one\n\n{}\n", "a".repeat(MAX_PROMPT + 1));
        let found = of(long.as_bytes());
        assert!(found.starts_with("line 3: a prompt of 65537"), "{found}");
        let found = of(b"one\ntwo\0three\n");
        assert!(found.starts_with("line 2: a NUL"), "{found}");
        let found = of(b"one\ntwo\nth\xffree");
        assert!(found.starts_with("line 3: no UTF-8"), "{found}");
        // UTF-16 as some editors write it.
        assert!(of(b"\xff\xfea\0").starts_with("line 1: no UTF-8"));
        assert!(of(b"# nothing\n").starts_with("no prompt"));
        assert!(of(&vec![b'a'; 2 << 20]).starts_with("more than 1 MiB"));
    }
}
