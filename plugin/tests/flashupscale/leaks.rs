// SPDX-License-Identifier: MPL-2.0
//! GStreamer's leaks tracer, in a process of its own.

use gst::prelude::*;

use crate::common::leaks::{assert_none, deinit};
use crate::fixture::{PATIENCE, init};

#[test]
fn the_tracer_finds_nothing() {
    assert_none("leaks::small_pipelines");
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
    deinit();
}
