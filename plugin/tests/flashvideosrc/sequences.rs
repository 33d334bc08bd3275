// SPDX-License-Identifier: MPL-2.0
//! Whatever hosts do, in any order and from several threads, nothing hangs, warns or leaks, and the element can be brought back
//! to work.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gst::prelude::*;
use proptest::prelude::*;

use crate::common::leaks::{assert_none_and_go_on, deinit};
use crate::common::sequences::{Downstream, check};
use crate::fixture::{element, model};

const SETTINGS: [(&str, &str); 20] = [
    ("prompt", "a blue boat"),
    ("prompt", ""),
    ("seed", "7"),
    ("seed", "-1"),
    ("steps", "0"),
    ("steps", "1"),
    ("steps", "3"),
    ("guidance-scale", "-1"),
    ("guidance-scale", "2"),
    ("num-frames", "1"),
    ("num-frames", "6"),
    ("num-clips", "0"),
    ("num-clips", "2"),
    ("loop", "true"),
    ("loop", "false"),
    ("is-live", "true"),
    ("is-live", "false"),
    ("threads", "1"),
    WRONG_MODEL,
    WRONG_DEVICE,
];
const WRONG_MODEL: (&str, &str) = ("model", "/no/such/model");
const WRONG_DEVICE: (&str, &str) = ("device", "abacus");

const ANSWERS: [gst::FlowError; 4] = [
    gst::FlowError::NotLinked,
    gst::FlowError::Flushing,
    gst::FlowError::Eos,
    gst::FlowError::Error,
];

const STATES: [gst::State; 4] = [
    gst::State::Playing,
    gst::State::Paused,
    gst::State::Ready,
    gst::State::Null,
];

/// What is done.
#[derive(Clone, Copy, Debug)]
enum Op {
    Frames(usize),
    State(usize),
    Set(usize),
    LongPrompt,
    Seek(usize),
    FlushStart,
    FlushStop,
    Flush,
    Eos,
    Tag,
    Unlink,
    Link,
    Close(bool),
    Answer(usize),
    Slow(bool),
    Reconfigure,
    Ask,
}

impl Op {
    /// Whether it is a reason for an error message.
    fn excuses_errors(self) -> bool {
        match self {
            Self::Answer(_) | Self::Close(true) => true,
            // A new link takes the place of the old one, in between there is none.
            Self::Unlink | Self::Link => true,
            Self::Set(index) => [WRONG_MODEL, WRONG_DEVICE].contains(&SETTINGS[index]),
            // At the start it is one.
            Self::LongPrompt => true,
            _ => false,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..4usize).prop_map(Op::Frames),
        4 => (0..STATES.len()).prop_map(Op::State),
        8 => (0..SETTINGS.len()).prop_map(Op::Set),
        1 => Just(Op::LongPrompt),
        6 => (0..SEEKS).prop_map(Op::Seek),
        1 => Just(Op::FlushStart),
        1 => Just(Op::FlushStop),
        2 => Just(Op::Flush),
        1 => Just(Op::Eos),
        1 => Just(Op::Tag),
        1 => Just(Op::Unlink),
        2 => Just(Op::Link),
        2 => any::<bool>().prop_map(Op::Close),
        2 => (0..ANSWERS.len()).prop_map(Op::Answer),
        1 => any::<bool>().prop_map(Op::Slow),
        2 => Just(Op::Reconfigure),
        3 => Just(Op::Ask),
    ]
}

#[derive(Clone, Debug)]
struct Sequence {
    threads: bool,
    ops: Vec<(usize, Op)>,
}

fn sequences() -> impl Strategy<Value = Sequence> {
    let ops = prop::collection::vec((0..3usize, op()), 1..25);
    (any::<bool>(), ops).prop_map(|(threads, ops)| Sequence { threads, ops })
}

const SEEKS: usize = 6;

fn seek(index: usize) -> gst::Event {
    let (flags, rate, seconds, stop) = match index {
        0 => (gst::SeekFlags::FLUSH, 1.0, 0, None),
        1 => (gst::SeekFlags::FLUSH, 1.0, 3, Some(5)),
        2 => (gst::SeekFlags::empty(), 1.0, 1, None),
        3 => (
            gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT,
            2.0,
            0,
            Some(1),
        ),
        4 => (gst::SeekFlags::FLUSH, -1.0, 0, Some(2)),
        _ => (gst::SeekFlags::FLUSH, 1.0, 100_000, None),
    };
    gst::event::Seek::new(
        rate,
        flags | gst::SeekFlags::ACCURATE,
        gst::SeekType::Set,
        gst::ClockTime::from_seconds(seconds),
        if stop.is_some() {
            gst::SeekType::Set
        } else {
            gst::SeekType::None
        },
        stop.map(gst::ClockTime::from_seconds),
    )
}

struct Host {
    element: gst::Element,
    bus: gst::Bus,
    downstream: Downstream,
    link: Mutex<Option<gst::Pad>>,
}

impl Host {
    fn new() -> Self {
        let element = element(&[("num-frames", "1"), ("num-clips", "0"), ("steps", "2")]);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        element
            .set_clock(Some(&gst::SystemClock::obtain()))
            .unwrap();
        element.set_base_time(gst::ClockTime::ZERO);
        Self {
            element,
            bus,
            downstream: Downstream::new(false),
            link: Mutex::default(),
        }
    }

    fn unlink(&self) {
        let old = self.link.lock().unwrap().take();
        if let Some(old) = old {
            self.element
                .static_pad("src")
                .unwrap()
                .unlink(&old)
                .unwrap();
            old.set_active(false).unwrap();
        }
    }

    fn relink(&self) {
        self.unlink();
        let mut link = self.link.lock().unwrap();
        if link.is_none() {
            let pad = self.downstream.pad();
            // Also where caps that are closed at the moment would not let it.
            let (source, unchecked) = (self.element.static_pad("src"), gst::PadLinkCheck::empty());
            source.unwrap().link_full(&pad, unchecked).unwrap();
            *link = Some(pad);
        }
    }

    fn push_upstream(&self, event: gst::Event) {
        let pad = self.link.lock().unwrap().clone();
        if let Some(pad) = pad {
            pad.push_event(event);
        }
    }

    fn run(&self, op: Op) {
        match op {
            Op::Frames(count) => {
                // As many as come in a moment; there may be none.
                let begin = self.downstream.restart();
                for _ in 0..20 {
                    if self.downstream.count() >= begin + count {
                        break;
                    }
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
            Op::State(index) => {
                let _ = self.element.set_state(STATES[index]);
            }
            Op::Set(index) => {
                let (name, value) = SETTINGS[index];
                self.element.set_property_from_str(name, value);
            }
            Op::LongPrompt => self.element.set_property("prompt", "a".repeat(72 << 10)),
            Op::Seek(index) => self.push_upstream(seek(index)),
            Op::FlushStart => {
                self.element.send_event(gst::event::FlushStart::new());
            }
            Op::FlushStop => {
                self.element.send_event(gst::event::FlushStop::new(true));
            }
            Op::Flush => {
                self.run(Op::FlushStart);
                self.run(Op::FlushStop);
            }
            Op::Eos => {
                self.element.send_event(gst::event::Eos::new());
            }
            Op::Tag => {
                let mut tags = gst::TagList::new();
                let merge = gst::TagMergeMode::Append;
                tags.make_mut().add::<gst::tags::Artist>(&"nobody", merge);
                self.element.send_event(gst::event::Tag::new(tags));
            }
            Op::Unlink => self.unlink(),
            Op::Link => self.relink(),
            Op::Close(close) => {
                let closed = || "video/x-raw,format=NV12,width=64".parse().unwrap();
                self.downstream.open(close.then(closed));
                self.push_upstream(gst::event::Reconfigure::new());
            }
            Op::Answer(index) => self.downstream.answer([ANSWERS[index]]),
            Op::Slow(slow) => {
                let millis = if slow { 2 } else { 0 };
                self.downstream.slow(Duration::from_millis(millis));
            }
            Op::Reconfigure => self.push_upstream(gst::event::Reconfigure::new()),
            Op::Ask => {
                let _ = self.element.query(&mut gst::query::Latency::new());
                let _ = self.element.query_duration::<gst::ClockTime>();
                let _ = self.element.query_position::<gst::ClockTime>();
                self.element.static_pad("src").unwrap().query_caps(None);
                self.element.property::<gst::Structure>("stats");
            }
        }
    }

    /// Frames come, whatever was before.
    fn recovers(&self) -> Result<(), String> {
        self.downstream.recover();
        self.relink();
        for (name, value) in [
            ("device", "cpu"),
            ("model", &*model()),
            ("prompt", ""),
            ("num-clips", "0"),
            ("num-frames", "1"),
            ("is-live", "false"),
        ] {
            self.element.set_property_from_str(name, value);
        }
        let _ = self.element.set_state(gst::State::Ready);
        self.element
            .set_state(gst::State::Playing)
            .map_err(|_| "it does not play again".to_owned())?;
        let before = self.downstream.restart();
        self.downstream.wait(before + 3, false).map(drop)?;
        // And from another place on.
        self.push_upstream(seek(0));
        let before = self.downstream.restart();
        self.downstream.wait(before + 3, false).map(drop)
    }
}

fn survives(sequence: Sequence) -> Result<(), String> {
    let host = Arc::new(Host::new());
    host.relink();
    let _ = host.element.set_state(gst::State::Playing);
    let excused = sequence.ops.iter().any(|(_, op)| op.excuses_errors());
    if sequence.threads {
        let mut lanes = vec![Vec::new(); 3];
        for (lane, op) in sequence.ops {
            lanes[lane].push(op);
        }
        let threads = lanes.into_iter().map(|ops| {
            let host = host.clone();
            std::thread::spawn(move || {
                for op in ops {
                    host.run(op);
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
    let error = host.bus.pop_filtered(&[gst::MessageType::Error]);
    let recovered = host.recovers();
    let _ = host.element.set_state(gst::State::Null);
    host.unlink();
    host.bus.set_flushing(true);
    if let Some(problem) = host.downstream.problem() {
        return Err(problem);
    }
    if let Some(error) = error.filter(|_| !excused) {
        return Err(format!("{error:?}"));
    }
    recovered
}

#[test]
fn nothing_hangs_warns_or_leaks() {
    assert_none_and_go_on("sequences::of_events");
}

#[test]
#[ignore = "run by nothing_hangs_warns_or_leaks in a process of its own"]
fn of_events() {
    check(sequences(), survives);
    deinit();
}
