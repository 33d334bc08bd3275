// SPDX-License-Identifier: MPL-2.0
//! The file of prompts: one in each line.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More than this is no list of prompts.
const MAX_BYTES: u64 = 1 << 20;

/// The prompts in the file at `path`; empty lines and those that begin with `#` are left out.
///
/// # Errors
/// When the file cannot be read, is no text, or has no prompt.
pub(super) fn read(path: &Path) -> Result<Vec<String>, gst::ErrorMessage> {
    let shown = path.display();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| {
            gst::error_msg!(gst::ResourceError::OpenRead, ("prompts-file {shown}: {e}"))
        })?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(gst::error_msg!(
            gst::ResourceError::Read,
            ("prompts-file {shown}: more than 1 MiB; expected text with a prompt in each line")
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        gst::error_msg!(
            gst::ResourceError::Read,
            ("prompts-file {shown}: no UTF-8; expected text with a prompt in each line")
        )
    })?;
    let prompts: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if prompts.is_empty() {
        return Err(gst::error_msg!(
            gst::ResourceError::Read,
            ("prompts-file {shown}: no prompt in it; expected one in each line")
        ));
    }
    Ok(prompts)
}
