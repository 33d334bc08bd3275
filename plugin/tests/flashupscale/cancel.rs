// SPDX-License-Identifier: MPL-2.0
//! Whatever the model is at, it is left at once. Prints how long that took.

use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::fixture::{Fixture, caps, i420};

/// The goal is 100 ms on an idle machine. The median is tested, against a busy machine's time.
const LENIENT: Duration = Duration::from_secs(1);
/// The dearest settings: a frame takes seconds.
const DEAR: &[(&str, &str)] = &[("preset", "quality"), ("steps", "8"), ("noise", "1")];

/// Moments after the first frame went in, scattered over an evaluation and the steps between.
fn moments(count: u64) -> impl Iterator<Item = Duration> {
    (0..count).map(|round| Duration::from_millis(round * 7919 % 350))
}

fn assert_soon(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let median = times[times.len() / 2];
    eprintln!(
        "{what}: median {median:.1?}, longest {:.1?} of {}",
        times[times.len() - 1],
        times.len()
    );
    assert!(median < LENIENT, "{what}: {times:?}");
}

fn push_forever(pad: gst::Pad) -> thread::JoinHandle<gst::FlowError> {
    thread::spawn(move || {
        (0..)
            .find_map(|index| pad.push(i420(320, 240, index)).err())
            .expect("the range has no end")
    })
}

#[test]
fn a_flush_at_any_moment() {
    let fixture = Fixture::with_size(320, 240, DEAR);
    let pad = fixture.harness.srcpad().unwrap().clone();
    let mut times = Vec::new();
    for moment in moments(12) {
        let pusher = push_forever(pad.clone());
        thread::sleep(moment);
        let start = Instant::now();
        assert!(pad.push_event(gst::event::FlushStart::new()));
        assert_eq!(pusher.join().unwrap(), gst::FlowError::Flushing);
        // Returns when the worker has left the model.
        assert!(pad.push_event(gst::event::FlushStop::new(true)));
        times.push(start.elapsed());
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(pad.push_event(gst::event::Segment::new(&segment)));
    }
    assert_soon("flush", times);
}

#[test]
fn the_end_at_any_moment() {
    let mut fixture = Fixture::with_size(320, 240, DEAR);
    let pad = fixture.harness.srcpad().unwrap().clone();
    let mut times = Vec::new();
    for moment in moments(8) {
        fixture.element.set_state(gst::State::Playing).unwrap();
        assert!(
            fixture
                .harness
                .push_event(gst::event::StreamStart::new("again"))
        );
        fixture
            .harness
            .set_src_caps(caps(gst_video::VideoFormat::I420, 320, 240));
        let pusher = push_forever(pad.clone());
        thread::sleep(moment);
        let start = Instant::now();
        fixture.element.set_state(gst::State::Null).unwrap();
        times.push(start.elapsed());
        assert_eq!(pusher.join().unwrap(), gst::FlowError::Flushing);
    }
    assert_soon("to NULL", times);
}
