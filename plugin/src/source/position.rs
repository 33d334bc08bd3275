// SPDX-License-Identifier: MPL-2.0
//! Where the stream is.

use flashvideo::{Frame, FrameFormat, Size};
use gst::ClockTime;
use gst_video::VideoInfo;

use super::rate::Rate;
use crate::common::frame::{frame_format, frame_size};

/// What was negotiated.
#[derive(Clone)]
pub(super) struct Output {
    pub info: VideoInfo,
    pub format: FrameFormat,
    pub size: Size,
    pub rate: Rate,
}

impl Output {
    /// Pictures as `info` describes them.
    pub fn new(info: VideoInfo) -> Self {
        Self {
            format: frame_format(&info),
            size: frame_size(&info),
            rate: Rate::new(info.fps()),
            info,
        }
    }
}

/// Where the stream is.
#[derive(Default)]
pub(super) struct Position {
    pub output: Option<Output>,
    /// Where to go on, once the frame rate is known.
    pub(super) seek: Option<ClockTime>,
    /// Where the last seek ends.
    pub(super) stop: Option<ClockTime>,
    /// The frame that comes next, counted over all clips.
    pub(super) next: u64,
    /// Buffers since `origin`; live, more than frames.
    pub(super) ticks: u64,
    pub(super) origin: ClockTime,
    /// The clip whose tags went out.
    pub(super) tagged: Option<u64>,
    /// The last picture, which is repeated when live.
    pub(super) last: Option<Frame>,
}

/// The next picture of the stream.
pub(super) struct Picture {
    pub frame: Frame,
    /// Whether it is the last one again.
    pub repeated: bool,
}

/// What the buffer of a picture says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub number: u64,
    pub pts: ClockTime,
    pub duration: ClockTime,
}

impl Position {
    /// From time `at` on, with the same caps.
    pub fn restart(&mut self, at: ClockTime) {
        *self = Self {
            output: self.output.take(),
            seek: Some(at),
            ..Self::default()
        };
    }

    /// The place of a seek, now that the frame rate is known.
    pub fn resolve_seek(&mut self, rate: Rate) {
        if let Some(at) = self.seek.take() {
            self.next = rate.index(at);
            self.ticks = self.next;
        }
    }

    /// Pictures are like `output` from now on; times go on where they are.
    pub fn set_output(&mut self, output: Output) {
        let old = self.output.as_ref().map(|old| old.rate);
        if let Some(old) = old.filter(|old| *old != output.rate) {
            let played = old.time(self.ticks);
            self.origin += played;
            self.ticks = 0;
        }
        self.last = None;
        self.output = Some(output);
    }

    /// Takes the next step for `picture`; `now` is the running time of a live stream.
    pub fn step(&mut self, rate: Rate, picture: Picture, now: Option<ClockTime>) -> Tick {
        if let Some(now) = now {
            // What was missed while the first frame was made, or downstream took its time, is not made up for.
            self.ticks = self.ticks.max(rate.index(now - now.min(self.origin)));
            self.last = Some(picture.frame);
        }
        let number = self.ticks;
        self.ticks += 1;
        self.next += u64::from(!picture.repeated);
        Tick {
            number,
            pts: self.origin + rate.time(number),
            duration: rate.time(number + 1) - rate.time(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashvideo::Samples;

    fn picture(repeated: bool) -> Picture {
        let frame = Frame::new(
            FrameFormat::gray(),
            Size::new(1, 1),
            vec![Samples::zeros(8, 1)],
        );
        Picture {
            frame: frame.unwrap(),
            repeated,
        }
    }

    #[test]
    fn times_go_on_over_another_rate_and_skip_what_was_missed() {
        gst::init().unwrap();
        let output = |fps| {
            let info = VideoInfo::builder(gst_video::VideoFormat::Gray8, 1, 1);
            Output::new(info.fps(gst::Fraction::new(fps, 1)).build().unwrap())
        };
        let ms = ClockTime::from_mseconds;
        let mut position = Position::default();
        let (eight, ten) = (output(8), output(10));
        position.set_output(eight.clone());
        let tick = |position: &mut Position, output: &Output, now| {
            let tick = position.step(output.rate, picture(false), now);
            (tick.number, tick.pts)
        };
        assert_eq!(tick(&mut position, &eight, None), (0, ms(0)));
        assert_eq!(tick(&mut position, &eight, None), (1, ms(125)));
        position.set_output(ten.clone());
        assert_eq!(tick(&mut position, &ten, None), (0, ms(250)));
        // Live, at a time when the fourth frame after the change of rate is due.
        assert_eq!(tick(&mut position, &ten, Some(ms(660))), (4, ms(650)));
        assert_eq!(position.next, 4, "no frame is skipped");
        position.step(ten.rate, picture(true), Some(ms(700)));
        assert_eq!(position.next, 4, "a repeated one counts once");
        position.restart(ms(500));
        position.resolve_seek(ten.rate);
        assert_eq!(tick(&mut position, &ten, None), (5, ms(500)));
    }
}
