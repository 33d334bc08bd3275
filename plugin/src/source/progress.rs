// SPDX-License-Identifier: MPL-2.0
//! How far a clip is.

use flashvideo::Event;

/// Part of a clip's time that its sampling takes; decoding takes the rest.
const SAMPLING: f64 = 0.7;

/// Follows the two steps in which a clip is made.
pub(super) struct ClipProgress {
    totals: [(&'static str, u64); 2],
}

impl ClipProgress {
    /// Nothing is done.
    pub fn new() -> Self {
        Self {
            totals: [("sample", 0), ("decode", 0)],
        }
    }

    /// Which part in 0..=1 of the clip is done, if `event` tells.
    pub fn share(&mut self, event: &Event) -> Option<f64> {
        match *event {
            Event::Started {
                step,
                total: Some(total),
            } => {
                for known in self.totals.iter_mut().filter(|(name, _)| *name == step) {
                    known.1 = total;
                }
                None
            }
            Event::Advanced { step, done } => {
                let index = self.totals.iter().position(|(name, _)| *name == step)?;
                let part = done as f64 / self.totals.get(index)?.1.max(1) as f64;
                Some(match index {
                    0 => SAMPLING * part,
                    _ => SAMPLING + (1.0 - SAMPLING) * part,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_rises_over_both_steps() {
        let mut progress = ClipProgress::new();
        let started = |step, total| Event::Started {
            step,
            total: Some(total),
        };
        let advanced = |step, done| Event::Advanced { step, done };
        let mut percent = |event| progress.share(&event).map(|share| (share * 100.0).round());
        assert_eq!(percent(started("sample", 4)), None);
        assert_eq!(percent(advanced("sample", 2)), Some(35.0));
        assert_eq!(percent(advanced("sample", 4)), Some(70.0));
        assert_eq!(percent(started("decode", 2)), None);
        assert_eq!(percent(advanced("decode", 1)), Some(85.0));
        assert_eq!(percent(advanced("decode", 2)), Some(100.0));
        assert_eq!(percent(advanced("load", 9)), None);
    }
}
