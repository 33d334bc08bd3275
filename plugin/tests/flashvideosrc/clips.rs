// SPDX-License-Identifier: MPL-2.0
//! Which clip comes when, and that it is always the same.

use gst::prelude::*;

use crate::fixture::{FRAME, FRAMES, Fixture, Lines, all_bytes, bytes, data};

/// Title and comment of all tags.
fn titles(events: &[gst::Event]) -> Vec<(String, String)> {
    let of = |event: &gst::Event| match event.view() {
        gst::EventView::Tag(tag) => {
            let title = tag.tag().get::<gst::tags::Title>()?.get().to_owned();
            let comment = tag.tag().get::<gst::tags::Comment>()?.get().to_owned();
            Some((title, comment))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

fn frames(properties: &[(&str, &str)]) -> Vec<Vec<u8>> {
    all_bytes(&Fixture::new(properties).finish())
}

#[test]
fn prompt_and_seed_name_a_clip_on_any_number_of_threads() {
    let first = frames(&[("threads", "1")]);
    assert_eq!(first.len(), FRAMES);
    assert!(first == frames(&[("threads", "2")]));
    assert!(first != frames(&[("seed", "1")]));
    assert!(first != frames(&[("prompt", "a blue boat")]));
    assert!(first != frames(&[("guidance-scale", "1")]));
    assert!(first != frames(&[("steps", "5")]));
    let lora = data("nano-lora.safetensors");
    assert!(first != frames(&[("lora", &lora)]));
    assert!(first == frames(&[("lora", &lora), ("lora-scale", "0")]));
}

#[test]
fn a_random_seed_is_told_and_gives_the_clip_again() {
    let mut fixture = Fixture::new(&[("seed", "-1")]);
    let random = all_bytes(&fixture.finish());
    let seed: u64 = fixture.stats("seed");
    assert!(random == frames(&[("seed", &seed.to_string())]));
}

#[test]
fn every_line_of_a_file_is_a_clip() {
    let lines = Lines::new("two", b"# a comment\n\n  a red balloon \na blue boat\n");
    let mut fixture = Fixture::new(&[("prompts-file", &lines.path()), ("seed", "40")]);
    let events = fixture.events_to_eos();
    let all = all_bytes(&fixture.buffers());
    assert_eq!(all.len(), 2 * FRAMES);
    let want = |prompt: &str, seed| (prompt.to_owned(), format!("seed {seed}, model nano"));
    let titles = titles(&events);
    assert_eq!(titles, [want("a red balloon", 40), want("a blue boat", 41)]);
    assert!(all[..FRAMES] == frames(&[("prompt", "a red balloon"), ("seed", "40")]));
    assert!(all[FRAMES..] == frames(&[("prompt", "a blue boat"), ("seed", "41")]));
}

#[test]
fn going_round_makes_nothing_twice() {
    let mut fixture = Fixture::new(&[("loop", "true"), ("num-clips", "2"), ("num-frames", "5")]);
    let buffers: Vec<_> = (0..25).map(|_| fixture.pull()).collect();
    let all = all_bytes(&buffers);
    assert!(all[..10] == all[10..20] && all[..5] == all[20..25] && all[..5] != all[5..10]);
    let times = buffers.iter().map(|buffer| buffer.pts().unwrap());
    assert!(times.eq((0..25).map(|index| FRAME * index)));
    fixture.wait_for_clips(2);
    assert_eq!(fixture.stats::<u64>("clips"), 2);
}

#[test]
fn a_new_prompt_begins_with_the_next_clip() {
    let mut fixture = Fixture::new(&[("num-clips", "0"), ("num-frames", "5"), ("seed", "3")]);
    let first = bytes(&fixture.pull());
    fixture.element.set_property("prompt", "a blue boat sails");
    // The streaming thread may be clips ahead of this test: the change is for some clip, and for all after it.
    let seen: Vec<_> = (1..200).map(|_| bytes(&fixture.pull())).collect();
    let events = std::iter::from_fn(|| fixture.harness.try_pull_event()).collect::<Vec<_>>();
    let titles = titles(&events);
    let change = titles
        .iter()
        .position(|(title, _)| title == "a blue boat sails")
        .expect("tags of the new prompt");
    assert!(change > 0, "not the clip that plays");
    assert!(
        titles[change..]
            .iter()
            .all(|(title, _)| title == "a blue boat sails")
    );
    let seed = (3 + change).to_string();
    let at = change * 5 - 1;
    let new = [
        ("prompt", "a blue boat sails"),
        ("num-frames", "5"),
        ("seed", &seed),
    ];
    assert!(seen[at..at + 5] == frames(&new));
    assert!(first == frames(&[("num-frames", "5"), ("seed", "3")])[0]);
}

#[test]
fn other_numbers_of_frames_are_rounded() {
    let mut fixture = Fixture::new(&[("num-frames", "6")]);
    assert_eq!(fixture.finish().len(), 5);
    let info = fixture.message(gst::MessageType::Info);
    let gst::MessageView::Info(info) = info.view() else {
        unreachable!("filtered")
    };
    assert!(info.error().to_string().contains("5 frames"), "{info:?}");
}

#[test]
fn the_duration_is_known_where_there_is_an_end() {
    let mut fixture = Fixture::new(&[("num-clips", "3")]);
    fixture.finish();
    let duration = fixture.element.query_duration::<gst::ClockTime>();
    assert_eq!(duration, Some(FRAME * 3 * FRAMES as u64));
    let frames = fixture.element.query_duration::<gst::format::Default>();
    assert_eq!(frames, Some(gst::format::Default::from_u64(27)));
    let mut fixture = Fixture::new(&[("num-clips", "0"), ("num-frames", "1")]);
    fixture.pull();
    assert_eq!(fixture.element.query_duration::<gst::ClockTime>(), None);
}
