// SPDX-License-Identifier: MPL-2.0
//! Latency.

use gst::prelude::*;

use crate::rig::{FRAME, PATIENCE, Rig, caps, i420};

fn latency(rig: &Rig) -> (bool, gst::ClockTime, Option<gst::ClockTime>) {
    let mut query = gst::query::Latency::new();
    assert!(rig.harness.sinkpad().unwrap().peer_query(&mut query));
    query.result()
}

fn start(live: bool) -> Rig {
    let mut rig = Rig::new(&[]);
    rig.harness.set_live(live);
    rig.harness
        .set_upstream_latency(gst::ClockTime::from_mseconds(10));
    assert_eq!(latency(&rig).1, gst::ClockTime::from_mseconds(10));
    rig.harness
        .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    rig.harness.push(i420(8, 8, 0)).unwrap();
    rig.bus
        .timed_pop_filtered(PATIENCE, &[gst::MessageType::Latency])
        .expect("a latency message once it is known");
    rig
}

#[test]
fn a_live_pipeline_waits_for_whole_frames() {
    let rig = start(true);
    let (live, min, max) = latency(&rig);
    assert!(live);
    let own = min - gst::ClockTime::from_mseconds(10);
    assert!(
        own >= FRAME && own.nseconds().is_multiple_of(FRAME.nseconds()),
        "{own}"
    );
    assert!(max.is_none_or(|max| max >= min));
}

#[test]
fn other_pipelines_have_none() {
    let rig = start(false);
    assert_eq!(latency(&rig).1, gst::ClockTime::from_mseconds(10));
}

#[test]
fn bypass_does_not_look_ahead() {
    let mut rig = start(true);
    rig.element.set_property("bypass", true);
    rig.harness.push(i420(8, 8, 1)).unwrap();
    rig.harness.pull().unwrap();
    rig.harness.pull().unwrap();
    assert_eq!(latency(&rig).1, gst::ClockTime::from_mseconds(10) + FRAME);
}
