// SPDX-License-Identifier: MPL-2.0
//! The element in front of a harness pad, and what it needs.

use std::path::PathBuf;

pub use crate::common::{Fixture, PATIENCE, bytes, init};

/// Frames of the model's clips, 8 in a second.
pub const FRAMES: usize = 9;
pub const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(125);

/// A file of the runtime's test data.
pub fn data(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pipeline/tests/data");
    path.join(name)
        .canonicalize()
        .unwrap()
        .display()
        .to_string()
}

/// A model of 96x54 pixels, 9 frames and 4 steps.
pub fn model() -> String {
    data("nano.safetensors")
}

/// An element with these properties; the tiny model unless said otherwise.
pub fn element(properties: &[(&str, &str)]) -> gst::Element {
    crate::common::make(
        "flashvideosrc",
        &[&[("model", &*model())][..], properties].concat(),
    )
}

impl Fixture {
    /// Not yet playing.
    pub fn ready(properties: &[(&str, &str)]) -> Self {
        Self::of(element(properties))
    }

    /// In PLAYING.
    pub fn new(properties: &[(&str, &str)]) -> Self {
        let mut fixture = Self::ready(properties);
        fixture.harness.play();
        fixture
    }

    pub fn pull(&mut self) -> gst::Buffer {
        self.harness.pull().unwrap()
    }

    /// Waits for EOS and returns everything that came before.
    pub fn finish(&mut self) -> Vec<gst::Buffer> {
        self.events_to_eos();
        self.buffers()
    }

    /// Until so many clips are made: the last frame comes out a moment before its clip is complete.
    pub fn wait_for_clips(&self, clips: u64) {
        let begin = std::time::Instant::now();
        while self.stats::<u64>("clips") < clips {
            assert!(
                begin.elapsed() < std::time::Duration::from(PATIENCE),
                "{clips} clips"
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

pub fn all_bytes(buffers: &[gst::Buffer]) -> Vec<Vec<u8>> {
    buffers.iter().map(bytes).collect()
}

/// A text file that is there as long as this.
pub struct Lines(pub PathBuf);

impl Lines {
    pub fn new(name: &str, text: &[u8]) -> Self {
        let path =
            std::env::temp_dir().join(format!("flashvideosrc-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    pub fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
