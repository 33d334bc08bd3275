// SPDX-License-Identifier: MPL-2.0
//! What downstream says of one frame holds for that frame: links, flushes, caps and ends downstream come and go.

use std::sync::{Arc, Mutex, mpsc};

use gst::prelude::*;

use crate::fixture::{Fixture, PATIENCE, caps, element, i420, init};

const FORMAT: gst_video::VideoFormat = gst_video::VideoFormat::I420;

/// A sink pad that answers the frames that come with what `answers` has left, then with OK, and tells each frame's offset.
fn scripted(answers: &[gst::FlowError]) -> (gst::Pad, mpsc::Receiver<u64>) {
    init();
    let (seen, offsets) = mpsc::channel();
    let answers = answers.to_vec();
    let script = Mutex::new((answers.into_iter(), seen));
    let pad = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(move |_, _, buffer| {
            let (answers, seen) = &mut *script.lock().unwrap();
            let _ = seen.send(buffer.offset());
            answers.next().map_or(Ok(gst::FlowSuccess::Ok), Err)
        })
        .event_function(|_, _, _| true)
        .build();
    pad.set_active(true).unwrap();
    (pad, offsets)
}

/// The element, playing, with its source pad free; a pad that sends to it; a bus.
fn alone(properties: &[(&str, &str)]) -> (gst::Element, gst::Pad, gst::Bus) {
    let element = element(properties);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    element.set_state(gst::State::Playing).unwrap();
    let source = gst::Pad::builder(gst::PadDirection::Src).build();
    source.set_active(true).unwrap();
    source.link(&element.static_pad("sink").unwrap()).unwrap();
    assert!(source.push_event(gst::event::StreamStart::new("test")));
    assert!(source.push_event(gst::event::Caps::new(&caps(FORMAT, 8, 8))));
    assert!(source.push_event(segment()));
    (element, source, bus)
}

fn segment() -> gst::Event {
    gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())
}

/// Waits until everything before is through.
fn settle(source: &gst::Pad) {
    source.push_event(gst::event::Gap::builder(gst::ClockTime::ZERO).build());
    let _ = source.peer_query(&mut gst::query::Drain::new());
}

fn all(offsets: &mpsc::Receiver<u64>) -> Vec<u64> {
    offsets.try_iter().collect()
}

fn stop(element: &gst::Element, source: &gst::Pad, bus: &gst::Bus) {
    element.set_state(gst::State::Null).unwrap();
    source.set_active(false).unwrap();
    let error = bus.pop_filtered(&[gst::MessageType::Error]);
    assert!(error.is_none(), "{error:?}");
}

#[test]
fn answers_that_pass_stop_nothing() {
    for answer in [
        gst::FlowError::NotLinked,
        gst::FlowError::Flushing,
        gst::FlowError::NotNegotiated,
    ] {
        for properties in [&[("bypass", "true")][..], &[]] {
            let (element, source, bus) = alone(properties);
            let (sink, offsets) = scripted(&[answer, answer]);
            element.static_pad("src").unwrap().link(&sink).unwrap();
            let mut told = Vec::new();
            for index in 0..6 {
                told.extend(source.push(i420(8, 8, index)).err());
                settle(&source);
            }
            // Upstream hears of it, and that it is over.
            assert!(
                !told.is_empty() && told.iter().all(|flow| *flow == answer),
                "{told:?}"
            );
            assert_eq!(all(&offsets), [0, 1, 2, 3, 4, 5], "{answer:?}");
            source.push(i420(8, 8, 6)).unwrap();
            stop(&element, &source, &bus);
        }
    }
}

#[test]
fn an_error_stays() {
    let (element, source, bus) = alone(&[("bypass", "true")]);
    let (sink, offsets) = scripted(&[gst::FlowError::Error]);
    element.static_pad("src").unwrap().link(&sink).unwrap();
    for index in 0..4 {
        let _ = source.push(i420(8, 8, index));
        settle(&source);
    }
    assert_eq!(source.push(i420(8, 8, 4)), Err(gst::FlowError::Error));
    assert_eq!(all(&offsets), [0]);
    stop(&element, &source, &bus);
}

#[test]
fn a_link_that_comes_late_or_comes_back() {
    for properties in [&[("bypass", "true")][..], &[]] {
        let (element, source, bus) = alone(properties);
        let src = element.static_pad("src").unwrap();
        let mut next = 0..;
        let mut push = |count: usize| {
            for index in next.by_ref().take(count) {
                let _ = source.push(i420(8, 8, index));
                settle(&source);
            }
        };
        push(3);
        let mut expected = 3;
        for _ in 0..3 {
            let (sink, offsets) = scripted(&[]);
            src.link(&sink).unwrap();
            push(3);
            assert_eq!(all(&offsets), [expected, expected + 1, expected + 2]);
            src.unlink(&sink).unwrap();
            push(2);
            assert!(all(&offsets).is_empty());
            expected += 5;
        }
        stop(&element, &source, &bus);
    }
}

#[test]
fn another_branch_after_one_that_has_ended() {
    let (element, source, bus) = alone(&[("bypass", "true")]);
    let src = element.static_pad("src").unwrap();
    let (ended, _offsets) = scripted(&[gst::FlowError::Eos; 100]);
    src.link(&ended).unwrap();
    for index in 0..4 {
        let _ = source.push(i420(8, 8, index));
        settle(&source);
    }
    assert_eq!(source.push(i420(8, 8, 4)), Err(gst::FlowError::Eos));
    settle(&source);
    src.unlink(&ended).unwrap();
    let (sink, offsets) = scripted(&[]);
    src.link(&sink).unwrap();
    for index in 5..8 {
        let _ = source.push(i420(8, 8, index));
        settle(&source);
    }
    assert_eq!(all(&offsets), [5, 6, 7]);
    stop(&element, &source, &bus);
}

#[test]
fn a_branch_that_is_linked_a_moment_later() {
    init();
    // In front of the element a tee that does not mind; behind it one that has no branch yet.
    for line in [
        "videotestsrc ! video/x-raw,width=8,height=8 ! tee allow-not-linked=true ! flashupscale name=e preset=live",
        "videotestsrc ! video/x-raw,width=8,height=8 ! flashupscale preset=live ! tee name=e allow-not-linked=true",
    ] {
        let pipeline = gst::parse::launch(line).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let before = pipeline.by_name("e").unwrap();
        // Some frames have found nobody.
        let (seen, frames) = mpsc::channel();
        let probe =
            before
                .static_pad("sink")
                .unwrap()
                .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                    let _ = seen.send(());
                    gst::PadProbeReturn::Ok
                });
        for _ in 0..10 {
            frames.recv_timeout(PATIENCE.into()).unwrap();
        }
        before
            .static_pad("sink")
            .unwrap()
            .remove_probe(probe.unwrap());
        let sink = gst::ElementFactory::make("fakesink").build().unwrap();
        let (arrived, arrivals) = mpsc::channel();
        sink.static_pad("sink")
            .unwrap()
            .add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                let _ = arrived.send(());
                gst::PadProbeReturn::Ok
            });
        sink.set_property("async", false);
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        before.link(&sink).unwrap();
        for _ in 0..10 {
            arrivals
                .recv_timeout(PATIENCE.into())
                .unwrap_or_else(|_| panic!("no frame: {line}"));
        }
        pipeline.set_state(gst::State::Null).unwrap();
        let error = pipeline
            .bus()
            .unwrap()
            .pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
    }
}

#[test]
fn caps_that_downstream_widens_again() {
    let mut fixture = Fixture::with_size(8, 8, &[("bypass", "true")]);
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    fixture.harness.pull().unwrap();
    let (closed, open) = ("video/x-raw,format=NV12", "video/x-raw,format=I420");
    for round in 0..3 {
        fixture.harness.set_sink_caps_str(closed);
        let reconfigure = gst::event::Reconfigure::new;
        assert!(fixture.harness.push_upstream_event(reconfigure()));
        let source = fixture.harness.srcpad().unwrap().clone();
        for index in 0..5 {
            let _ = source.push(i420(8, 8, 10 + index));
            settle(&source);
        }
        assert_eq!(
            source.push(i420(8, 8, 20)),
            Err(gst::FlowError::NotNegotiated)
        );
        settle(&source);
        // Once for each change, not for each frame.
        let errors = || fixture.bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(errors().is_some() && errors().is_none());
        fixture.harness.set_sink_caps_str(open);
        assert!(fixture.harness.push_upstream_event(reconfigure()));
        let _ = source.push(i420(8, 8, 100 + round));
        assert_eq!(fixture.harness.pull().unwrap().offset(), 100 + round);
    }
}

#[test]
fn downstream_flushed_alone_goes_on() {
    let (element, source, bus) = alone(&[("bypass", "true")]);
    let (sink, offsets) = scripted(&[]);
    element.static_pad("src").unwrap().link(&sink).unwrap();
    let flows = Arc::new(Mutex::new(Vec::new()));
    let push = |index| {
        flows
            .lock()
            .unwrap()
            .extend(source.push(i420(8, 8, index)).err());
        settle(&source);
    };
    push(0);
    assert!(sink.send_event(gst::event::FlushStart::new()));
    push(1);
    push(2);
    assert!(sink.send_event(gst::event::FlushStop::builder(false).build()));
    assert!(sink.send_event(segment()));
    push(3);
    push(4);
    assert_eq!(all(&offsets), [0, 3, 4]);
    let flows = flows.lock().unwrap();
    assert!(flows.iter().all(|flow| *flow == gst::FlowError::Flushing) && !flows.is_empty());
    stop(&element, &source, &bus);
}

#[test]
fn nobody_took_the_last_frames_and_upstream_did_not_ask() {
    let (element, source, bus) = alone(&[("bypass", "true")]);
    let _ = source.push(i420(8, 8, 0));
    settle(&source);
    assert!(source.push_event(gst::event::Eos::new()));
    let message = bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Error]);
    assert!(message.is_some());
    stop(&element, &source, &bus);
}
