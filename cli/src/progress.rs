// SPDX-License-Identifier: MPL-2.0
//! Progress bars of work on files of models.

use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar that counts bytes.
pub fn bytes_bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = "{msg:>12} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    // A constant; a wrong one would only cost the bar.
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar
}
