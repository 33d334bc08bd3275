// SPDX-License-Identifier: MPL-2.0
//! What cannot be done is said, with what can.

use gst::prelude::*;

use crate::fixture::{Fixture, Lines, data, element};

/// The error of an element with these properties on its way to PLAYING.
fn error(properties: &[(&str, &str)]) -> glib::Error {
    let element = element(properties);
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let sink = gst::ElementFactory::make("fakesink").build().unwrap();
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&element, &sink]).unwrap();
    element.link(&sink).unwrap();
    let bus = pipeline.bus().unwrap();
    let _ = pipeline.set_state(gst::State::Playing);
    let message = bus.timed_pop_filtered(crate::fixture::PATIENCE, &[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    match message.expect("an error message").view() {
        gst::MessageView::Error(error) => error.error(),
        _ => unreachable!("filtered"),
    }
}

#[test]
fn models_that_are_none() {
    let found = error(&[("model", "/no/such/model")]);
    assert!(found.matches(gst::ResourceError::NotFound), "{found}");
    let text = Lines::new("model", b"not a model");
    let found = error(&[("model", &text.path())]);
    assert!(found.matches(gst::ResourceError::Read), "{found}");
    let found = error(&[("model", &data("compact-chain.safetensors"))]);
    assert!(found.matches(gst::ResourceError::Read), "{found}");
    let bytes = std::fs::read(crate::fixture::model()).unwrap();
    let half = Lines::new("half", &bytes[..bytes.len() / 2]);
    let found = error(&[("model", &half.path())]);
    assert!(found.matches(gst::ResourceError::Read), "{found}");
}

#[test]
fn adapters_that_do_not_fit() {
    let found = error(&[("lora", "/no/such/adapter")]);
    assert!(found.matches(gst::ResourceError::OpenRead), "{found}");
    let found = error(&[("lora", &data("nano.safetensors"))]);
    assert!(found.matches(gst::ResourceError::Read), "{found}");
}

#[test]
fn impossible_settings() {
    let long = "a".repeat((1 << 16) + 1);
    for (property, value, says) in [
        ("num-frames", "13", "at most 9"),
        ("prompt", &*long, "65537 bytes"),
    ] {
        let found = error(&[(property, value)]);
        assert!(found.matches(gst::LibraryError::Settings), "{found}");
        assert!(found.to_string().contains(says), "{found}");
    }
    let found = error(&[("dtype", "int8")]);
    assert!(found.matches(gst::LibraryError::Settings), "{found}");
    assert!(found.to_string().contains("f32, bf16 or f16"), "{found}");
    let found = error(&[("device", "cuda:99")]);
    assert!(found.matches(gst::ResourceError::Settings), "{found}");
}

#[test]
fn files_of_prompts_without_any() {
    let found = error(&[("prompts-file", "/no/such/file")]);
    assert!(found.matches(gst::ResourceError::OpenRead), "{found}");
    for text in [&b"# only a comment\n"[..], b"", b"\xff\xfe\x00"] {
        let lines = Lines::new("none", text);
        let found = error(&[("prompts-file", &lines.path())]);
        assert!(found.matches(gst::ResourceError::Read), "{found}");
        assert!(found.to_string().contains("prompts-file"), "{found}");
    }
}

#[test]
fn after_an_error_it_works_again() {
    let mut fixture = Fixture::ready(&[("num-frames", "13")]);
    assert!(fixture.element.set_state(gst::State::Paused).is_err());
    fixture.element.set_state(gst::State::Null).unwrap();
    fixture.element.set_property("num-frames", 5u32);
    fixture.harness.play();
    assert_eq!(fixture.finish().len(), 5);
}

#[test]
fn a_line_that_is_no_prompt_is_named() {
    let long = format!("one\n{}\n", "a".repeat((1 << 16) + 1));
    for (text, says) in [
        (long.as_bytes(), "line 2"),
        (b"one\ntwo\n\nth\0ree\n", "line 4"),
        (b"one\n\xff\n", "line 2"),
    ] {
        let lines = Lines::new("wrong-line", text);
        let found = error(&[("prompts-file", &lines.path())]);
        assert!(found.matches(gst::ResourceError::Read), "{found}");
        let shown = found.to_string();
        assert!(
            shown.contains(&lines.path()) && shown.contains(says),
            "{shown}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_without_a_writer_does_not_hold_a_state_change() {
    let pipe =
        Lines(std::env::temp_dir().join(format!("flashvideosrc-{}-pipe", std::process::id())));
    let made = std::process::Command::new("mkfifo").arg(&pipe.0).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: there is no mkfifo");
        return;
    }
    let found = error(&[("prompts-file", &pipe.path())]);
    assert!(found.matches(gst::ResourceError::OpenRead), "{found}");
    assert!(found.to_string().contains("nobody has written"), "{found}");
    // With one it is a file like others.
    let writer = std::thread::spawn({
        let path = pipe.path();
        move || std::fs::write(path, "a red balloon\na blue boat\n")
    });
    let mut fixture = Fixture::new(&[("prompts-file", &pipe.path()), ("num-frames", "1")]);
    assert_eq!(fixture.finish().len(), 2);
    writer.join().unwrap().unwrap();
}
