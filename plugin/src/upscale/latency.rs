// SPDX-License-Identifier: MPL-2.0
//! What a live pipeline has to wait for.

use gst::prelude::*;

use super::run::QUEUE_LENGTH;

/// Frame duration where caps do not tell.
const UNKNOWN_FRAME_DURATION: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// What an element adds to the latency of a live pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Latency {
    pub min: gst::ClockTime,
    pub max: gst::ClockTime,
}

/// Time from one frame to the next.
pub(super) fn frame_duration(framerate: gst::Fraction) -> gst::ClockTime {
    match (framerate.numer(), framerate.denom()) {
        (1.., 1..) => gst::ClockTime::SECOND
            .mul_div_round(framerate.denom() as u64, framerate.numer() as u64)
            .unwrap_or(UNKNOWN_FRAME_DURATION),
        _ => UNKNOWN_FRAME_DURATION,
    }
}

/// A frame waits for the `look_ahead` frames behind it, and has the time of one frame to be computed: the pacer sees to it that
/// it takes no more. As many more can wait as the channel holds.
pub(super) fn latency(look_ahead: usize, framerate: gst::Fraction) -> Latency {
    let duration = frame_duration(framerate);
    let min = duration * (look_ahead as u64 + 1);
    Latency {
        min,
        max: min + duration * QUEUE_LENGTH as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_waited_for_and_one_to_compute() {
        let ms = gst::ClockTime::from_mseconds;
        let at_25 = |look_ahead| latency(look_ahead, gst::Fraction::new(25, 1));
        let expected = |min, max| Latency {
            min: ms(min),
            max: ms(max),
        };
        assert_eq!(at_25(0), expected(40, 80));
        assert_eq!(at_25(1), expected(80, 120));
        assert_eq!(at_25(48), expected(1960, 2000));
        // 30000/1001 frames in a second, and a rate that is not known.
        let ntsc = latency(1, gst::Fraction::new(30000, 1001));
        assert_eq!(ntsc.min, gst::ClockTime::from_nseconds(2 * 33_366_667));
        assert_eq!(latency(0, gst::Fraction::new(0, 1)), at_25(0));
    }
}
