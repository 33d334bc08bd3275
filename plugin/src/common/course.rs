// SPDX-License-Identifier: MPL-2.0
//! Percent and remaining time of a long step.

use std::time::Instant;

/// How far a long step is.
pub(super) struct Course {
    begin: Instant,
    percent: u32,
}

/// Where a step has got to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Advance {
    pub percent: u32,
    /// Seconds, if it goes on as it went so far.
    pub remaining: f64,
}

impl Course {
    /// The step begins now.
    pub fn new() -> Self {
        Self {
            begin: Instant::now(),
            percent: 0,
        }
    }

    /// What to tell when `share` of the step, in 0..=1, is done; nothing unless that makes a percent more.
    pub fn advance(&mut self, share: f64) -> Option<Advance> {
        let percent = ((share * 100.0) as u32).min(100);
        if percent <= self.percent {
            return None;
        }
        self.percent = percent;
        let elapsed = self.begin.elapsed().as_secs_f64();
        Some(Advance {
            percent,
            remaining: elapsed * (1.0 - share) / share,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_percent_is_told_once() {
        let mut course = Course::new();
        assert_eq!(course.advance(0.0), None);
        assert_eq!(course.advance(0.355).unwrap().percent, 35);
        assert_eq!(course.advance(0.359), None);
        assert_eq!(course.advance(0.2), None);
        let end = course.advance(1.0).unwrap();
        assert_eq!((end.percent, end.remaining), (100, 0.0));
        assert_eq!(course.advance(1.0), None);
    }
}
