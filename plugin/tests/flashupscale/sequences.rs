// SPDX-License-Identifier: MPL-2.0
//! Whatever hosts do, in any order and from several threads, nothing hangs, warns or leaks, frames stay in order, and the
//! element can be brought back to work.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use gst::prelude::*;

use crate::common::leaks::{assert_none_and_go_on, deinit};
use crate::common::sequences::{Downstream, check};
use crate::fixture::element;
use crate::ops::{ANSWERS, CAPS, Op, SETTINGS, STATES, Sequence, sequences};

/// What the streaming thread knows.
#[derive(Default)]
struct Streaming {
    /// Of the last frame or mark.
    number: u64,
    caps: usize,
    /// The element knows stream, caps and segment.
    introduced: bool,
    streams: u64,
}

struct Host {
    element: gst::Element,
    bus: gst::Bus,
    source: gst::Pad,
    downstream: Downstream,
    link: Mutex<Option<gst::Pad>>,
    streaming: Mutex<Streaming>,
    states: Mutex<()>,
}

impl Host {
    fn new(bypass: bool) -> Self {
        let element = element(&[
            ("scale", "2"),
            ("bypass", if bypass { "true" } else { "false" }),
        ]);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let source = gst::Pad::builder(gst::PadDirection::Src)
            .event_function(|_, _, _| true)
            .build();
        source.set_active(true).unwrap();
        source.link(&element.static_pad("sink").unwrap()).unwrap();
        Self {
            element,
            bus,
            source,
            downstream: Downstream::new(true),
            link: Mutex::default(),
            streaming: Mutex::default(),
            states: Mutex::default(),
        }
    }

    fn sourcepad(&self) -> gst::Pad {
        self.element.static_pad("src").unwrap()
    }

    /// The streaming thread's turn; whatever streams comes behind stream, caps and segment.
    fn introduced(&self) -> MutexGuard<'_, Streaming> {
        let mut streaming = self.streaming.lock().unwrap();
        if !streaming.introduced {
            streaming.introduced = true;
            streaming.streams += 1;
            let id = format!("{}", streaming.streams);
            self.source.push_event(gst::event::StreamStart::new(&id));
            self.source.push_event(caps(streaming.caps));
            self.source.push_event(segment(gst::ClockTime::ZERO));
        }
        streaming
    }

    fn frame(&self, streaming: &mut Streaming, short: bool) {
        streaming.number += 1;
        let caps: gst::Caps = caps_text(streaming.caps).parse().unwrap();
        let size = gst_video::VideoInfo::from_caps(&caps).unwrap().size();
        let size = if short { size / 2 } else { size };
        let mut buffer = gst::Buffer::from_mut_slice(vec![90u8; size]);
        let writable = buffer.get_mut().unwrap();
        writable.set_offset(streaming.number);
        writable.set_pts(gst::ClockTime::from_mseconds(40 * streaming.number));
        let _ = self.source.push(buffer);
    }

    fn set_state(&self, state: gst::State) {
        let _one_at_a_time = self.states.lock().unwrap();
        let running = self.element.current_state() > gst::State::Ready;
        if running && state <= gst::State::Ready {
            // Whatever the streaming thread waits for, this ends it.
            let _ = self.element.set_state(state);
            self.streaming.lock().unwrap().introduced = false;
        } else {
            let mut streaming = self.streaming.lock().unwrap();
            streaming.introduced &= running;
            let _ = self.element.set_state(state);
        }
    }

    fn unlink(&self) {
        let old = self.link.lock().unwrap().take();
        if let Some(old) = old {
            self.sourcepad().unlink(&old).unwrap();
            old.set_active(false).unwrap();
        }
    }

    fn relink(&self) {
        self.unlink();
        let mut link = self.link.lock().unwrap();
        if link.is_none() {
            let pad = self.downstream.pad();
            // Also where caps that are closed at the moment would not let it.
            let unchecked = gst::PadLinkCheck::empty();
            self.sourcepad().link_full(&pad, unchecked).unwrap();
            *link = Some(pad);
        }
    }

    fn push_upstream(&self, event: gst::Event) {
        let pad = self.link.lock().unwrap().clone();
        if let Some(pad) = pad {
            pad.push_event(event);
        }
    }

    fn flush_stop(&self) {
        // A real streaming thread is stopped meanwhile.
        let mut streaming = self.streaming.lock().unwrap();
        self.source.push_event(gst::event::FlushStop::new(true));
        streaming.introduced = false;
    }

    fn ask(&self) {
        let mut latency = gst::query::Latency::new();
        let _ = self.element.query(&mut latency);
        let sink = self.element.static_pad("sink").unwrap();
        let filter: gst::Caps = "video/x-raw,format={RGB,I420},interlace-mode={mixed,progressive}"
            .parse()
            .unwrap();
        sink.query_caps(Some(&filter));
        for index in 0..CAPS.len() {
            sink.query_accept_caps(&caps_text(index).parse().unwrap());
        }
        self.sourcepad().query_caps(None);
        let _ = self.element.query_position::<gst::ClockTime>();
        self.element.property::<gst::Structure>("stats");
    }

    fn run(&self, op: Op) {
        match op {
            Op::Frame => self.frame(&mut self.introduced(), false),
            Op::ShortFrame => self.frame(&mut self.introduced(), true),
            Op::Mark => {
                let mut streaming = self.introduced();
                streaming.number += 1;
                let mark = gst::Structure::builder("mark").field("number", streaming.number);
                let mark = gst::event::CustomDownstream::new(mark.build());
                self.source.push_event(mark);
            }
            Op::Caps(index) => {
                let mut streaming = self.introduced();
                streaming.caps = index;
                self.source.push_event(caps(index));
            }
            Op::Segment(moved) => {
                let _streaming = self.introduced();
                let start = gst::ClockTime::from_seconds(u64::from(moved));
                self.source.push_event(segment(start));
            }
            Op::StreamStart => self.streaming.lock().unwrap().introduced = false,
            Op::Tag => {
                let _streaming = self.introduced();
                let mut tags = gst::TagList::new();
                let title = &"a garden";
                let merge = gst::TagMergeMode::Append;
                tags.make_mut().add::<gst::tags::Title>(title, merge);
                self.source.push_event(gst::event::Tag::new(tags));
            }
            Op::Gap => {
                let _streaming = self.introduced();
                let gap = gst::event::Gap::builder(gst::ClockTime::ZERO);
                self.source.push_event(gap.build());
            }
            Op::Eos => {
                let mut streaming = self.introduced();
                self.source.push_event(gst::event::Eos::new());
                streaming.introduced = false;
            }
            Op::Drain => {
                let _streaming = self.introduced();
                let _ = self.source.peer_query(&mut gst::query::Drain::new());
            }
            Op::Allocation => {
                let streaming = self.introduced();
                let caps: gst::Caps = caps_text(streaming.caps).parse().unwrap();
                let mut query = gst::query::Allocation::new(Some(&caps), true);
                let _ = self.source.peer_query(&mut query);
            }
            Op::FlushStart => {
                self.source.push_event(gst::event::FlushStart::new());
            }
            Op::FlushStop => self.flush_stop(),
            Op::Flush => {
                self.source.push_event(gst::event::FlushStart::new());
                self.flush_stop();
            }
            Op::State(index) => self.set_state(STATES[index]),
            Op::Set(index) => {
                let (name, value) = SETTINGS[index];
                self.element.set_property_from_str(name, value);
            }
            Op::Unlink => self.unlink(),
            Op::Link => self.relink(),
            Op::Close(close) => {
                let closed = || "video/x-raw,format=NV12".parse().unwrap();
                self.downstream.open(close.then(closed));
                self.push_upstream(gst::event::Reconfigure::new());
            }
            Op::Answer(index) => self.downstream.answer([ANSWERS[index]]),
            Op::Slow(slow) => {
                let millis = if slow { 2 } else { 0 };
                self.downstream.slow(Duration::from_millis(millis));
            }
            Op::Reconfigure => self.push_upstream(gst::event::Reconfigure::new()),
            Op::Seek => self.push_upstream(gst::event::Seek::new(
                1.0,
                gst::SeekFlags::FLUSH,
                gst::SeekType::Set,
                gst::ClockTime::ZERO,
                gst::SeekType::None,
                gst::ClockTime::NONE,
            )),
            Op::Pointer => {
                let moved = gst::Structure::builder("application/x-gst-navigation")
                    .field("event", "mouse-move")
                    .field("pointer_x", 3.0)
                    .field("pointer_y", 4.0);
                self.push_upstream(gst::event::Navigation::new(moved.build()));
            }
            Op::Ask => self.ask(),
        }
    }

    fn error(&self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        Some(format!("{message:?}"))
    }

    /// Three frames go through, whatever was before.
    fn recovers(&self, failed: bool) -> Result<(), String> {
        self.downstream.recover();
        self.relink();
        for (name, value) in [("device", "cpu"), ("scale", "2"), ("model", "builtin:live")] {
            self.element.set_property_from_str(name, value);
        }
        if failed {
            // An error ends a stream until the element has been in READY.
            self.set_state(gst::State::Ready);
        }
        self.set_state(gst::State::Playing);
        self.run(Op::Flush);
        {
            let mut streaming = self.streaming.lock().unwrap();
            streaming.caps = 0;
            streaming.introduced = false;
        }
        self.downstream.restart();
        let mut wanted = Vec::new();
        for _ in 0..3 {
            let mut streaming = self.introduced();
            self.frame(&mut streaming, false);
            wanted.push(streaming.number);
        }
        self.run(Op::Eos);
        let numbers = self.downstream.wait(0, true)?;
        if numbers.ends_with(&wanted) {
            Ok(())
        } else {
            Err(format!("{wanted:?} expected at the end of {numbers:?}"))
        }
    }
}

fn caps_text(index: usize) -> String {
    format!("video/x-raw,{},framerate=25/1", CAPS[index])
}

fn caps(index: usize) -> gst::Event {
    let caps: gst::Caps = caps_text(index).parse().unwrap();
    gst::event::Caps::new(&caps)
}

fn segment(start: gst::ClockTime) -> gst::Event {
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(start);
    gst::event::Segment::new(&segment)
}

fn survives(sequence: Sequence) -> Result<(), String> {
    let host = Arc::new(Host::new(sequence.bypass));
    host.relink();
    host.set_state(gst::State::Playing);
    let excused = sequence.ops.iter().any(|(_, op)| op.excuses_errors());
    if sequence.threads {
        let mut lanes = vec![Vec::new(); 3];
        for (lane, op) in sequence.ops {
            lanes[if op.streams() { 0 } else { lane }].push(op);
        }
        let threads = lanes.into_iter().map(|ops| {
            let host = host.clone();
            std::thread::spawn(move || {
                for op in ops {
                    host.run(op);
                    std::thread::yield_now();
                }
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().map_err(|_| "a thread panicked".to_owned())?;
        }
    } else {
        for (_, op) in sequence.ops {
            host.run(op);
        }
    }
    let error = host.error();
    let recovered = host.recovers(error.is_some() || excused);
    let _ = host.element.set_state(gst::State::Null);
    host.unlink();
    host.source.set_active(false).unwrap();
    host.bus.set_flushing(true);
    if let Some(problem) = host.downstream.problem() {
        return Err(problem);
    }
    if let Some(error) = error.filter(|_| !excused) {
        return Err(error);
    }
    recovered
}

#[test]
fn nothing_hangs_warns_leaks_or_comes_out_of_order() {
    assert_none_and_go_on("sequences::of_events");
}

#[test]
#[ignore = "run by nothing_hangs_warns_leaks_or_comes_out_of_order in a process of its own"]
fn of_events() {
    check(sequences(), survives);
    deinit();
}
