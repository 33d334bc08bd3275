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
    assert!(!fixture.harness.push_upstream_event(event));
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
