// SPDX-License-Identifier: MPL-2.0
//! GStreamer's leaks tracer over many clips, in a process of its own.

use gst::prelude::*;

use crate::common::leaks::{assert_none, deinit};
use crate::fixture::{Fixture, PATIENCE, element, init};

#[test]
fn the_tracer_finds_nothing() {
    assert_none("leaks::fifty_clips");
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
    deinit();
}

#[test]
fn buffers_and_clips_are_given_back() {
    let mut fixture = Fixture::new(&[("num-clips", "50"), ("num-frames", "1"), ("steps", "2")]);
    let buffers = fixture.finish();
    assert_eq!(buffers.len(), 50);
    fixture.wait_for_clips(50);
    let weak = fixture.element.downgrade();
    assert_eq!(fixture.stats::<u64>("kept-clips"), 50);
    let bytes = fixture.stats::<u64>("kept-bytes");
    assert_eq!(bytes, 50 * 3 * 96 * 54);
    fixture.element.set_state(gst::State::Null).unwrap();
    assert_eq!(fixture.stats::<u64>("kept-bytes"), 0);
    // Messages that nobody has read hold their source.
    fixture.bus.set_flushing(true);
    drop((buffers, fixture));
    assert!(weak.upgrade().is_none());
}
