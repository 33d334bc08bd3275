// SPDX-License-Identifier: MPL-2.0
//! Seeking inside clips.

use gst::prelude::*;

use crate::fixture::{FRAME, FRAMES, Fixture, all_bytes};

fn seek(fixture: &mut Fixture, start: gst::ClockTime, stop: Option<gst::ClockTime>) -> bool {
    let event = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
        gst::SeekType::Set,
        start,
        gst::SeekType::Set,
        stop,
    );
    fixture.harness.push_upstream_event(event)
}

/// Buffers up to the next EOS.
fn after_flush(fixture: &mut Fixture) -> Vec<gst::Buffer> {
    while fixture.harness.pull_event().unwrap().type_() != gst::EventType::FlushStop {}
    fixture.finish()
}

#[test]
fn seeks_make_nothing_again() {
    let mut fixture = Fixture::new(&[("num-clips", "2")]);
    let all = all_bytes(&fixture.finish());
    fixture.wait_for_clips(2);
    for (start, stop, want) in [
        (FRAME * 4, None, 4..2 * FRAMES),
        (FRAME * 10 + FRAME / 2, None, 10..2 * FRAMES),
        (FRAME * 2, Some(FRAME * 5), 2..5),
        (gst::ClockTime::ZERO, None, 0..2 * FRAMES),
    ] {
        assert!(seek(&mut fixture, start, stop));
        let buffers = after_flush(&mut fixture);
        let times: Vec<_> = buffers.iter().map(|b| b.pts().unwrap()).collect();
        let wanted: Vec<_> = want.clone().map(|index| FRAME * index as u64).collect();
        assert_eq!(times, wanted);
        assert!(all_bytes(&buffers) == all[want]);
    }
    assert_eq!(fixture.stats::<u64>("clips"), 2);
}

#[test]
fn a_seek_beyond_what_is_made_makes_only_that() {
    let mut fixture = Fixture::ready(&[("num-clips", "1000000"), ("num-frames", "5")]);
    fixture.harness.play();
    fixture.pull();
    let far = FRAME * (5 * 500_000 + 3);
    assert!(seek(&mut fixture, far, Some(far + FRAME * 4)));
    let mut buffers = after_flush(&mut fixture);
    // What came before the flush still lies in the harness.
    buffers.retain(|buffer| buffer.pts() >= Some(far));
    assert_eq!(buffers[0].pts(), Some(far));
    assert_eq!(buffers.len(), 4);
    let mut last = Fixture::new(&[("seed", "500000"), ("num-frames", "5")]);
    assert!(all_bytes(&buffers[..2]) == all_bytes(&last.finish()[3..]));
}

#[test]
fn backwards_is_refused() {
    let mut fixture = Fixture::new(&[]);
    fixture.pull();
    let event = gst::event::Seek::new(
        -1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        gst::ClockTime::ZERO,
        gst::SeekType::Set,
        FRAME * 4,
    );
    assert!(!fixture.harness.push_upstream_event(event.clone()));
    assert!(!fixture.element.send_event(event));
    let bytes = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        gst::format::Bytes::from_u64(7),
        gst::SeekType::None,
        gst::format::Bytes::NONE,
    );
    assert!(!fixture.element.send_event(bytes));
    // Nothing was flushed for them: the segment is still there, and so are the frames.
    let events = fixture.events_to_eos();
    let flushed = |event: &gst::Event| event.type_() == gst::EventType::FlushStart;
    assert!(!events.iter().any(flushed));
    assert_eq!(fixture.buffers().len(), FRAMES - 1);
}

#[test]
fn the_seeking_query_knows() {
    for (live, seekable) in [("false", true), ("true", false)] {
        let fixture = Fixture::new(&[("is-live", live)]);
        let mut query = gst::query::Seeking::new(gst::Format::Time);
        assert!(fixture.element.query(&mut query));
        assert_eq!(query.result().0, seekable);
    }
}

#[test]
fn an_end_before_the_beginning_is_refused() {
    let mut fixture = Fixture::new(&[("num-clips", "0"), ("num-frames", "1")]);
    fixture.pull();
    let stop = Some(FRAME * 5);
    assert!(seek(&mut fixture, FRAME * 2, stop));
    assert_eq!(
        after_flush(&mut fixture).last().unwrap().pts(),
        Some(FRAME * 4)
    );
    assert!(!seek(&mut fixture, FRAME * 6, stop));
    // The end of the seek before is still in force.
    let beyond = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        FRAME * 6,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    assert!(!fixture.harness.push_upstream_event(beyond));
}

#[test]
fn flushes_may_come_alone_twice_and_in_any_order() {
    let mut fixture = Fixture::new(&[("num-clips", "0"), ("num-frames", "1")]);
    // One letter for each event: start, stop.
    for order in ["O", "OO", "SSO", "SOO", "OSO", "SSOO"] {
        fixture.pull();
        for event in order.chars() {
            fixture.element.send_event(match event {
                'S' => gst::event::FlushStart::new(),
                _ => gst::event::FlushStop::new(true),
            });
        }
        fixture.pull();
    }
    fixture.element.set_state(gst::State::Ready).unwrap();
    for event in [gst::event::FlushStart::new(), gst::event::Eos::new()] {
        assert!(!fixture.element.send_event(event), "nothing plays");
    }
    // What was refused has not been kept for later either.
    fixture.element.set_state(gst::State::Playing).unwrap();
    fixture.pull();
}

#[test]
fn an_eos_from_the_application_ends_the_stream_and_a_seek_goes_on() {
    let mut fixture = Fixture::new(&[("num-clips", "0")]);
    fixture.pull();
    assert!(fixture.element.send_event(gst::event::Eos::new()));
    let rest = fixture.finish();
    assert!(rest.len() < 3 * FRAMES, "{}", rest.len());
    let pad = fixture.element.static_pad("src").unwrap();
    let start = gst::ClockTime::ZERO;
    let seek = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        start,
        gst::SeekType::None,
        gst::ClockTime::NONE,
    );
    assert!(pad.send_event(seek));
    assert_eq!(fixture.pull().pts(), Some(start));
}
