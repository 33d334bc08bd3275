// SPDX-License-Identifier: MPL-2.0
//! GStreamer's leaks tracer over many clips, in a process of its own.

use std::process::Command;

use gst::prelude::*;

use crate::rig::{PATIENCE, Rig, element, init};

const LEAK: &str = "FLASHVIDEOSRC_TEST_LEAK";

/// Runs [`fifty_clips`] under the tracer and returns what it says.
fn traced(leak: bool) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "leaks::fifty_clips", "--ignored", "--nocapture"])
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
fn fifty_clips() {
    init();
    let run = |properties: &[(&str, &str)], to_the_end: bool| {
        let source = element(properties);
        let sink = gst::ElementFactory::make("fakesink").build().unwrap();
        sink.set_property("sync", false);
        let pipeline = gst::Pipeline::new();
        pipeline.add_many([&source, &sink]).unwrap();
        source.link(&sink).unwrap();
        let _ = pipeline.set_state(gst::State::Playing);
        if to_the_end {
            let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
            let bus = pipeline.bus().unwrap();
            bus.timed_pop_filtered(PATIENCE, &wanted).unwrap();
        } else {
            // Stopped in full swing, after a flush.
            let _ = pipeline.state(PATIENCE);
            pipeline
                .seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::from_seconds(100))
                .unwrap();
        }
        pipeline.set_state(gst::State::Null).unwrap();
    };
    let short = [("num-frames", "1"), ("steps", "2")];
    run(&[&short[..], &[("num-clips", "50")]].concat(), true);
    run(&[("model", "none")], true);
    run(&[("num-clips", "0")], false);
    if std::env::var_os(LEAK).is_some() {
        std::mem::forget(gst::Buffer::new());
    }
    // SAFETY: the last that this process does with GStreamer; all pipelines are stopped and dropped.
    unsafe { gst::deinit() };
}

#[test]
fn buffers_and_clips_are_given_back() {
    let mut rig = Rig::new(&[("num-clips", "50"), ("num-frames", "1"), ("steps", "2")]);
    let buffers = rig.finish();
    assert_eq!(buffers.len(), 50);
    rig.wait_for_clips(50);
    let weak = rig.element.downgrade();
    assert_eq!(rig.stats::<u64>("kept-clips"), 50);
    let bytes = rig.stats::<u64>("kept-bytes");
    assert_eq!(bytes, 50 * 3 * 96 * 54);
    rig.element.set_state(gst::State::Null).unwrap();
    assert_eq!(rig.stats::<u64>("kept-bytes"), 0);
    // Messages that nobody has read hold their source.
    rig.bus.set_flushing(true);
    drop((buffers, rig));
    assert!(weak.upgrade().is_none());
}
