// SPDX-License-Identifier: MPL-2.0
//! The `stats` property.

use std::time::{Duration, Instant};

use flashvideo::StreamStats;

/// Sums over all streams since the element left READY.
#[derive(Debug, Default)]
pub(super) struct Stats {
    model: String,
    steps: u32,
    /// Model and steps of which was told that they are in force.
    told: Option<(String, u32)>,
    /// Frames that went through the model or the plain resize.
    frames: u64,
    /// Streams that are finished.
    past: StreamStats,
    /// The stream that runs.
    current: StreamStats,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Stats {
    /// The stream that follows uses this model.
    pub fn begin_stream(&mut self, model: &str) {
        self.end_stream();
        self.model = model.to_owned();
    }

    /// The current stream is over.
    pub fn end_stream(&mut self) {
        let current = std::mem::take(&mut self.current);
        self.past.evaluations += current.evaluations;
        self.past.evaluating += current.evaluating;
        self.past.peak_memory = self.past.peak_memory.max(current.peak_memory);
    }

    /// State of the current stream, and the evaluations it makes per window. Tells whether something else than before is in
    /// force.
    pub fn update_stream(&mut self, stats: StreamStats, steps: usize) -> bool {
        self.current = stats;
        self.steps = steps as u32;
        let in_force = (self.model.clone(), self.steps);
        self.told.replace(in_force.clone()) != Some(in_force)
    }

    /// Work on a frame begins.
    pub fn frame_started(&mut self) {
        self.first.get_or_insert_with(Instant::now);
    }

    /// A frame was finished.
    pub fn frame_finished(&mut self) {
        self.frames += 1;
        self.last = Some(Instant::now());
    }

    /// As applications see it.
    pub fn to_structure(&self) -> gst::Structure {
        let elapsed = match (self.first, self.last) {
            (Some(first), Some(last)) => last.duration_since(first),
            _ => Duration::ZERO,
        };
        let fps = if elapsed.is_zero() {
            0.0
        } else {
            self.frames as f64 / elapsed.as_secs_f64()
        };
        let evaluations = self.past.evaluations + self.current.evaluations;
        let evaluating = self.past.evaluating + self.current.evaluating;
        let ms_per_evaluation = if evaluations == 0 {
            0.0
        } else {
            evaluating.as_secs_f64() * 1000.0 / evaluations as f64
        };
        gst::Structure::builder("flashupscale-stats")
            .field("frames", self.frames)
            .field("fps", fps)
            .field("ms-per-evaluation", ms_per_evaluation)
            .field("evaluations", evaluations)
            .field(
                "peak-memory",
                self.past.peak_memory.max(self.current.peak_memory),
            )
            .field("model", &self.model)
            .field("steps", self.steps)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_add_up() {
        gst::init().unwrap();
        let mut stats = Stats::default();
        let stream = |evaluations, millis, peak_memory| StreamStats {
            evaluations,
            evaluating: Duration::from_millis(millis),
            peak_memory,
            ..StreamStats::default()
        };
        stats.begin_stream("first");
        assert!(stats.update_stream(stream(3, 30, 7), 4));
        assert!(!stats.update_stream(stream(3, 30, 7), 4));
        stats.begin_stream("second");
        assert!(stats.update_stream(stream(1, 30, 5), 1));
        stats.frame_started();
        stats.frame_finished();
        let s = stats.to_structure();
        assert_eq!(s.get::<u64>("evaluations"), Ok(4));
        assert_eq!(s.get::<f64>("ms-per-evaluation"), Ok(15.0));
        assert_eq!(s.get::<u64>("peak-memory"), Ok(7));
        assert_eq!(s.get::<&str>("model"), Ok("second"));
        assert_eq!(s.get::<u32>("steps"), Ok(1));
        assert_eq!(s.get::<u64>("frames"), Ok(1));
    }
}
