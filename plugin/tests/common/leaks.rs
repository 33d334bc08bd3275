// SPDX-License-Identifier: MPL-2.0
//! GStreamer's leaks tracer, in a process of its own.

use std::process::Command;

const LEAK: &str = "FLASHVIDEO_TEST_LEAK";

/// The ignored test `test`, which ends with [`deinit`], in a process of its own.
fn tracked(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("GST_TRACERS", "leaks")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1");
    command
}

/// What is alive at its end.
fn alive(command: &mut Command) -> Vec<String> {
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
    assert_eq!(alive(&mut tracked(test)), Vec::<String>::new());
    // It would have found something, and that its warning is not fatal.
    let mut leaking = tracked(test);
    leaking.env(LEAK, "1").env_remove("G_DEBUG");
    assert_eq!(alive(&mut leaking).len(), 1);
}

/// Runs the ignored test `test` under the tracer, which finds nothing. Warnings are not fatal: the test looks at them itself.
pub fn assert_none_and_go_on(test: &str) {
    let mut command = tracked(test);
    assert_eq!(alive(command.env_remove("G_DEBUG")), Vec::<String>::new());
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
