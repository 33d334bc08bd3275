// SPDX-License-Identifier: MPL-2.0
//! GStreamer's leaks tracer, in a process of its own.

use std::process::Command;

const LEAK: &str = "FLASHVIDEO_TEST_LEAK";

/// What is alive at the end of the ignored test `test`, which ends with [`deinit`].
fn alive(test: &str, leak: bool) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("GST_TRACERS", "leaks")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1");
    if leak {
        // The tracer's warning must not be fatal here.
        command.env(LEAK, "1").env_remove("G_DEBUG");
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text.lines()
        .filter(|line| line.contains("object-alive, type-name=(string)Gst"))
        .map(str::to_owned)
        .collect()
}

/// Runs the ignored test `test` under the tracer, which finds nothing.
pub fn assert_none(test: &str) {
    assert_eq!(alive(test, false), Vec::<String>::new());
    // It would have found something.
    assert_eq!(alive(test, true).len(), 1);
}

/// Lets the tracer tell what it found.
#[expect(clippy::mem_forget, reason = "a leak that must be found")]
pub fn deinit() {
    if std::env::var_os(LEAK).is_some() {
        std::mem::forget(gst::Buffer::new());
    }
    // SAFETY: the last that this process does with GStreamer; all pipelines are stopped and dropped.
    unsafe { gst::deinit() };
}
