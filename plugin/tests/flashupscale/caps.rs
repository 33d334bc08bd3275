// SPDX-License-Identifier: MPL-2.0
//! Caps queries and negotiation.

use gst::prelude::*;
use gst_video::VideoFormat;

use crate::fixture::{Fixture, caps, element, i420, init};

fn parse(text: &str) -> gst::Caps {
    init();
    text.parse().unwrap()
}

fn size(caps: &gst::Caps) -> (i32, i32) {
    let s = caps.structure(0).unwrap();
    (s.get("width").unwrap(), s.get("height").unwrap())
}

#[test]
fn the_sink_pad_offers_every_size_whatever_downstream_fixes() {
    let mut fixture = Fixture::new(&[]);
    fixture
        .harness
        .set_sink_caps_str("video/x-raw,format=NV12,width=1280,height=720");
    let sink = fixture.element.static_pad("sink").unwrap();
    let offer = sink.query_caps(None);
    assert!(
        caps(VideoFormat::Nv12, 320, 180).can_intersect(&offer),
        "{offer}"
    );
    assert!(
        !caps(VideoFormat::I420, 320, 180).can_intersect(&offer),
        "{offer}"
    );
    let interlaced = parse("video/x-raw,interlace-mode=interleaved");
    let whole: gst::Caps = offer.iter().take(1).map(ToOwned::to_owned).collect();
    assert!(!interlaced.can_intersect(&whole));
    let filter = parse("video/x-raw,format={I420,NV12},width=64,height=[8,16]");
    let filtered = sink.query_caps(Some(&filter));
    assert!(filtered.is_subset(&filter), "{filtered}");
    assert_eq!(
        filtered.structure(0).unwrap().get::<&str>("format"),
        Ok("NV12")
    );
}

#[test]
fn the_source_pad_offers_the_scaled_size_first() {
    let fixture = Fixture::with_size(32, 24, &[("scale", "3")]);
    let offer = fixture.element.static_pad("src").unwrap().query_caps(None);
    assert_eq!(size(&offer), (96, 72));
    let possible = |text: &str| offer.can_intersect(&parse(text));
    assert!(possible("video/x-raw,width=512,height=384"));
    assert!(!possible("video/x-raw,width=513"));
    assert!(!possible("video/x-raw,width=31"));
    assert!(!possible("video/x-raw,format=RGB"));
}

#[test]
fn accept_caps() {
    let element = element(&[]);
    let sink = element.static_pad("sink").unwrap();
    assert!(sink.query_accept_caps(&caps(VideoFormat::P01010le, 5, 3)));
    assert!(sink.query_accept_caps(&parse(
        "video/x-raw,format=RGB,width=5,height=3,framerate=0/1"
    )));
    assert!(sink.query_accept_caps(&parse("video/x-raw,format=UYVY,width=5,height=3")));
    assert!(!sink.query_accept_caps(&parse("video/x-raw,format=v210,width=5,height=3")));
    assert!(!sink.query_accept_caps(&parse(
        "video/x-raw(memory:DMABuf),format=I420,width=5,height=3"
    )));
    assert!(!sink.query_accept_caps(&parse("audio/x-raw")));
}

#[test]
fn downstream_caps_choose_the_size() {
    for (downstream, expected) in [
        ("video/x-raw", (64, 48)),
        ("video/x-raw,width=50,height=30", (50, 30)),
        ("video/x-raw,width=48", (48, 36)),
        ("video/x-raw,height=27", (36, 27)),
    ] {
        let mut fixture = Fixture::new(&[]);
        fixture.harness.set_sink_caps_str(downstream);
        fixture
            .harness
            .set_src_caps(caps(VideoFormat::I420, 16, 12));
        fixture.harness.push(i420(16, 12, 0)).unwrap();
        let buffers = fixture.finish();
        assert_eq!(buffers.len(), 1);
        assert_eq!(size(&fixture.output_caps()), expected, "{downstream}");
        let info = gst_video::VideoInfo::from_caps(&fixture.output_caps()).unwrap();
        assert_eq!(buffers[0].size(), info.size());
    }
}

#[test]
fn aspect_rate_colours_and_hdr_pass() {
    let mut fixture = Fixture::new(&[("scale", "2")]);
    let input = parse(
        "video/x-raw,format=I420_10LE,width=16,height=8,framerate=24000/1001,pixel-aspect-ratio=12/11,\
         interlace-mode=progressive,colorimetry=bt2100-hlg,chroma-site=mpeg2,\
         mastering-display-info=(string)35400:14600:8500:39850:6550:2300:15635:16450:10000000:1,\
         content-light-level=(string)1000:400",
    );
    fixture.harness.set_src_caps(input.clone());
    fixture
        .harness
        .push(crate::fixture::picture(VideoFormat::I42010le, 16, 8, 0))
        .unwrap();
    assert_eq!(fixture.finish().len(), 1);
    let mut expected = input;
    {
        let structure = expected.make_mut().structure_mut(0).unwrap();
        structure.set("width", 32);
        structure.set("height", 16);
    }
    assert_eq!(fixture.output_caps(), expected);
}

#[test]
fn a_new_size_within_the_stream() {
    let mut fixture = Fixture::with_size(16, 12, &[]);
    for index in 0..3 {
        fixture.harness.push(i420(16, 12, index)).unwrap();
    }
    assert!(
        fixture
            .harness
            .push_event(gst::event::Caps::new(&caps(VideoFormat::I420, 20, 10)))
    );
    for index in 3..5 {
        fixture.harness.push(i420(20, 10, index)).unwrap();
    }
    let sizes: Vec<_> = fixture
        .finish()
        .iter()
        .map(|b| (b.offset(), b.size()))
        .collect();
    let (first, second) = (64 * 48 * 3 / 2, 80 * 40 * 3 / 2);
    assert_eq!(
        sizes,
        [(0, first), (1, first), (2, first), (3, second), (4, second)]
    );
    assert_eq!(size(&fixture.output_caps()), (80, 40));
}

#[test]
fn downstream_can_ask_for_another_size() {
    let mut fixture = Fixture::with_size(16, 12, &[]);
    fixture.harness.push(i420(16, 12, 0)).unwrap();
    // Until the first frame is out, nothing more is negotiated.
    fixture.harness.push(i420(16, 12, 1)).unwrap();
    fixture.harness.pull().unwrap();
    fixture
        .harness
        .set_sink_caps_str("video/x-raw,width=40,height=30");
    assert!(
        fixture
            .harness
            .push_upstream_event(gst::event::Reconfigure::new())
    );
    fixture.harness.push(i420(16, 12, 2)).unwrap();
    let rest = fixture.finish();
    assert_eq!(rest.len(), 2);
    assert_eq!(rest[1].size(), 40 * 30 * 3 / 2);
}

#[test]
fn interlaced_caps_are_refused_with_advice() {
    let mut fixture = Fixture::new(&[]);
    let start = gst::event::StreamStart::new("test");
    assert!(fixture.harness.push_event(start));
    let interlaced = parse(
        "video/x-raw,format=I420,width=16,height=12,framerate=25/1,interlace-mode=interleaved,\
         field-order=top-field-first",
    );
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    for round in 0..3 {
        // Again and again, with a flush in between: it is said once.
        let pad = fixture.harness.srcpad().unwrap().clone();
        assert!(pad.push_event(gst::event::Caps::new(&interlaced)));
        assert!(pad.push_event(gst::event::Segment::new(&segment)));
        // Ended, not failed: elements upstream would add errors of their own.
        assert_eq!(pad.push(i420(16, 12, round)), Err(gst::FlowError::Eos));
        assert!(pad.push_event(gst::event::FlushStart::new()));
        assert!(pad.push_event(gst::event::FlushStop::new(true)));
        assert!(pad.push_event(gst::event::Segment::new(&segment)));
        assert_eq!(pad.push(i420(16, 12, round)), Err(gst::FlowError::Eos));
    }
    let (error, text) = fixture.error();
    assert!(error.matches(gst::CoreError::Negotiation));
    assert!(text.contains("deinterlace"), "{text}");
    let more = fixture.bus.pop_filtered(&[gst::MessageType::Error]);
    assert!(more.is_none(), "{more:?}");
    // Whole frames mend it.
    fixture
        .harness
        .set_src_caps(caps(VideoFormat::I420, 16, 12));
    fixture.harness.push(i420(16, 12, 7)).unwrap();
    assert_eq!(fixture.finish().len(), 1);
}

#[test]
fn impossible_sizes_are_refused_with_advice() {
    for (properties, downstream, (width, height), advice) in [
        (&[("scale", "4")][..], "video/x-raw", (8192, 8192), "scale"),
        (&[], "video/x-raw,width=8,height=8", (16, 16), "videoscale"),
        (&[], "video/x-raw,format=RGB", (16, 16), "videoconvert"),
    ] {
        let mut fixture = Fixture::new(properties);
        fixture.harness.set_sink_caps_str(downstream);
        fixture
            .harness
            .set_src_caps(caps(VideoFormat::I420, width, height));
        let (error, text) = fixture.error();
        assert!(error.matches(gst::CoreError::Negotiation), "{error}");
        assert!(text.contains(advice), "{text}");
    }
}

#[test]
fn upstream_is_told_that_any_strides_will_do() {
    let fixture = Fixture::with_size(16, 12, &[]);
    let caps = caps(VideoFormat::I420, 16, 12);
    let mut query = gst::query::Allocation::new(Some(&caps), true);
    assert!(fixture.harness.srcpad().unwrap().peer_query(&mut query));
    assert!(
        query
            .find_allocation_meta::<gst_video::VideoMeta>()
            .is_some()
    );
    let (_, bytes, min, max) = query.allocation_pools().next().unwrap();
    assert_eq!((bytes, max), (16 * 12 * 3 / 2, 0));
    assert!(min > 1);
}

#[test]
fn the_alignment_that_downstream_wants_is_kept() {
    let mut fixture = Fixture::new(&[]);
    let src = fixture.element.static_pad("src").unwrap();
    src.add_probe(
        gst::PadProbeType::QUERY_DOWNSTREAM | gst::PadProbeType::PUSH,
        |_, info| {
            let Some(gst::PadProbeData::Query(query)) = &mut info.data else {
                return gst::PadProbeReturn::Ok;
            };
            let gst::QueryViewMut::Allocation(query) = query.view_mut() else {
                return gst::PadProbeReturn::Ok;
            };
            let mut alignment = gst::Structure::builder("video-meta");
            for plane in 0..4 {
                alignment = alignment.field(format!("stride-align{plane}"), 63u32);
            }
            for side in ["top", "bottom", "left", "right"] {
                alignment = alignment.field(format!("padding-{side}"), 0u32);
            }
            query.add_allocation_meta::<gst_video::VideoMeta>(Some(&alignment.build()));
            gst::PadProbeReturn::Handled
        },
    );
    fixture.harness.set_src_caps(caps(VideoFormat::I420, 9, 7));
    fixture.harness.push(i420(9, 7, 0)).unwrap();
    let buffer = fixture.finish().remove(0);
    let meta = buffer.meta::<gst_video::VideoMeta>().unwrap();
    assert_eq!((meta.width(), meta.height()), (36, 28));
    assert!(
        meta.stride().iter().all(|stride| stride % 64 == 0),
        "{:?}",
        meta.stride()
    );
}
