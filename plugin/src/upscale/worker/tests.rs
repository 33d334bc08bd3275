// SPDX-License-Identifier: MPL-2.0
//! A bug in the worker must not take the application with it.

use std::time::Duration;

use gst::prelude::*;

/// Offset of a frame at which the worker panics in tests.
pub(super) const POISON: u64 = u64::MAX - 7;

fn frame(offset: u64) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(8 * 8 * 3 / 2).unwrap();
    buffer.get_mut().unwrap().set_offset(offset);
    buffer
}

#[test]
fn a_panic_is_an_error_message_and_the_end_of_the_stream() {
    gst::init().unwrap();
    crate::plugin_register_static().unwrap();
    let element = gst::ElementFactory::make("flashupscale")
        .property("bypass", true)
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
    harness.play();
    harness.set_src_caps_str("video/x-raw,format=I420,width=8,height=8,framerate=25/1");
    harness.push(frame(0)).unwrap();
    let _ = harness.push(frame(POISON));
    // Upstream is neither blocked by a full channel nor told that all is well.
    let flow = (1..1000).find_map(|offset| harness.push(frame(offset)).err());
    assert_eq!(flow, Some(gst::FlowError::Error));
    let message = bus
        .timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Error])
        .expect("an error message");
    assert_eq!(message.src(), Some(element.upcast_ref()));
    assert_eq!(harness.pull().unwrap().offset(), 0);
    std::thread::sleep(Duration::from_millis(50));
    assert!(harness.try_pull().is_none());
    // Serialized events and queries come back; the harness sees to it that the element goes down.
    assert!(!harness.push_event(gst::event::Gap::builder(gst::ClockTime::ZERO).build()));
    let pad = harness.srcpad().unwrap().clone();
    assert!(!pad.peer_query(&mut gst::query::Drain::new()));
}
