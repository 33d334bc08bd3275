// SPDX-License-Identifier: MPL-2.0
//! Properties at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;
use gst_video::VideoInfo;

use crate::fixture::{FRAME, Fixture, bytes, caps, i420, init};

#[test]
fn bypass_is_the_plain_resize() {
    let mut fixture = Fixture::with_size(12, 10, &[("bypass", "true")]);
    let input = i420(12, 10, 0);
    fixture.harness.push(input.copy()).unwrap();
    let output = fixture.finish().remove(0);

    let info = VideoInfo::from_caps(&caps(gst_video::VideoFormat::I420, 12, 10)).unwrap();
    let map = input.map_readable().unwrap();
    let planes = (0..3u8)
        .map(|c| {
            let (stride, width) = (info.comp_stride(c) as usize, info.comp_width(c) as usize);
            let rows = map[info.comp_offset(c)..]
                .chunks(stride)
                .take(info.comp_height(c) as usize);
            flashvideo::Samples::U8(rows.flat_map(|row| row[..width].to_vec()).collect())
        })
        .collect();
    let frame = flashvideo::Frame::new(
        flashvideo::FrameFormat {
            matrix: (0.299, 0.114),
            ..flashvideo::FrameFormat::i420()
        },
        flashvideo::Size::new(12, 10),
        planes,
    )
    .unwrap();
    let resized = flashvideo::plain_resize(&frame, flashvideo::Size::new(48, 40)).unwrap();
    let luma = match &*resized.planes()[0] {
        flashvideo::Samples::U8(samples) => samples.clone(),
        flashvideo::Samples::U16(_) => unreachable!("8 bits"),
    };
    assert_eq!(bytes(&output)[..48 * 40], luma);
}

#[test]
fn bypass_can_be_toggled_without_losing_a_frame_or_the_size() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    for index in 0..12 {
        fixture.element.set_property("bypass", index / 3 % 2 == 1);
        fixture.harness.push(i420(8, 8, index)).unwrap();
    }
    let buffers = fixture.finish();
    assert_eq!(buffers.len(), 12);
    assert!(buffers.iter().all(|b| b.size() == 32 * 32 * 3 / 2));
    let offsets: Vec<_> = buffers.iter().map(|b| b.offset()).collect();
    assert_eq!(offsets, (0..12).collect::<Vec<_>>());
}

#[test]
fn the_model_does_more_than_the_plain_resize() {
    let enhance = |bypass: &str| {
        let mut fixture = Fixture::with_size(32, 24, &[("bypass", bypass)]);
        fixture.harness.push(i420(32, 24, 0)).unwrap();
        bytes(&fixture.finish()[0])
    };
    assert_ne!(enhance("true"), enhance("false"));
}

#[test]
fn scale_can_change_while_playing() {
    let mut fixture = Fixture::with_size(8, 8, &[("scale", "2")]);
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    assert!(
        fixture
            .harness
            .push_event(gst::event::Gap::builder(FRAME).build())
    );
    assert_eq!(fixture.harness.pull().unwrap().size(), 16 * 16 * 3 / 2);
    fixture.element.set_property("scale", 3.0);
    fixture.harness.push(i420(8, 8, 1)).unwrap();
    assert_eq!(fixture.finish()[0].size(), 24 * 24 * 3 / 2);
}

#[test]
fn settings_take_effect_while_playing() {
    let mut fixture = Fixture::with_size(16, 16, &[("noise", "0")]);
    let still = |index, fixture: &mut Fixture| {
        let mut buffer = i420(16, 16, 0);
        let buffer_ref = buffer.get_mut().unwrap();
        buffer_ref.set_pts(FRAME * index);
        // Each picture for itself, so that the settings hold for all of it.
        buffer_ref.set_flags(gst::BufferFlags::DISCONT);
        fixture.harness.push(buffer).unwrap();
        assert!(
            fixture
                .harness
                .push_event(gst::event::Gap::builder(FRAME * index).build())
        );
        bytes(&fixture.harness.pull().unwrap())
    };
    let first = still(0, &mut fixture);
    assert_eq!(
        still(1, &mut fixture),
        first,
        "the same settings give the same picture"
    );
    fixture.element.set_property("steps", 4u32);
    fixture.element.set_property("noise", 1.0);
    let noisy = still(2, &mut fixture);
    assert_ne!(noisy, first);
    fixture.element.set_property("seed", 7u64);
    assert_ne!(still(3, &mut fixture), noisy);
    fixture.element.set_property("seed", 0u64);
    assert_eq!(
        still(4, &mut fixture),
        noisy,
        "the same seed gives the same noise"
    );
}

#[test]
fn a_prompt_is_no_obstacle_for_models_that_do_not_read() {
    let mut fixture = Fixture::with_size(8, 8, &[("prompt", "a harbour at night")]);
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    assert_eq!(fixture.finish().len(), 1);
}

#[test]
fn the_prompt_is_the_streams_title_and_ignored_once() {
    init();
    gst::log::set_threshold_for_name("flashupscale", gst::DebugLevel::Info);
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let lines = Arc::new(AtomicUsize::new(0));
    let log = gst::log::add_log_function({
        let lines = lines.clone();
        let element = fixture.element.downgrade();
        move |_, level, _, _, _, object, message| {
            let ours = element
                .upgrade()
                .zip(object)
                .is_some_and(|(element, object)| object.as_ptr() == element.as_ptr().cast());
            let text = message.get().unwrap_or_default();
            if ours && level == gst::DebugLevel::Info && text.contains("does not read text") {
                lines.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    fixture.harness.push(i420(8, 8, 0)).unwrap();
    fixture.harness.push(i420(8, 8, 1)).unwrap();
    fixture.harness.pull().unwrap();
    assert_eq!(lines.load(Ordering::SeqCst), 0);
    let mut tags = gst::TagList::new();
    tags.make_mut()
        .add::<gst::tags::Title>(&"a harbour at night", gst::TagMergeMode::Append);
    assert!(fixture.harness.push_event(gst::event::Tag::new(tags)));
    for index in 2..6 {
        fixture.harness.push(i420(8, 8, index)).unwrap();
    }
    assert_eq!(fixture.finish().len(), 5);
    assert_eq!(lines.load(Ordering::SeqCst), 1);
    gst::log::remove_log_function(log);
}

#[test]
fn stats_count() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    for index in 0..5 {
        fixture.harness.push(i420(8, 8, index)).unwrap();
    }
    assert_eq!(fixture.finish().len(), 5);
    assert_eq!(fixture.stats::<u64>("frames"), 5);
    assert_eq!(fixture.stats::<String>("model"), "builtin:live");
    assert_eq!(fixture.stats::<u32>("steps"), 1);
    assert!(fixture.stats::<f64>("fps") > 0.0);
    assert!(fixture.stats::<u64>("evaluations") >= 1);
    assert!(fixture.stats::<f64>("ms-per-evaluation") > 0.0);
    assert!(fixture.stats::<u64>("peak-memory") > 0);
}
