// SPDX-License-Identifier: MPL-2.0
//! Timestamps of frames: nothing is added up, so nothing drifts.

use gst::ClockTime;
use gst::prelude::*;

/// Frames at a fixed rate, counted from 0 at `origin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Frames in `denominator` seconds.
    pub numerator: u64,
    pub denominator: u64,
}

impl Rate {
    /// The rate of `fps`; a rate of nothing counts as one frame in a second.
    pub fn new(fps: gst::Fraction) -> Self {
        match (u64::try_from(fps.numer()), u64::try_from(fps.denom())) {
            (Ok(numerator @ 1..), Ok(denominator @ 1..)) => Self {
                numerator,
                denominator,
            },
            _ => Self {
                numerator: 1,
                denominator: 1,
            },
        }
    }

    /// When frame `index` begins.
    pub fn time(self, index: u64) -> ClockTime {
        ClockTime::SECOND
            .mul_div_floor(index.saturating_mul(self.denominator), self.numerator)
            .unwrap_or(ClockTime::MAX)
    }

    /// The frame that is shown at `time`.
    pub fn index(self, time: ClockTime) -> u64 {
        // The last frame whose beginning, rounded down, is not after `time`.
        let whole = u128::from(time.nseconds()) + 1;
        let frame = u128::from(self.denominator) * u128::from(ClockTime::SECOND.nseconds());
        let index = (whole * u128::from(self.numerator)).div_ceil(frame) - 1;
        u64::try_from(index).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_is_found_at_its_beginning_and_end() {
        for fps in [(8, 1), (30000, 1001), (24, 1), (1, 7), (144, 1)] {
            let rate = Rate::new(gst::Fraction::new(fps.0, fps.1));
            for index in (0..200).chain([1_000_003]) {
                let (start, end) = (rate.time(index), rate.time(index + 1));
                assert_eq!(rate.index(start), index, "{fps:?}");
                assert_eq!(rate.index(end - ClockTime::NSECOND), index, "{fps:?}");
            }
        }
        assert_eq!(
            Rate::new(gst::Fraction::new(0, 1)).time(2),
            2 * ClockTime::SECOND
        );
    }
}
