// SPDX-License-Identifier: MPL-2.0
//! Size, rate and format.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use crate::fixture::{FRAME, FRAMES, Fixture, bytes, element};

fn negotiated(fixture: &Fixture) -> VideoInfo {
    let caps = fixture.element.static_pad("src").unwrap().current_caps();
    VideoInfo::from_caps(&caps.unwrap()).unwrap()
}

#[test]
fn the_factory_says_what_it_is() {
    let element = element(&[]);
    let factory = element.factory().unwrap();
    assert_eq!(factory.metadata("klass"), Some("Source/Video"));
    assert_eq!(factory.rank(), gst::Rank::NONE);
    for property in element.list_properties() {
        assert!(
            property.blurb().is_some_and(|blurb| !blurb.is_empty()),
            "{}",
            property.name()
        );
    }
}

#[test]
fn the_own_size_and_rate_unless_asked() {
    let mut fixture = Fixture::new(&[]);
    let buffers = fixture.finish();
    let info = negotiated(&fixture);
    assert_eq!((info.width(), info.height()), (96, 54));
    assert_eq!(info.fps(), gst::Fraction::new(8, 1));
    assert_eq!(info.format(), VideoFormat::I420);
    assert_eq!(buffers.len(), FRAMES);
    for (index, buffer) in buffers.iter().enumerate() {
        assert_eq!(buffer.pts(), Some(FRAME * index as u64));
        assert_eq!(buffer.duration(), Some(FRAME));
        assert_eq!(
            (buffer.offset(), buffer.size()),
            (index as u64, info.size())
        );
    }
}

#[test]
fn the_segment_is_in_time_from_zero() {
    let mut fixture = Fixture::new(&[]);
    let events = fixture.events_to_eos();
    let kinds: Vec<_> = events.iter().map(|event| event.type_()).collect();
    let place = |kind| kinds.iter().position(|k| *k == kind).unwrap();
    assert!(place(gst::EventType::StreamStart) < place(gst::EventType::Caps));
    assert!(place(gst::EventType::Caps) < place(gst::EventType::Segment));
    assert!(place(gst::EventType::Segment) < place(gst::EventType::Tag));
    let segment = events
        .iter()
        .find_map(|event| match event.view() {
            gst::EventView::Segment(segment) => Some(segment.segment().clone()),
            _ => None,
        })
        .unwrap();
    let segment = segment.downcast::<gst::ClockTime>().unwrap();
    assert_eq!(segment.start(), Some(gst::ClockTime::ZERO));
}

#[test]
fn downstream_chooses_format_size_and_rate() {
    for (format, size) in [
        ("RGB", 3 * 64 * 36),
        ("AYUV64", 8 * 64 * 36),
        ("GRAY8", 64 * 36),
        ("v210", 0),
    ] {
        let mut fixture = Fixture::ready(&[]);
        let caps = format!("video/x-raw,format={format},width=64,height=36,framerate=30000/1001");
        fixture.harness.set_sink_caps_str(&caps);
        fixture.harness.play();
        if size == 0 {
            fixture.message(gst::MessageType::Error);
            continue;
        }
        let buffers = fixture.finish();
        assert_eq!(buffers.len(), FRAMES);
        assert!(buffers.iter().all(|buffer| buffer.size() == size));
        let third = gst::ClockTime::SECOND.mul_div_floor(3 * 1001, 30000);
        assert_eq!(buffers[3].pts(), third);
    }
}

#[test]
fn only_smaller_sizes_can_be_made_of_a_fixed_one() {
    let mut fixture = Fixture::ready(&[]);
    fixture
        .harness
        .set_sink_caps_str("video/x-raw,width=192,height=108");
    fixture.harness.play();
    fixture.message(gst::MessageType::Error);
    let mut fixture = Fixture::ready(&[]);
    fixture.harness.set_sink_caps_str("video/x-raw,width=80");
    fixture.harness.play();
    fixture.pull();
    let info = negotiated(&fixture);
    assert_eq!((info.width(), info.height()), (80, 45));
}

#[test]
fn rgb_and_yuv_show_the_same() {
    let shown = |format: &str| {
        let mut fixture = Fixture::ready(&[]);
        fixture
            .harness
            .set_sink_caps_str(&format!("video/x-raw,format={format}"));
        fixture.harness.play();
        let buffers = fixture.finish();
        (negotiated(&fixture), bytes(&buffers[4]))
    };
    let (rgb_info, rgb) = shown("RGB");
    let (yuv_info, yuv) = shown("I420");
    let (kr, kb) = yuv_info.colorimetry().matrix().kr_kb().unwrap();
    let (stride, luma_stride) = (rgb_info.stride()[0] as usize, yuv_info.stride()[0] as usize);
    for (x, y) in [(3, 2), (50, 20), (95, 53)] {
        let pixel = &rgb[y * stride + 3 * x..][..3];
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(f64::from);
        let luma = (kr * r + (1.0 - kr - kb) * g + kb * b) / 255.0 * 219.0 + 16.0;
        let got = f64::from(yuv[y * luma_stride + x]);
        assert!((got - luma).abs() <= 1.0, "{got} for {luma}");
    }
}
