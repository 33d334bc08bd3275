// SPDX-License-Identifier: MPL-2.0
//! The element in front of a harness pad, with a bus of its own.

use std::path::PathBuf;
use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;

pub const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(120);
/// Frames of the model's clips, 8 in a second.
pub const FRAMES: usize = 9;
pub const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(125);

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstflashvideo::plugin_register_static().unwrap();
    });
}

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

pub fn element(properties: &[(&str, &str)]) -> gst::Element {
    init();
    let element = gst::ElementFactory::make("flashvideosrc").build().unwrap();
    element.set_property("model", model());
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    element
}

pub struct Rig {
    pub harness: Harness,
    pub element: gst::Element,
    pub bus: gst::Bus,
}

impl Rig {
    /// Not yet playing.
    pub fn ready(properties: &[(&str, &str)]) -> Self {
        let element = element(properties);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let harness = Harness::with_element(&element, None, Some("src"));
        Self {
            harness,
            element,
            bus,
        }
    }

    /// In PLAYING.
    pub fn new(properties: &[(&str, &str)]) -> Self {
        let mut rig = Self::ready(properties);
        rig.harness.play();
        rig
    }

    pub fn pull(&mut self) -> gst::Buffer {
        self.harness.pull().unwrap()
    }

    /// Waits for EOS and returns everything that came before.
    pub fn finish(&mut self) -> Vec<gst::Buffer> {
        self.events_to_eos();
        self.buffers()
    }

    /// What has arrived.
    pub fn buffers(&mut self) -> Vec<gst::Buffer> {
        std::iter::from_fn(|| self.harness.try_pull()).collect()
    }

    pub fn events_to_eos(&mut self) -> Vec<gst::Event> {
        let mut events = Vec::new();
        loop {
            let event = self.harness.pull_event().unwrap();
            if event.type_() == gst::EventType::Eos {
                return events;
            }
            events.push(event);
        }
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

    pub fn message(&self, kind: gst::MessageType) -> gst::Message {
        self.bus
            .timed_pop_filtered(PATIENCE, &[kind])
            .unwrap_or_else(|| panic!("a message of the type {kind:?}"))
    }

    pub fn stats<T: for<'a> glib::value::FromValue<'a> + 'static>(&self, field: &str) -> T {
        let stats = self.element.property::<gst::Structure>("stats");
        stats.get(field).unwrap()
    }
}

pub fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
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
