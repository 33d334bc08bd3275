// SPDX-License-Identifier: MPL-2.0
//! Order and drain points.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use crate::fixture::{FRAME, Fixture, caps, i420};

/// What leaves the element, in order.
fn record(fixture: &Fixture) -> Arc<Mutex<Vec<String>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = log.clone();
    fixture.element.static_pad("src").unwrap().add_probe(
        gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM,
        move |_, info| {
            let entry = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => format!("frame {}", buffer.offset()),
                Some(gst::PadProbeData::Event(event)) => event.type_().name().to_string(),
                _ => "other".to_owned(),
            };
            sink.lock().unwrap().push(entry);
            gst::PadProbeReturn::Ok
        },
    );
    log
}

fn custom(name: &str) -> gst::Event {
    gst::event::CustomDownstream::new(gst::Structure::new_empty(name))
}

#[test]
fn events_stay_between_their_frames() {
    let mut fixture = Fixture::new(&[]);
    let log = record(&fixture);
    fixture
        .harness
        .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    assert!(fixture.harness.push_event(custom("a")));
    fixture.harness.push(i420(8, 8, 1)).unwrap();
    fixture.harness.push(i420(8, 8, 2)).unwrap();
    let mut tags = gst::TagList::new();
    tags.make_mut()
        .add::<gst::tags::Title>(&"a garden", gst::TagMergeMode::Append);
    assert!(fixture.harness.push_event(gst::event::Tag::new(tags)));
    assert!(fixture.harness.push_event(custom("b")));
    fixture.harness.push(i420(8, 8, 3)).unwrap();
    assert_eq!(fixture.finish().len(), 4);
    assert_eq!(
        *log.lock().unwrap(),
        [
            "stream-start",
            "caps",
            "segment",
            "frame 0",
            "custom-downstream",
            "frame 1",
            "frame 2",
            "tag",
            "custom-downstream",
            "frame 3",
            "eos",
        ]
    );
}

#[test]
fn a_gap_lets_the_frames_before_it_out() {
    let mut fixture = Fixture::new(&[]);
    let log = record(&fixture);
    fixture
        .harness
        .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    for index in 0..2 {
        fixture.harness.push(i420(8, 8, index)).unwrap();
    }
    assert!(
        fixture.harness.push_event(
            gst::event::Gap::builder(FRAME * 2)
                .duration(FRAME * 10)
                .build()
        )
    );
    // Without anything else both frames come out.
    fixture.harness.pull().unwrap();
    fixture.harness.pull().unwrap();
    fixture.harness.push(i420(8, 8, 12)).unwrap();
    fixture.finish();
    let log = log.lock().unwrap();
    assert_eq!(log[3..], ["frame 0", "frame 1", "gap", "frame 12", "eos"]);
}

#[test]
fn discont_segment_and_stream_start_are_drain_points() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let mut expected = 0;
    for kind in 0..3 {
        fixture.harness.push(i420(8, 8, expected)).unwrap();
        let mut next = i420(8, 8, expected + 1);
        match kind {
            0 => next.get_mut().unwrap().set_flags(gst::BufferFlags::DISCONT),
            1 => {
                let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
                segment.set_start(FRAME);
                assert!(
                    fixture
                        .harness
                        .push_event(gst::event::Segment::new(&segment))
                );
            }
            _ => {
                assert!(
                    fixture
                        .harness
                        .push_event(gst::event::StreamStart::new("second"))
                );
                let segment = gst::FormattedSegment::<gst::ClockTime>::new();
                assert!(
                    fixture
                        .harness
                        .push_event(gst::event::Segment::new(&segment))
                );
            }
        }
        fixture.harness.push(next).unwrap();
        // The frame before the boundary does not wait for what follows.
        assert_eq!(fixture.harness.pull().unwrap().offset(), expected);
        assert!(
            fixture
                .harness
                .push_event(gst::event::Gap::builder(FRAME).build())
        );
        assert_eq!(fixture.harness.pull().unwrap().offset(), expected + 1);
        expected += 2;
    }
    assert!(fixture.finish().is_empty());
}

#[test]
fn a_drain_query_returns_behind_the_frames() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    for index in 0..3 {
        fixture.harness.push(i420(8, 8, index)).unwrap();
    }
    // The harness does not answer it; the frames are out all the same.
    let _ = fixture
        .harness
        .srcpad()
        .unwrap()
        .peer_query(&mut gst::query::Drain::new());
    assert_eq!(fixture.harness.buffers_received(), 3);
}

#[test]
fn frames_in_reverse_order_pass() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_rate(-1.0);
    segment.set_stop(FRAME * 5);
    assert!(
        fixture
            .harness
            .push_event(gst::event::Segment::new(&segment))
    );
    for index in (0..5).rev() {
        fixture.harness.push(i420(8, 8, index)).unwrap();
    }
    let offsets: Vec<_> = fixture.finish().iter().map(|b| b.offset()).collect();
    assert_eq!(offsets, [4, 3, 2, 1, 0]);
}

#[test]
fn pointer_positions_are_those_of_the_input() {
    let mut fixture = Fixture::with_size(16, 12, &[]);
    fixture.harness.push(i420(16, 12, 0)).unwrap();
    assert!(
        fixture
            .harness
            .push_event(gst::event::Gap::builder(FRAME).build())
    );
    fixture.harness.pull().unwrap();
    let structure = gst::Structure::builder("application/x-gst-navigation")
        .field("event", "mouse-move")
        .field("pointer_x", 32.0)
        .field("pointer_y", 24.0)
        .build();
    fixture
        .harness
        .push_upstream_event(gst::event::Navigation::new(structure));
    let event = loop {
        let event = fixture.harness.pull_upstream_event().unwrap();
        if event.type_() == gst::EventType::Navigation {
            break event;
        }
    };
    let structure = event.structure().unwrap();
    assert_eq!(structure.get::<f64>("pointer_x"), Ok(8.0));
    assert_eq!(structure.get::<f64>("pointer_y"), Ok(6.0));
}

#[test]
fn downstream_eos_stops_upstream_until_a_new_segment() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let src = fixture.element.static_pad("src").unwrap();
    let refuse = src
        .add_probe(gst::PadProbeType::BUFFER, |_, info| {
            info.flow_res = Err(gst::FlowError::Eos);
            info.data.take();
            gst::PadProbeReturn::Handled
        })
        .unwrap();
    let refused =
        (0..1000).any(|index| fixture.harness.push(i420(8, 8, index)) == Err(gst::FlowError::Eos));
    assert!(refused);
    src.remove_probe(refuse);
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(
        fixture
            .harness
            .push_event(gst::event::Segment::new(&segment))
    );
    fixture.harness.push(i420(8, 8, 5)).unwrap();
    let offsets: Vec<_> = fixture.finish().iter().map(|b| b.offset()).collect();
    assert_eq!(offsets, [5]);
}
