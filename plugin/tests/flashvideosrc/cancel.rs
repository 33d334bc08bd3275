// SPDX-License-Identifier: MPL-2.0
//! Stopping at any moment.

use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::fixture::{PATIENCE, element};

/// The promise is 100 ms; a machine that does other things besides is forgiven more.
const BOUND: Duration = Duration::from_secs(1);
const TRIES: u64 = 100;

/// A sink that takes buffers as fast as they come, behind a source that makes clips for ever.
fn pipeline(seed: u64) -> (gst::Pipeline, gst::Element) {
    let source = element(&[
        ("num-clips", "0"),
        ("steps", "40"),
        ("seed", &seed.to_string()),
    ]);
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .build()
        .unwrap();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &sink]).unwrap();
    source.link(&sink).unwrap();
    (pipeline, source)
}

/// 0 to 30 ms, different each time.
fn moment(number: u64) -> Duration {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    Duration::from_micros(mixed % 30_000)
}

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{what}: median {median:?}, worst of {} {worst:?}",
        times.len()
    );
    assert!(worst < BOUND, "{what}: {worst:?}");
}

#[test]
fn a_state_change_ends_generation_at_any_moment() {
    let mut times = Vec::new();
    for number in 0..TRIES {
        let (pipeline, _) = pipeline(number);
        pipeline.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(moment(number));
        let begin = Instant::now();
        pipeline.set_state(gst::State::Null).unwrap();
        times.push(begin.elapsed());
    }
    tell("to NULL", times);
}

#[test]
fn a_flush_ends_generation_at_any_moment() {
    let (pipeline, source) = pipeline(0);
    pipeline.set_state(gst::State::Playing).unwrap();
    let (result, ..) = pipeline.state(PATIENCE);
    result.unwrap();
    let mut times = Vec::new();
    for number in 0..TRIES {
        // Into clips that nobody has made yet.
        let target = gst::ClockTime::from_seconds(1000 * (number + 1));
        let begin = Instant::now();
        assert!(source.seek_simple(gst::SeekFlags::FLUSH, target).is_ok());
        times.push(begin.elapsed());
        std::thread::sleep(moment(number));
    }
    pipeline.set_state(gst::State::Null).unwrap();
    tell("flush", times);
}
