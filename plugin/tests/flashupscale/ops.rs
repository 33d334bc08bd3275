// SPDX-License-Identifier: MPL-2.0
//! What hosts do, at random.

use proptest::prelude::*;

/// What frames may look like. The first one is that of the beginning and the end.
pub const CAPS: [&str; 6] = [
    "format=I420,width=8,height=6",
    "format=I420,width=6,height=8",
    "format=YUY2,width=5,height=3",
    "format=GRAY8,width=1,height=1",
    "format=RGBA,width=7,height=5",
    INTERLACED,
];
const INTERLACED: &str = "format=I420,width=8,height=6,interlace-mode=interleaved";

pub const SETTINGS: [(&str, &str); 20] = [
    ("bypass", "true"),
    ("bypass", "false"),
    ("scale", "1"),
    ("scale", "2"),
    ("scale", "3.5"),
    ("steps", "0"),
    ("steps", "2"),
    ("noise", "0.5"),
    ("noise", "-1"),
    ("seed", "5"),
    ("prompt", "a harbour"),
    ("preset", "live"),
    ("preset", "balanced"),
    ("threads", "1"),
    ("dtype", "f32"),
    ("model", "builtin:live"),
    ("device", "cpu"),
    ("guidance-scale", "3"),
    WRONG_MODEL,
    WRONG_DEVICE,
];
const WRONG_MODEL: (&str, &str) = ("model", "no-such-model");
const WRONG_DEVICE: (&str, &str) = ("device", "abacus");

pub const ANSWERS: [gst::FlowError; 5] = [
    gst::FlowError::NotLinked,
    gst::FlowError::Flushing,
    gst::FlowError::NotNegotiated,
    gst::FlowError::Eos,
    gst::FlowError::Error,
];

pub const STATES: [gst::State; 4] = [
    gst::State::Playing,
    gst::State::Paused,
    gst::State::Ready,
    gst::State::Null,
];

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Op {
    // By the thread that streams.
    Frame,
    ShortFrame,
    Mark,
    Caps(usize),
    Segment(bool),
    StreamStart,
    Tag,
    Gap,
    Eos,
    Drain,
    Allocation,
    // By any.
    FlushStart,
    FlushStop,
    Flush,
    State(usize),
    Set(usize),
    Unlink,
    Link,
    Close(bool),
    Answer(usize),
    Slow(bool),
    Reconfigure,
    Seek,
    Pointer,
    Ask,
}

impl Op {
    pub fn streams(self) -> bool {
        matches!(
            self,
            Self::Frame
                | Self::ShortFrame
                | Self::Mark
                | Self::Caps(_)
                | Self::Segment(_)
                | Self::StreamStart
                | Self::Tag
                | Self::Gap
                | Self::Eos
                | Self::Drain
                | Self::Allocation
        )
    }

    /// Whether it is a reason for an error message.
    pub fn excuses_errors(self) -> bool {
        match self {
            Self::ShortFrame | Self::Answer(_) | Self::Close(true) => true,
            // A new link takes the place of the old one, in between there is none.
            Self::Unlink | Self::Link => true,
            Self::Caps(index) => CAPS[index] == INTERLACED,
            Self::Set(index) => [WRONG_MODEL, WRONG_DEVICE].contains(&SETTINGS[index]),
            _ => false,
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => Just(Op::Frame),
        1 => Just(Op::ShortFrame),
        3 => Just(Op::Mark),
        3 => (0..CAPS.len()).prop_map(Op::Caps),
        2 => any::<bool>().prop_map(Op::Segment),
        1 => Just(Op::StreamStart),
        1 => Just(Op::Tag),
        2 => Just(Op::Gap),
        2 => Just(Op::Eos),
        1 => Just(Op::Drain),
        1 => Just(Op::Allocation),
        2 => Just(Op::FlushStart),
        2 => Just(Op::FlushStop),
        3 => Just(Op::Flush),
        4 => (0..4usize).prop_map(Op::State),
        4 => (0..SETTINGS.len()).prop_map(Op::Set),
        2 => Just(Op::Unlink),
        3 => Just(Op::Link),
        2 => any::<bool>().prop_map(Op::Close),
        2 => (0..ANSWERS.len()).prop_map(Op::Answer),
        1 => any::<bool>().prop_map(Op::Slow),
        2 => Just(Op::Reconfigure),
        1 => Just(Op::Seek),
        1 => Just(Op::Pointer),
        2 => Just(Op::Ask),
    ]
}

#[derive(Clone, Debug)]
pub struct Sequence {
    pub bypass: bool,
    /// Whether what need not be done by the streaming thread is done by others.
    pub threads: bool,
    pub ops: Vec<(usize, Op)>,
}

pub fn sequences() -> impl Strategy<Value = Sequence> {
    let ops = prop::collection::vec((0..3usize, op()), 1..40);
    (any::<bool>(), any::<bool>(), ops).prop_map(|(bypass, threads, ops)| Sequence {
        bypass,
        threads,
        ops,
    })
}
