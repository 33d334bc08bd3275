// SPDX-License-Identifier: MPL-2.0
//! Timestamps of the new video. Some containers count in milliseconds, which the frames of most rates fall between;
//! what is off by no more than that counting is put back where it belongs.

/// Ticks finer than this, in a second, are exact.
const FINE: u64 = 10_000;

/// From the ticks of decoded frames to those of the new video.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    from: (u32, u32),
    to: (u32, u32),
    /// Of an even rate in a container that counts coarsely: frames and seconds, and the container's tick in seconds.
    even: Option<((u32, u32), f64)>,
}

impl Timing {
    /// For frames decoded to the time base `from` (seconds of a tick), from a container whose time base is `own`, at `rate`
    /// frames a second.
    pub fn new(from: (u32, u32), own: (u32, u32), rate: Option<(u32, u32)>) -> Self {
        let coarse = u64::from(own.1) < FINE * u64::from(own.0);
        let tick = f64::from(own.0) / f64::from(own.1);
        let even = rate.filter(|_| coarse).map(|rate| (rate, tick));
        let to = match even {
            // A multiple of the rate, fine enough for frames that are elsewhere.
            Some(((frames, _), _)) => (1, frames.saturating_mul(90_000u32.div_ceil(frames))),
            None => own,
        };
        Self { from, to, even }
    }

    /// The new time base.
    pub fn time_base(&self) -> (u32, u32) {
        self.to
    }

    /// A time in new ticks.
    pub fn ticks(&self, pts: i64) -> i64 {
        let (from, to) = (self.from, self.to);
        if let Some(((frames, per), tick)) = self.even {
            let seconds = pts as f64 * f64::from(from.0) / f64::from(from.1);
            let rate = f64::from(frames) / f64::from(per);
            let number = (seconds * rate).round();
            if (seconds - number / rate).abs() <= 0.75 * tick {
                return (number * f64::from(to.1 / frames.max(1)) * f64::from(per)) as i64;
            }
        }
        let ticks = i128::from(pts) * i128::from(from.0) * i128::from(to.1);
        let per = i128::from(from.1.max(1)) * i128::from(to.0.max(1));
        i64::try_from((ticks + per / 2).div_euclid(per)).unwrap_or(i64::MAX)
    }

    /// New ticks in seconds.
    pub fn seconds(&self, ticks: i64) -> f64 {
        ticks as f64 * f64::from(self.to.0) / f64::from(self.to.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_become_even_frames_again() {
        let timing = Timing::new((1, 64_000), (1, 1000), Some((30_000, 1001)));
        assert_eq!(timing.time_base(), (1, 90_000));
        let milliseconds = [0, 33, 67, 100, 133, 167];
        assert_eq!(
            milliseconds.map(|ms| timing.ticks(64 * ms)),
            [0, 3003, 6006, 9009, 12012, 15015]
        );
        // A frame that is elsewhere stays there.
        assert_eq!(timing.ticks(64 * 45), 4050);
        assert!((timing.seconds(9009) - 0.1001).abs() < 1e-9);
    }

    #[test]
    fn exact_times_are_left_alone() {
        let timing = Timing::new((1, 51_200), (1, 12_800), Some((25, 1)));
        assert_eq!(
            (timing.time_base(), timing.ticks(4 * 517)),
            ((1, 12_800), 517)
        );
        let unknown = Timing::new((1, 64_000), (1, 1000), None);
        assert_eq!(
            (unknown.time_base(), unknown.ticks(64 * 33)),
            ((1, 1000), 33)
        );
    }
}
