// SPDX-License-Identifier: MPL-2.0
//! Latency.

use flashvideo::{Enhancer, Progress, Runtime};
use gst::prelude::*;

use crate::fixture::{FRAME, Fixture, PATIENCE, caps, i420};

fn latency(fixture: &Fixture) -> (bool, gst::ClockTime, Option<gst::ClockTime>) {
    let mut query = gst::query::Latency::new();
    assert!(fixture.harness.sinkpad().unwrap().peer_query(&mut query));
    query.result()
}

fn start(live: bool, properties: &[(&str, &str)]) -> Fixture {
    let mut fixture = Fixture::new(properties);
    fixture.harness.set_live(live);
    fixture
        .harness
        .set_upstream_latency(gst::ClockTime::from_mseconds(10));
    assert_eq!(latency(&fixture).1, gst::ClockTime::from_mseconds(10));
    fixture
        .harness
        .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    fixture
        .bus
        .timed_pop_filtered(PATIENCE, &[gst::MessageType::Latency])
        .expect("a latency message once it is known");
    fixture
}

#[test]
fn a_live_pipeline_waits_for_whole_frames() {
    let fixture = start(true, &[]);
    let (live, min, max) = latency(&fixture);
    assert!(live);
    let own = min - gst::ClockTime::from_mseconds(10);
    assert!(
        own >= FRAME && own.nseconds().is_multiple_of(FRAME.nseconds()),
        "{own}"
    );
    assert!(max.is_none_or(|max| max >= min));
}

#[test]
fn the_latency_is_the_models_look_ahead_and_a_frame() {
    let runtime = Runtime::cpu().unwrap();
    for (preset, model) in [("live", "builtin:live"), ("balanced", "builtin")] {
        let model = Enhancer::load(model, &runtime, &Progress::none()).unwrap();
        let fixture = start(true, &[("preset", preset)]);
        let own = latency(&fixture).1 - gst::ClockTime::from_mseconds(10);
        assert_eq!(own, FRAME * (model.look_ahead() as u64 + 1), "{preset}");
    }
}

#[test]
fn other_pipelines_have_none() {
    let fixture = start(false, &[]);
    assert_eq!(latency(&fixture).1, gst::ClockTime::from_mseconds(10));
}

#[test]
fn bypass_does_not_look_ahead() {
    let mut fixture = start(true, &[]);
    fixture.element.set_property("bypass", true);
    fixture.harness.push(i420(8, 8, 1)).unwrap();
    fixture.harness.pull().unwrap();
    fixture.harness.pull().unwrap();
    assert_eq!(
        latency(&fixture).1,
        gst::ClockTime::from_mseconds(10) + FRAME
    );
}
