// SPDX-License-Identifier: MPL-2.0
//! Properties that cannot change while there is a stream: they wait for READY, and what does not work there ends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;

use crate::fixture::{Fixture, caps, element, i420};

impl Fixture {
    /// Through READY and back to PLAYING, and a new stream.
    fn restart(&mut self) {
        self.element.set_state(gst::State::Ready).unwrap();
        self.element.set_state(gst::State::Playing).unwrap();
        let start = gst::event::StreamStart::new("again");
        assert!(self.harness.push_event(start));
        self.harness
            .set_src_caps(caps(gst_video::VideoFormat::I420, 8, 8));
    }

    /// One frame in, one out, and the model that made it.
    fn model(&mut self) -> String {
        self.harness.push(i420(8, 8, 0)).unwrap();
        let gap = gst::event::Gap::builder(gst::ClockTime::ZERO).build();
        assert!(self.harness.push_event(gap));
        self.harness.pull().unwrap();
        self.stats("model")
    }

    /// A flush, after which frames may come.
    fn flush(&mut self) {
        let pad = self.harness.srcpad().unwrap().clone();
        assert!(pad.push_event(gst::event::FlushStart::new()));
        assert!(pad.push_event(gst::event::FlushStop::new(true)));
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(pad.push_event(gst::event::Segment::new(&segment)));
    }

    /// The texts of all warnings so far, of which no message is an error.
    fn warnings(&self) -> Vec<String> {
        let kinds = [gst::MessageType::Warning, gst::MessageType::Error];
        std::iter::from_fn(|| self.bus.pop_filtered(&kinds))
            .map(|message| match message.view() {
                gst::MessageView::Warning(warning) => warning.error().to_string(),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn every_keystroke_in_a_model_name_is_survived() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    assert_eq!(fixture.model(), "builtin:live");
    let name = "builtin:livee";
    for end in 1..=name.len() {
        fixture.element.set_property("model", &name[..end]);
        fixture
            .element
            .set_property("device", &"cuda:0"[..end.min(4)]);
        fixture.flush();
        assert_eq!(fixture.model(), "builtin:live");
    }
    assert_eq!(fixture.warnings(), Vec::<String>::new());
    // The name and the device are both wrong, one after the other.
    for (property, right) in [("device", "cpu"), ("model", "builtin")] {
        fixture.restart();
        assert_eq!(fixture.model(), "builtin:live");
        let warnings = fixture.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("builtin:live stays"), "{warnings:?}");
        fixture.element.set_property(property, right);
    }
    fixture.restart();
    assert_eq!(fixture.model(), "builtin");
    assert_eq!(fixture.warnings(), Vec::<String>::new());
}

#[test]
fn a_model_that_can_be_had_again_is_tried_again() {
    let path = std::env::temp_dir().join(format!("flashupscale-latched-{}", std::process::id()));
    let mut fixture = Fixture::with_size(8, 8, &[]);
    assert_eq!(fixture.model(), "builtin:live");
    std::fs::write(&path, b"not yet").unwrap();
    fixture
        .element
        .set_property("model", path.to_str().unwrap());
    for _ in 0..2 {
        fixture.restart();
        assert_eq!(fixture.model(), "builtin:live");
        assert_eq!(fixture.warnings().len(), 1);
    }
    std::fs::remove_file(&path).unwrap();
    fixture.element.set_property("model", None::<&str>);
    fixture.restart();
    assert_eq!(fixture.model(), "builtin:live");
    assert_eq!(fixture.warnings(), Vec::<String>::new());
}

#[test]
fn a_preset_is_for_the_next_stream() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    fixture.model();
    let steps = fixture.stats::<u32>("steps");
    fixture.element.set_property_from_str("preset", "quality");
    fixture.flush();
    assert_eq!(fixture.model(), "builtin:live");
    assert_eq!(fixture.stats::<u32>("steps"), steps);
    fixture.restart();
    assert_eq!(fixture.model(), "builtin");
}

#[test]
fn what_is_read_is_what_was_set() {
    let element = element(&[]);
    let model = || element.property::<Option<String>>("model");
    assert_eq!(model(), None, "the choice is the preset's");
    // A project or a preset that is saved and loaded sets nothing that nobody has set.
    let all: Vec<_> = element
        .list_properties()
        .into_iter()
        .filter(|property| property.flags().contains(glib::ParamFlags::READWRITE))
        .filter(|property| property.owner_type() == element.type_())
        .map(|property| (property.name(), property.value_type()))
        .collect();
    for (name, kind) in all {
        // A text that is not set is left out of what is saved.
        let Ok(text) = element.property_value(name).serialize() else {
            assert_eq!(kind, String::static_type(), "{name}");
            continue;
        };
        let value = glib::Value::deserialize(&text, kind).unwrap();
        element.set_property_from_value(name, &value);
        assert_eq!(element.property_value(name).serialize().unwrap(), text);
    }
    assert_eq!(model(), None);
    element.set_property("model", "builtin:live");
    assert_eq!(model().as_deref(), Some("builtin:live"));
    element.set_property("model", "");
    assert_eq!(model(), None);
}

#[test]
fn what_is_in_force_is_notified() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let told = Arc::new(AtomicUsize::new(0));
    fixture.element.connect_notify(Some("stats"), {
        let told = told.clone();
        move |element, _| {
            // Nothing is locked.
            let stats = element.property::<gst::Structure>("stats");
            assert_eq!(stats.get::<&str>("model"), Ok("builtin:live"));
            told.fetch_add(1, Ordering::SeqCst);
        }
    });
    for _ in 0..3 {
        fixture.model();
    }
    assert_eq!(told.load(Ordering::SeqCst), 1);
    fixture.element.set_property("steps", 3u32);
    for _ in 0..3 {
        fixture.model();
    }
    assert_eq!(told.load(Ordering::SeqCst), 2);
    assert_eq!(fixture.stats::<u32>("steps"), 3);
}

#[test]
fn at_the_same_size_it_says_once_that_it_does_nothing() {
    for (properties, expected) in [
        (&[("scale", "1")][..], 1),
        (&[("scale", "1"), ("bypass", "true")], 0),
        (&[("scale", "2")], 0),
    ] {
        let mut fixture = Fixture::with_size(8, 8, properties);
        for round in 0..3 {
            let mut frames = |count: u64| {
                for index in 0..count {
                    fixture.harness.push(i420(8, 8, index)).unwrap();
                    let gap = gst::event::Gap::builder(gst::ClockTime::ZERO).build();
                    assert!(fixture.harness.push_event(gap));
                    fixture.harness.pull().unwrap();
                }
            };
            frames(2 + round);
            fixture.flush();
        }
        let infos = std::iter::from_fn(|| fixture.bus.pop_filtered(&[gst::MessageType::Info]));
        let texts: Vec<_> = infos
            .map(|message| match message.view() {
                gst::MessageView::Info(info) => info.error().to_string(),
                _ => unreachable!("filtered"),
            })
            .collect();
        assert_eq!(texts.len(), expected, "{properties:?}: {texts:?}");
        assert!(
            texts.iter().all(|text| text.contains("`scale`")),
            "{texts:?}"
        );
    }
}
