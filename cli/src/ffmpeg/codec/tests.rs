// SPDX-License-Identifier: MPL-2.0
use super::super::colour::Colour;
use super::super::pixel::PixelFormat;
use super::*;

fn video(name: &str, gst: &str) -> RawVideo {
    gst::init().unwrap();
    RawVideo {
        format: PixelFormat::for_clip(name, &[gst_video::VideoFormat::from_string(gst)]).unwrap(),
        width: 64,
        height: 48,
        pixel_aspect: (1, 1),
        colour: Colour::default(),
        time_base: (1, 25),
        rate: Some((25, 1)),
        bits: PixelFormat::for_clip(name, &[gst_video::VideoFormat::from_string(gst)])
            .unwrap()
            .depth,
    }
}

fn plan(container: Container, codec: Option<Codec>, video: &RawVideo, alpha: bool) -> Plan {
    let wish = Wish {
        codec,
        ..Wish::default()
    };
    Plan::new(container, wish, video, alpha, 2.0).unwrap()
}

#[test]
fn bits_and_alpha_are_kept_where_there_is_room() {
    let deep = video("yuv422p10le", "I422_10LE");
    assert_eq!(
        plan(Container::Mp4, None, &deep, false).pixels,
        "yuv420p10le"
    );
    assert_eq!(
        plan(Container::QuickTime, Some(Codec::Prores), &deep, false).pixels,
        "yuv422p10le"
    );
    assert_eq!(
        plan(Container::Matroska, Some(Codec::Ffv1), &deep, false).pixels,
        "yuv422p10le"
    );
    let clear = video("yuva420p", "A420");
    let webm = plan(Container::WebM, None, &clear, true);
    assert_eq!((webm.pixels.as_str(), webm.alpha), ("yuva420p", true));
    assert_eq!(
        plan(Container::Matroska, None, &clear, true).codec,
        Codec::Vp9
    );
    assert_eq!(
        plan(Container::QuickTime, None, &clear, true).codec,
        Codec::Prores
    );
    let mp4 = plan(Container::Mp4, None, &clear, true);
    assert!(
        !mp4.alpha && mp4.notes[0].contains("transparency"),
        "{mp4:?}"
    );
}

#[test]
fn high_dynamic_range_and_twelve_bits_become_hevc() {
    let mut hdr = video("yuv420p10le", "I420_10LE");
    assert_eq!(plan(Container::Mp4, None, &hdr, false).codec, Codec::H264);
    hdr.colour.transfer = Some("smpte2084".into());
    assert_eq!(plan(Container::Mp4, None, &hdr, false).codec, Codec::Hevc);
    assert_eq!(
        plan(Container::WebM, None, &hdr, false).pixels,
        "yuv420p10le"
    );
    let twelve = video("yuv444p12le", "Y444_12LE");
    assert_eq!(
        plan(Container::Matroska, None, &twelve, false).pixels,
        "yuv420p12le"
    );
    assert!(
        plan(Container::Matroska, Some(Codec::H264), &twelve, false).notes[0]
            .contains("12 bits become 10")
    );
}

#[test]
fn a_codec_that_does_not_fit_is_refused_with_those_that_do() {
    let wish = Wish {
        codec: Some(Codec::Prores),
        ..Wish::default()
    };
    let error = Plan::new(Container::Mp4, wish, &video("yuv420p", "I420"), false, 2.0)
        .unwrap_err()
        .to_string();
    assert!(error.contains("h264") && error.contains(".mov"), "{error}");
}
