// SPDX-License-Identifier: MPL-2.0
//! Keeping the pace of a live pipeline: when each frame is due, what it gets so that it comes in time, and what is told.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use flashvideo::enhance::control::{Controller, Rung};
use flashvideo::{Pace, Pacer};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::FlashUpscale as Element;
use super::metadata::Metadata;
use crate::common::lock;

/// Seconds of too little time after which it is told.
const PATIENCE: f64 = 2.0;
/// QoS events that are older than this say nothing about now.
const FRESH: Duration = Duration::from_secs(2);

/**
 * GstFlashUpscaleAdaptive:
 * @auto: in live pipelines, and with the preset live
 * @never: every frame gets everything, however late it is then
 * @always: whenever frames are late
 *
 * When frames get less (a smaller model, a plain resize) because there is too little time.
 *
 * Since: 0.1.0
 */
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstFlashUpscaleAdaptive")]
pub enum Adaptive {
    /// In live pipelines, and with the preset live.
    #[default]
    #[enum_value(name = "In live pipelines, and with the preset live", nick = "auto")]
    Auto,
    /// Every frame gets everything, however late it is then.
    #[enum_value(name = "Never: every frame gets everything", nick = "never")]
    Never,
    /// Whenever frames are late.
    #[enum_value(name = "Whenever frames are late", nick = "always")]
    Always,
}

/// What frames got since the element left READY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// By rung: plain, light, one evaluation, everything.
    pub rungs: [u64; 4],
    /// Evaluations that were broken off for want of time.
    pub broken_off: u64,
    /// Frames that were late before anything was done.
    pub late: u64,
}

/// What decides when a frame is due; written by whoever learns it.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Whether upstream is live, and what it adds to the latency.
    pub live: bool,
    pub upstream: gst::ClockTime,
    /// What this element adds.
    pub own: gst::ClockTime,
    /// What the pipeline waits for in all, once it has said so.
    pub configured: Option<gst::ClockTime>,
    /// Time from one frame to the next.
    pub period: gst::ClockTime,
    pub segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    /// Running time before which frames are too late, as downstream said, and when it did.
    earliest: Option<(gst::ClockTime, Instant)>,
    pub counts: Counts,
    /// What most frames get now.
    pub rung: Option<Rung>,
}

/// Names of the rungs' counts in `stats`.
const RUNGS: [&str; 4] = [
    "plain-frames",
    "light-frames",
    "one-evaluation-frames",
    "full-frames",
];

/// Shared by the element and its pacer.
#[derive(Clone, Debug, Default)]
pub(super) struct Timing(Arc<Mutex<Known>>);

impl Timing {
    pub fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.0)
    }

    /// Downstream got the frame of running time `time` later by `diff` nanoseconds than it should have.
    pub fn downstream_says(&self, time: gst::ClockTime, diff: i64) {
        let mut known = self.lock();
        let late = u64::try_from(diff).unwrap_or(0);
        // As far behind again, and one frame, until what is done now gets there.
        let ahead = if late > 0 {
            gst::ClockTime::from_nseconds(2 * late) + known.period
        } else {
            gst::ClockTime::ZERO
        };
        known.earliest = Some((time + ahead, Instant::now()));
    }
}

impl Known {
    /// What frames get, for the `stats` property.
    pub fn add_to(&self, stats: &mut gst::StructureRef) {
        let rung = self.rung.map_or("full".to_owned(), |rung| rung.to_string());
        stats.set("rung", rung);
        for (rung, count) in RUNGS.iter().zip(self.counts.rungs) {
            stats.set(*rung, count);
        }
        stats.set("broken-off", self.counts.broken_off);
        stats.set("late", self.counts.late);
    }

    /// Seconds from now until the frame at `pts` must be done.
    fn slack(&self, now: Option<gst::ClockTime>, pts: Option<gst::ClockTime>) -> f64 {
        let segment = self.segment.as_ref();
        let running = pts.and_then(|pts| segment.map_or(Some(pts), |s| s.to_running_time(pts)));
        let period = self.period.nseconds() as f64 / 1e9;
        let Some(running) = running else {
            return 2.0 * period;
        };
        if let Some((earliest, heard)) = self.earliest
            && heard.elapsed() < FRESH
            && running < earliest
        {
            return 0.0;
        }
        match now.filter(|_| self.live) {
            Some(now) => {
                let promised = self.upstream + self.own;
                // What is waited for beyond that is for those who follow; half of it will do for them.
                let spare = self
                    .configured
                    .map_or(gst::ClockTime::ZERO, |all| all.saturating_sub(promised));
                let due = running + promised + spare / 2;
                (due.nseconds() as f64 - now.nseconds() as f64) / 1e9
            }
            // Nobody waits for the clock but downstream, which tells when it is too late.
            None => 2.0 * period,
        }
    }
}

/// The pacer of one stream.
#[derive(Debug)]
pub(super) struct FramePacer {
    element: glib::WeakRef<Element>,
    timing: Timing,
    controller: Controller,
    begin: Instant,
    /// Since when frames get less than everything.
    short: Option<f64>,
    warned: bool,
    told: Rung,
}

impl FramePacer {
    pub fn new(element: &Element, timing: &Timing, rungs: &[Rung]) -> Self {
        Self {
            element: element.downgrade(),
            timing: timing.clone(),
            controller: Controller::new(rungs),
            begin: Instant::now(),
            short: None,
            warned: false,
            told: Rung::Full,
        }
    }

    fn now(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Tells when another rung than before is the best that there is time for, and once that there is too little time.
    fn tell(&mut self, period: f64, jitter: f64) {
        let best = self.controller.best();
        let Some(element) = self.element.upgrade() else {
            return;
        };
        if std::mem::replace(&mut self.told, best) != best {
            self.timing.lock().rung = Some(best);
            gst::info!(CAT, obj = element, "frames get: {best}");
            let counts = self.timing.lock().counts;
            let done: u64 = counts.rungs.iter().sum();
            let running = element.current_running_time();
            let message = gst::message::Qos::builder(self.timing.lock().live)
                .src(&element)
                .running_time(running)
                .values((jitter * 1e9) as i64, 1.0, 250_000 * (best as i32 + 1))
                .stats(
                    gst::format::Buffers::from_u64(done),
                    // None: that is what this is for.
                    gst::format::Buffers::ZERO,
                )
                .build();
            // Refused only where nobody listens.
            let _ = element.post_message(message);
            element.notify("stats");
        }
        let now = self.now();
        if best == Rung::Full {
            self.short = None;
            return;
        }
        let since = *self.short.get_or_insert(now);
        if now - since > PATIENCE && !std::mem::replace(&mut self.warned, true) {
            let wanted = 1.0 / period.max(1e-6);
            let cost = self.controller.dearest().unwrap_or(f64::INFINITY);
            let possible = (1.0 / cost).min(wanted);
            let imp = element.imp();
            gst::element_imp_warning!(
                imp,
                gst::CoreError::Clock,
                ("{possible:.0} of {wanted:.0} frames/s can be enhanced here: use a smaller scale, a smaller model or a GPU; \
                     until then frames get less")
            );
        }
    }
}

impl Pacer<Metadata> for FramePacer {
    fn decide(&mut self, frame: &Metadata) -> Pace {
        let running = self
            .element
            .upgrade()
            .and_then(|element| element.current_running_time());
        let now = self.now();
        let (slack, period) = {
            let mut known = self.timing.lock();
            let slack = known.slack(running, frame.pts());
            known.counts.late += u64::from(slack <= 0.0);
            (slack, known.period.nseconds() as f64 / 1e9)
        };
        self.tell(period, -slack);
        let decision = self.controller.decide(now, now + slack, period);
        Pace {
            rung: decision.rung,
            until: decision
                .until
                .map(|until| self.begin + Duration::from_secs_f64(until.max(0.0))),
        }
    }

    fn done(&mut self, rung: Rung, took: Duration, broken_off: bool) {
        let now = self.now();
        let mut known = self.timing.lock();
        let period = known.period.nseconds() as f64 / 1e9;
        if broken_off {
            known.counts.broken_off += 1;
            self.controller.missed(rung, took.as_secs_f64(), now);
        } else {
            if let Some(count) = known.counts.rungs.get_mut(rung as usize) {
                *count += 1;
            }
            self.controller.took(rung, took.as_secs_f64(), now, period);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(live: bool) -> Known {
        gst::init().unwrap();
        let ms = gst::ClockTime::from_mseconds;
        let mut segment = gst::FormattedSegment::new();
        segment.set_start(ms(1000));
        Known {
            live,
            upstream: ms(10),
            own: ms(80),
            period: ms(40),
            segment: Some(segment),
            ..Known::default()
        }
    }

    #[test]
    fn a_live_frame_is_due_after_the_latency_that_was_promised() {
        let ms = gst::ClockTime::from_mseconds;
        let known = known(true);
        let slack = known.slack(Some(ms(520)), Some(ms(1500)));
        assert!((slack - 0.07).abs() < 1e-9, "{slack}");
        assert!(known.slack(Some(ms(700)), Some(ms(1500))) < 0.0);
        // The sink's own 20 ms are shared.
        let known = Known {
            configured: Some(ms(110)),
            ..known
        };
        let slack = known.slack(Some(ms(520)), Some(ms(1500)));
        assert!((slack - 0.08).abs() < 1e-9, "{slack}");
        // Without a clock or a time there is nothing to be late for.
        assert_eq!(known.slack(None, Some(ms(1500))), 0.08);
        assert_eq!(known.slack(Some(ms(520)), None), 0.08);
    }

    #[test]
    fn what_downstream_calls_late_is_late() {
        let ms = gst::ClockTime::from_mseconds;
        let timing = Timing::default();
        *timing.lock() = known(false);
        let slack = |pts| timing.lock().slack(Some(ms(9000)), Some(ms(pts)));
        assert_eq!(slack(1500), 0.08);
        timing.downstream_says(ms(500), 100_000_000);
        // 500 + 2 * 100 + 40 of running time.
        assert_eq!(slack(1739), 0.0);
        assert_eq!(slack(1741), 0.08);
        timing.downstream_says(ms(700), -1);
        assert_eq!(slack(1739), 0.08);
    }
}
