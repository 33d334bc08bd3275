// SPDX-License-Identifier: MPL-2.0
//! Flushes, seeks and state changes while the model computes.

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::fixture::{Fixture, PATIENCE, caps, element, i420, init};

/// Far more than the element needs, far less than the frames that are dropped would take.
const SOON: Duration = Duration::from_secs(10);

fn segment() -> gst::Event {
    gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())
}

#[test]
fn a_flush_ends_the_inference() {
    let mut fixture = Fixture::with_size(640, 480, &[("preset", "quality"), ("steps", "8")]);
    let pad = fixture.harness.srcpad().unwrap().clone();
    let pusher = thread::spawn({
        let pad = pad.clone();
        move || (0..).find_map(|index| pad.push(i420(640, 480, index)).err())
    });
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    assert!(pad.push_event(gst::event::FlushStart::new()));
    assert_eq!(pusher.join().unwrap(), Some(gst::FlowError::Flushing));
    assert!(pad.push_event(gst::event::FlushStop::new(true)));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    while fixture.harness.try_pull().is_some() {}

    // Life goes on, with what came after the flush only.
    assert!(pad.push_event(gst::event::Caps::new(&caps(
        gst_video::VideoFormat::I420,
        8,
        8
    ))));
    assert!(pad.push_event(segment()));
    for index in 100..103 {
        fixture.harness.push(i420(8, 8, index)).unwrap();
    }
    let offsets: Vec<_> = fixture.finish().iter().map(|b| b.offset()).collect();
    assert_eq!(offsets, [100, 101, 102]);
}

#[test]
fn what_was_dropped_by_a_flush_is_not_missed() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let pad = fixture.harness.srcpad().unwrap().clone();
    for round in 0..20u64 {
        // These may or may not have been handled when the flush comes.
        let size = 8 + 2 * (round as u32 % 3);
        assert!(pad.push_event(gst::event::Caps::new(&caps(
            gst_video::VideoFormat::I420,
            size,
            8
        ))));
        let mut tags = gst::TagList::new();
        tags.make_mut().add::<gst::tags::Title>(
            &format!("round {round}").as_str(),
            gst::TagMergeMode::Append,
        );
        assert!(pad.push_event(gst::event::Tag::new(tags)));
        let _ = pad.push(i420(size, 8, 0));
        assert!(pad.push_event(gst::event::FlushStart::new()));
        assert!(pad.push_event(gst::event::FlushStop::new(true)));
        while fixture.harness.try_pull().is_some() {}
        assert!(pad.push_event(segment()));
        fixture.harness.push(i420(size, 8, round)).unwrap();
        assert!(pad.push_event(gst::event::Gap::builder(gst::ClockTime::ZERO).build()));
        let buffer = fixture.harness.pull().unwrap();
        assert_eq!(buffer.offset(), round);
        assert_eq!(buffer.size() as u32, size * 4 * 32 * 3 / 2);
        let src = fixture.element.static_pad("src").unwrap();
        let tag = src.sticky_event::<gst::event::Tag>(0).unwrap();
        assert_eq!(
            tag.tag().get::<gst::tags::Title>().unwrap().get(),
            format!("round {round}")
        );
    }
}

#[test]
fn a_flush_from_the_streaming_thread_does_not_wait_for_itself() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let pad = fixture.harness.srcpad().unwrap().clone();
    let (flushed, done) = mpsc::channel();
    let probe = (pad.clone(), Mutex::new(Some(flushed)));
    let src = fixture.element.static_pad("src").unwrap();
    src.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let (pad, flushed) = &probe;
        if let Some(flushed) = flushed.lock().unwrap().take() {
            assert!(pad.push_event(gst::event::FlushStart::new()));
            assert!(pad.push_event(gst::event::FlushStop::new(true)));
            assert!(pad.push_event(segment()));
            flushed.send(()).unwrap();
            return gst::PadProbeReturn::Drop;
        }
        gst::PadProbeReturn::Ok
    });
    // The second lets the first out. It and the event are queued behind what the flush throws away: they may go with it.
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    let _ = fixture.harness.push(i420(8, 8, 1));
    let _ = fixture
        .harness
        .push_event(gst::event::Gap::builder(gst::ClockTime::ZERO).build());
    done.recv_timeout(PATIENCE.into()).unwrap();
    fixture.harness.push(i420(8, 8, 1000)).unwrap();
    let offsets: Vec<_> = fixture.finish().iter().map(|b| b.offset()).collect();
    assert_eq!(offsets, [1000]);
}

#[test]
fn flushes_may_come_alone_twice_and_in_any_order() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let pad = fixture.harness.srcpad().unwrap().clone();
    // One letter for each event: start, stop.
    for (round, order) in ["O", "OO", "SSO", "SOO", "OSO", "SSOO"].iter().enumerate() {
        let _ = pad.push(i420(8, 8, 0));
        for event in order.chars() {
            // A second start in a row is taken by nobody.
            pad.push_event(match event {
                'S' => gst::event::FlushStart::new(),
                _ => gst::event::FlushStop::new(true),
            });
        }
        while fixture.harness.try_pull().is_some() {}
        let offsets = [100, 101].map(|base| base + 2 * round as u64);
        assert!(pad.push_event(segment()));
        for offset in offsets {
            fixture.harness.push(i420(8, 8, offset)).unwrap();
        }
        assert!(pad.push_event(gst::event::Gap::builder(gst::ClockTime::ZERO).build()));
        for offset in offsets {
            assert_eq!(fixture.harness.pull().unwrap().offset(), offset, "{order}");
        }
    }
}

#[test]
fn leaving_playing_does_not_wait_for_the_model() {
    let fixture = Fixture::with_size(640, 480, &[("preset", "quality"), ("steps", "8")]);
    let pad = fixture.harness.srcpad().unwrap().clone();
    let pusher =
        thread::spawn(move || (0..).find_map(|index| pad.push(i420(640, 480, index)).err()));
    thread::sleep(Duration::from_millis(300));
    let start = Instant::now();
    fixture.element.set_state(gst::State::Null).unwrap();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(pusher.join().unwrap().is_some());
}

#[test]
fn states_can_be_changed_again_and_again() {
    let element = element(&[("scale", "2")]);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    for round in 0..20 {
        for state in [
            gst::State::Ready,
            gst::State::Paused,
            gst::State::Playing,
            gst::State::Paused,
            gst::State::Ready,
        ] {
            element.set_state(state).unwrap();
        }
        if round % 3 == 0 {
            element.set_state(gst::State::Null).unwrap();
        }
    }
    element.set_state(gst::State::Null).unwrap();
    // Each load that was announced also ended, and none failed.
    let mut open = 0i32;
    while let Some(message) = bus.pop() {
        match message.view() {
            gst::MessageView::Progress(progress) => match progress.get().0 {
                gst::ProgressType::Start => open += 1,
                _ => open -= 1,
            },
            gst::MessageView::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    assert_eq!(open, 0);
}

#[test]
fn seeking_while_playing() {
    init();
    let pipeline = gst::Pipeline::new();
    let src = gst::ElementFactory::make("videotestsrc")
        .property("num-buffers", 2000i32)
        .build()
        .unwrap();
    let filter = gst::ElementFactory::make("capsfilter")
        .property("caps", caps(gst_video::VideoFormat::I420, 32, 24))
        .build()
        .unwrap();
    let upscale = element(&[]);
    let sink = gst::ElementFactory::make("fakesink")
        .property("sync", false)
        .build()
        .unwrap();
    pipeline.add_many([&src, &filter, &upscale, &sink]).unwrap();
    gst::Element::link_many([&src, &filter, &upscale, &sink]).unwrap();
    pipeline.set_state(gst::State::Paused).unwrap();
    let (result, _, _) = pipeline.state(PATIENCE);
    result.unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    for seconds in [10, 2, 30, 1, 5] {
        // The EOS of the part before is none of our business.
        bus.set_flushing(true);
        bus.set_flushing(false);
        pipeline
            .seek(
                1.0,
                gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
                gst::SeekType::Set,
                gst::ClockTime::from_seconds(seconds),
                gst::SeekType::Set,
                gst::ClockTime::from_seconds(seconds) + gst::ClockTime::from_mseconds(500),
            )
            .unwrap();
        let (result, _, _) = pipeline.state(PATIENCE);
        result.unwrap();
    }
    let message = bus
        .timed_pop_filtered(PATIENCE, &[gst::MessageType::Eos, gst::MessageType::Error])
        .unwrap();
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    let last = sink.property::<Option<gst::Sample>>("last-sample").unwrap();
    let pts = last.buffer().unwrap().pts().unwrap();
    assert!(
        pts >= gst::ClockTime::from_seconds(5) && pts < gst::ClockTime::from_mseconds(5500),
        "{pts}"
    );
    pipeline.set_state(gst::State::Null).unwrap();
}
