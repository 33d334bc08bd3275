// SPDX-License-Identifier: MPL-2.0
//! The `stats` property.

use std::time::Duration;

use flashvideo::GenerateOptions;

/// Since the element left READY.
#[derive(Debug, Default)]
pub(super) struct Stats {
    model: String,
    /// The clip that plays.
    prompt: String,
    seed: u64,
    /// Clips that were made, and how long that took.
    clips: u64,
    last: Duration,
    all: Duration,
    /// Buffers that went out, and how many of them were repeated.
    frames: u64,
    repeated: u64,
}

impl Stats {
    /// Nothing was made yet by `model`.
    pub fn new(model: &str) -> Self {
        Self {
            model: model.to_owned(),
            ..Self::default()
        }
    }

    /// A clip begins to play.
    pub fn clip_begun(&mut self, options: &GenerateOptions) {
        self.prompt.clone_from(&options.prompt);
        self.seed = options.seed;
    }

    /// A clip was made.
    pub fn clip_made(&mut self, time: Duration) {
        self.clips += 1;
        self.last = time;
        self.all += time;
    }

    /// A buffer goes out.
    pub fn frame(&mut self, repeated: bool) {
        self.frames += 1;
        self.repeated += u64::from(repeated);
    }

    /// As applications see it; `kept` are number and bytes of the clips in the cache.
    pub fn to_structure(&self, kept: (usize, usize)) -> gst::Structure {
        let mean = match self.clips {
            0 => 0.0,
            clips => self.all.as_secs_f64() / clips as f64,
        };
        gst::Structure::builder("flashvideosrc-stats")
            .field("model", &self.model)
            .field("prompt", &self.prompt)
            .field("seed", self.seed)
            .field("clips", self.clips)
            .field("seconds-last-clip", self.last.as_secs_f64())
            .field("seconds-per-clip", mean)
            .field("frames", self.frames)
            .field("repeated-frames", self.repeated)
            .field("kept-clips", kept.0 as u64)
            .field("kept-bytes", kept.1 as u64)
            .build()
    }
}
