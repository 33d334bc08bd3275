// SPDX-License-Identifier: MPL-2.0
//! GStreamer's leaks tracer, in a process of its own.

use std::process::Command;

use gst::prelude::*;

use crate::rig::{PATIENCE, init};

const LEAK: &str = "FLASHUPSCALE_TEST_LEAK";

/// Runs [`small_pipelines`] under the tracer and returns what it says.
fn traced(leak: bool) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "leaks::small_pipelines",
            "--ignored",
            "--nocapture",
        ])
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
    text
}

#[test]
fn the_tracer_finds_nothing() {
    let alive = |text: &str| {
        text.lines()
            .filter(|line| line.contains("object-alive, type-name=(string)Gst"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(alive(&traced(false)), Vec::<String>::new());
    // It would have found something.
    assert_eq!(alive(&traced(true)).len(), 1);
}

#[test]
#[ignore = "run by the_tracer_finds_nothing in a process of its own"]
fn small_pipelines() {
    init();
    for line in [
        "videotestsrc num-buffers=5 ! video/x-raw,width=16,height=12 ! flashupscale preset=live ! fakesink",
        "videotestsrc num-buffers=5 ! video/x-raw,width=16,height=12 ! flashupscale bypass=true ! fakesink",
        "videotestsrc num-buffers=5 ! video/x-raw,width=16,height=12 ! flashupscale model=none ! fakesink",
        "videotestsrc ! video/x-raw,width=16,height=12 ! flashupscale preset=live ! fakesink",
    ] {
        let pipeline = gst::parse::launch(line).unwrap();
        let _ = pipeline.set_state(gst::State::Playing);
        let bus = pipeline.bus().unwrap();
        if line.contains("num-buffers") {
            bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Eos, gst::MessageType::Error])
                .unwrap();
        } else {
            // Stopped in full swing, after a flush.
            let _ = pipeline.state(PATIENCE);
            pipeline
                .seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_seconds(1))
                .unwrap();
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
    if std::env::var_os(LEAK).is_some() {
        std::mem::forget(gst::Buffer::new());
    }
    // SAFETY: the last that this process does with GStreamer; all pipelines are stopped and dropped.
    unsafe { gst::deinit() };
}
