// SPDX-License-Identifier: MPL-2.0
//! What is told while clips are made.

use std::sync::{Arc, Mutex};

use gst::prelude::*;

use crate::fixture::{Fixture, PATIENCE, element};

/// Kind and text of the Progress messages of the code `generate`.
fn progress(bus: &gst::Bus) -> Vec<(gst::ProgressType, String)> {
    let mut all = Vec::new();
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Progress]) {
        if let gst::MessageView::Progress(progress) = message.view() {
            let (kind, code, text) = progress.get();
            if code == "generate" {
                all.push((kind, text.to_owned()));
            }
        }
    }
    all
}

#[test]
fn progress_from_start_to_complete() {
    let mut fixture = Fixture::new(&[]);
    fixture.finish();
    // The last message is posted behind the last frame, but before the element is in READY.
    fixture.wait_for_clips(1);
    fixture.element.set_state(gst::State::Ready).unwrap();
    let all = progress(&fixture.bus);
    let kinds: Vec<_> = all.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.first(), Some(&gst::ProgressType::Start));
    assert_eq!(kinds.last(), Some(&gst::ProgressType::Complete));
    let between = &all[1..all.len() - 1];
    assert!(between.len() >= 4, "{all:?}");
    let percents: Vec<u32> = between
        .iter()
        .map(|(kind, text)| {
            assert_eq!(*kind, gst::ProgressType::Continue);
            assert!(text.contains("s left"), "{text}");
            text.split_once(' ').unwrap().0.parse().unwrap()
        })
        .collect();
    assert!(
        percents.is_sorted() && percents.last() == Some(&100),
        "{percents:?}"
    );
}

#[test]
fn a_stopped_clip_is_cancelled() {
    let fixture = Fixture::new(&[("steps", "1000")]);
    loop {
        let message = fixture.message(gst::MessageType::Progress);
        if let gst::MessageView::Progress(progress) = message.view()
            && progress.get().0 == gst::ProgressType::Continue
        {
            break;
        }
    }
    fixture.element.set_state(gst::State::Ready).unwrap();
    let all = progress(&fixture.bus);
    assert_eq!(
        all.last().unwrap().0,
        gst::ProgressType::Canceled,
        "{all:?}"
    );
}

#[test]
fn a_prompt_of_unknown_words_is_warned_about_once() {
    let mut fixture = Fixture::new(&[("prompt", "Zwölf Boxkämpfer"), ("num-clips", "2")]);
    assert_eq!(fixture.finish().len(), 18);
    let warnings: Vec<String> = std::iter::from_fn(|| {
        let message = fixture.bus.pop_filtered(&[gst::MessageType::Warning])?;
        match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        }
    })
    .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let text = &warnings[0];
    assert!(
        text.contains("Zwölf") && text.contains("meadow") && text.contains("fetch"),
        "{text}"
    );
    let mut known = Fixture::new(&[]);
    known.finish();
    assert!(
        known
            .bus
            .pop_filtered(&[gst::MessageType::Warning])
            .is_none()
    );
}

#[test]
fn the_enhancer_takes_the_prompt_by_itself() {
    let source = element(&[("prompt", "a blue boat at night")]);
    gst::log::set_threshold_for_name("flashupscale", gst::DebugLevel::Info);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    let _logger = gst::log::add_log_function(move |category, _, _, _, _, _, message| {
        if category.name() == "flashupscale" {
            let text = message.get().map(|text| text.to_string());
            sink.lock().unwrap().extend(text);
        }
    });
    let make = |name| gst::ElementFactory::make(name).build().unwrap();
    let (enhancer, end) = (make("flashupscale"), make("fakesink"));
    enhancer.set_property_from_str("preset", "live");
    let title = Arc::new(Mutex::new(None));
    let seen = title.clone();
    end.static_pad("sink").unwrap().add_probe(
        gst::PadProbeType::EVENT_DOWNSTREAM,
        move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && let gst::EventView::Tag(tag) = event.view()
                && let Some(found) = tag.tag().get::<gst::tags::Title>()
            {
                *seen.lock().unwrap() = Some(found.get().to_owned());
            }
            gst::PadProbeReturn::Ok
        },
    );
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &enhancer, &end]).unwrap();
    gst::Element::link_many([&source, &enhancer, &end]).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline
        .bus()
        .unwrap()
        .timed_pop_filtered(PATIENCE, &wanted);
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
    assert_eq!(
        title.lock().unwrap().as_deref(),
        Some("a blue boat at night")
    );
    // The small model says that it has the prompt and does not read it.
    let lines = lines.lock().unwrap();
    assert!(
        lines.iter().any(|line| line.contains("does not read text")),
        "{lines:?}"
    );
}
