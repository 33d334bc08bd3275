// SPDX-License-Identifier: MPL-2.0
//! Properties that are set at any moment: what does not work ends nothing that plays, and what is read is what was set.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;

use crate::fixture::{FRAMES, Fixture, Lines, all_bytes, element};

/// The texts of all warnings or all infos so far; no message is an error.
fn told(fixture: &Fixture, kind: gst::MessageType) -> Vec<String> {
    std::iter::from_fn(|| {
        let message = fixture.bus.pop_filtered(&[kind, gst::MessageType::Error])?;
        Some(match message.view() {
            gst::MessageView::Warning(warning) => warning.error().to_string(),
            gst::MessageView::Info(info) => info.error().to_string(),
            other => panic!("{other:?}"),
        })
    })
    .collect()
}

#[test]
fn nothing_that_is_set_ends_what_plays() {
    let mut fixture = Fixture::new(&[("num-clips", "0"), ("num-frames", "1")]);
    let long = "a".repeat(72 << 10);
    fixture.pull();
    let element = fixture.element.clone();
    let settings: [(&str, &dyn ToValue); 8] = [
        ("steps", &1u32),
        ("prompt", &long),
        ("model", &"/no/such/model"),
        ("device", &"abacus"),
        ("lora", &"/no/such/adapter"),
        ("is-live", &true),
        ("prompts-file", &"/no/such/file"),
        ("seed", &-1i64),
    ];
    for (name, value) in settings {
        element.set_property(name, value.to_value());
        // The change is for the clips from the next one on.
        for _ in 0..4 {
            fixture.pull();
        }
    }
    let warnings = told(&fixture, gst::MessageType::Warning);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("73728 bytes") && warnings[0].contains("stays"),
        "{warnings:?}"
    );
    assert_eq!(element.property::<String>("prompt"), long);
    assert!(fixture.stats::<String>("prompt").len() < 100);
}

#[test]
fn a_model_that_cannot_be_had_leaves_the_one_before_it() {
    let mut fixture = Fixture::new(&[]);
    let clip = all_bytes(&fixture.finish());
    for (name, wrong) in [("model", "/no/such/model"), ("device", "abacus")] {
        let right = fixture.element.property::<String>(name);
        fixture.element.set_property(name, wrong);
        fixture.element.set_state(gst::State::Ready).unwrap();
        fixture.buffers();
        while fixture.harness.try_pull_event().is_some() {}
        fixture.element.set_state(gst::State::Playing).unwrap();
        assert!(all_bytes(&fixture.finish()) == clip, "{name}");
        let warnings = told(&fixture, gst::MessageType::Warning);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("nano stays"), "{warnings:?}");
        fixture.element.set_property(name, right);
    }
}

#[test]
fn one_step_is_taken_as_two() {
    let mut one = Fixture::new(&[("steps", "1")]);
    let mut two = Fixture::new(&[("steps", "2")]);
    assert!(all_bytes(&one.finish()) == all_bytes(&two.finish()));
    assert_eq!(one.element.property::<u32>("steps"), 1);
    let infos = told(&one, gst::MessageType::Info);
    assert_eq!(infos.len(), 1, "{infos:?}");
    assert!(infos[0].contains("2 steps"), "{infos:?}");
    assert!(told(&two, gst::MessageType::Info).is_empty());
    // The whole range works, as far as it is declared.
    let steps = one.element.find_property("steps").unwrap();
    let steps = steps.downcast::<glib::ParamSpecUInt>().unwrap();
    assert_eq!((steps.minimum(), steps.maximum()), (0, 1000));
    let most = [("steps", "1000"), ("num-frames", "1")];
    assert_eq!(Fixture::new(&most).finish().len(), 1);
}

#[test]
fn what_is_read_is_what_was_set() {
    let lines = Lines::new("three", b"a red balloon\na blue boat\na meadow\n");
    let source = element(&[("num-frames", "1")]);
    assert_eq!(source.property::<Option<String>>("prompt"), None);
    // A project or a preset that is saved and loaded sets nothing that nobody has set.
    let all: Vec<_> = source
        .list_properties()
        .into_iter()
        .filter(|property| property.flags().contains(glib::ParamFlags::READWRITE))
        .filter(|property| property.owner_type() == source.type_())
        .map(|property| (property.name(), property.value_type()))
        .collect();
    for (name, kind) in all {
        // A text that is not set is left out of what is saved.
        let Ok(text) = source.property_value(name).serialize() else {
            assert_eq!(kind, String::static_type(), "{name}");
            continue;
        };
        let value = glib::Value::deserialize(&text, kind).unwrap();
        source.set_property_from_value(name, &value);
        assert_eq!(source.property_value(name).serialize().unwrap(), text);
    }
    source.set_property("prompts-file", lines.path());
    let mut fixture = Fixture::of(source);
    fixture.harness.play();
    assert_eq!(fixture.finish().len(), 3, "one clip for each line");
}

#[test]
fn liveness_waits_for_ready() {
    let mut fixture = Fixture::new(&[("num-clips", "0"), ("num-frames", "1")]);
    fixture.pull();
    let is_live = |fixture: &Fixture| {
        let mut query = gst::query::Latency::new();
        assert!(fixture.element.query(&mut query));
        query.result().0
    };
    fixture.element.set_property("is-live", true);
    assert!(fixture.element.property::<bool>("is-live") && !is_live(&fixture));
    fixture.element.set_state(gst::State::Ready).unwrap();
    fixture.element.set_state(gst::State::Playing).unwrap();
    assert!(is_live(&fixture));
}

#[test]
fn what_is_in_force_is_notified() {
    let mut fixture = Fixture::ready(&[]);
    let told = Arc::new(AtomicUsize::new(0));
    fixture.element.connect_notify(Some("stats"), {
        let told = told.clone();
        move |element, _| {
            // Nothing is locked.
            element.property::<gst::Structure>("stats");
            told.fetch_add(1, Ordering::SeqCst);
        }
    });
    fixture.harness.play();
    assert_eq!(fixture.finish().len(), FRAMES);
    fixture.wait_for_clips(1);
    fixture.element.set_state(gst::State::Ready).unwrap();
    // That the clip plays, and that it is made.
    assert_eq!(told.load(Ordering::SeqCst), 2);
}
