// SPDX-License-Identifier: MPL-2.0
//! What the tests of both elements share.

pub mod leaks;
pub mod sequences;

use std::sync::Once;

use gst::prelude::*;
use gst_check::Harness;

pub const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(120);

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstflashvideo::plugin_register_static().unwrap();
    });
}

/// The element called `factory` with these properties.
pub fn make(factory: &str, properties: &[(&str, &str)]) -> gst::Element {
    init();
    let element = gst::ElementFactory::make(factory).build().unwrap();
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    element
}

pub fn bytes(buffer: &gst::Buffer) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// An element with harness pads on those that it has, and a bus of its own.
pub struct Fixture {
    pub harness: Harness,
    pub element: gst::Element,
    pub bus: gst::Bus,
}

impl Fixture {
    /// Not yet playing.
    pub fn of(element: gst::Element) -> Self {
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let sink = element.static_pad("sink").map(|_| "sink");
        let harness = Harness::with_element(&element, sink, Some("src"));
        Self {
            harness,
            element,
            bus,
        }
    }

    /// Waits for EOS and returns the events before it.
    pub fn events_to_eos(&mut self) -> Vec<gst::Event> {
        let next = || Some(self.harness.pull_event().unwrap());
        std::iter::from_fn(next)
            .take_while(|event| event.type_() != gst::EventType::Eos)
            .collect()
    }

    /// What has arrived.
    pub fn buffers(&mut self) -> Vec<gst::Buffer> {
        std::iter::from_fn(|| self.harness.try_pull()).collect()
    }

    /// Waits for a message of this type.
    pub fn message(&self, kind: gst::MessageType) -> gst::Message {
        self.bus
            .timed_pop_filtered(PATIENCE, &[kind])
            .unwrap_or_else(|| panic!("a message of the type {kind:?}"))
    }

    /// A field of the property `stats`.
    pub fn stats<T: for<'a> glib::value::FromValue<'a> + 'static>(&self, field: &str) -> T {
        let stats = self.element.property::<gst::Structure>("stats");
        stats.get(field).unwrap()
    }
}
