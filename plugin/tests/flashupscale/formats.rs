// SPDX-License-Identifier: MPL-2.0
//! Every format of the pad templates: colours, depth and alpha come out as they went in.

use gst::prelude::*;
use gst_video::{VideoColorimetry, VideoConverter, VideoFormat, VideoFrame, VideoInfo};

use crate::fixture::{Fixture, element, init};

/// Sides of the picture. They are odd, so that every kind of chroma is cut somewhere.
const SIDES: (u32, u32) = (45, 41);
/// Red, green, blue and alpha of its quarters.
const COLOURS: [[u8; 4]; 4] = [
    [200, 60, 40, 255],
    [40, 160, 80, 200],
    [60, 80, 190, 128],
    [150, 150, 150, 40],
];
const SCALE: usize = 2;

/// All formats of the sink pad.
fn formats() -> Vec<VideoFormat> {
    let template = element(&[]).pad_template("sink").unwrap();
    let structure = template.caps().structure(0).unwrap().to_owned();
    let list = structure.get::<gst::List>("format").unwrap();
    list.iter()
        .map(|name| VideoFormat::from_string(name.get().unwrap()))
        .collect()
}

fn info(format: VideoFormat, (width, height): (u32, u32)) -> VideoInfo {
    let info = VideoInfo::builder(format, width, height).fps((25, 1));
    info.build().unwrap()
}

/// What GStreamer makes of `buffer` in another format.
fn converted(buffer: gst::Buffer, from: &VideoInfo, to: &VideoInfo) -> gst::Buffer {
    let source = VideoFrame::from_buffer_readable(buffer, from).unwrap();
    let target = gst::Buffer::with_size(to.size()).unwrap();
    let mut target = VideoFrame::from_buffer_writable(target, to).unwrap();
    VideoConverter::new(from, to, None)
        .unwrap()
        .frame(&source, &mut target);
    target.into_buffer()
}

/// Four quarters of one colour each.
fn quarters() -> (gst::Buffer, VideoInfo) {
    let info = info(VideoFormat::Rgba, SIDES);
    let (width, height) = (SIDES.0 as usize, SIDES.1 as usize);
    let mut bytes = vec![0u8; info.size()];
    for y in 0..height {
        for x in 0..width {
            let quarter = usize::from(x > width / 2) + 2 * usize::from(y > height / 2);
            let at = y * info.stride()[0] as usize + 4 * x;
            bytes[at..at + 4].copy_from_slice(&COLOURS[quarter]);
        }
    }
    (gst::Buffer::from_mut_slice(bytes), info)
}

/// Red, green, blue and alpha in the middle of each quarter, in 16 bits.
fn middles(buffer: gst::Buffer, info: &VideoInfo) -> Vec<[i32; 4]> {
    let (width, height) = (info.width(), info.height());
    let rgba = self::info(VideoFormat::Argb64, (width, height));
    let buffer = converted(buffer, info, &rgba);
    let bytes = buffer.map_readable().unwrap();
    let stride = rgba.stride()[0] as usize;
    let pixel = |x: u32, y: u32| {
        let at = y as usize * stride + 8 * x as usize;
        let of = |index: usize| {
            i32::from(u16::from_ne_bytes([
                bytes[at + 2 * index],
                bytes[at + 2 * index + 1],
            ]))
        };
        [of(1), of(2), of(3), of(0)]
    };
    let (left, right) = (width / 4, width * 3 / 4);
    let (top, bottom) = (height / 4, height * 3 / 4);
    vec![
        pixel(left, top),
        pixel(right, top),
        pixel(left, bottom),
        pixel(right, bottom),
    ]
}

fn check(format: VideoFormat, properties: &[(&str, &str)]) {
    let (picture, rgba) = quarters();
    let input_info = info(format, SIDES);
    let input = converted(picture, &rgba, &input_info);
    let wanted = middles(input.copy(), &input_info);
    let scale = SCALE.to_string();
    let mut fixture = Fixture::new(&[&[("scale", &*scale)][..], properties].concat());
    fixture.harness.set_src_caps(input_info.to_caps().unwrap());
    fixture.harness.push(input.copy()).unwrap();
    fixture.harness.push(input).unwrap();
    let buffers = fixture.finish();
    assert_eq!(buffers.len(), 2, "{format}");
    let output_info = VideoInfo::from_caps(&fixture.output_caps()).unwrap();
    assert_eq!(output_info.format(), format);
    assert_eq!(
        (output_info.width(), output_info.height()),
        (SIDES.0 * SCALE as u32, SIDES.1 * SCALE as u32)
    );
    for buffer in buffers {
        assert_eq!(buffer.size(), output_info.size(), "{format}");
        let found = middles(buffer, &output_info);
        // The fourth byte of RGBx and its kin means nothing.
        let channels = if output_info.has_alpha() { 4 } else { 3 };
        for (found, wanted) in found.iter().zip(&wanted) {
            for (found, wanted) in found.iter().zip(wanted).take(channels) {
                // Three codes of eight bits.
                assert!(
                    (found - wanted).abs() <= 3 * 257,
                    "{format} {properties:?}: {found} for {wanted}"
                );
            }
        }
    }
}

#[test]
fn every_format_keeps_its_colours_without_a_model() {
    for format in formats() {
        check(format, &[("bypass", "true")]);
    }
}

#[test]
fn every_format_keeps_its_colours_in_a_model() {
    for format in formats() {
        check(format, &[("model", "builtin:live")]);
    }
}

#[test]
fn with_all_formats_to_choose_from_it_is_i420() {
    init();
    for before in ["", "videoconvert !", "videoconvert ! videoscale !"] {
        let line = format!(
            "videotestsrc num-buffers=1 ! {before} flashupscale name=e bypass=true ! fakesink"
        );
        let pipeline = gst::parse::launch(&line).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let bus = pipeline.bus().unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(crate::fixture::PATIENCE, &end);
        assert_eq!(message.unwrap().type_(), gst::MessageType::Eos);
        let sink = pipeline.by_name("e").unwrap().static_pad("sink").unwrap();
        let caps = sink.current_caps().unwrap();
        let format = caps.structure(0).unwrap().get::<&str>("format");
        assert_eq!(format, Ok("I420"), "{line}");
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn a_colorimetry_that_is_half_known_passes() {
    for (format, colorimetry) in [("I420", "1:0:0:0"), ("Y444", "0:0:5:1"), ("RGB", "1:0:0:0")] {
        let caps: gst::Caps = {
            init();
            let text = format!(
                "video/x-raw,format={format},width=16,height=8,framerate=25/1,colorimetry={colorimetry}"
            );
            text.parse().unwrap()
        };
        let info = VideoInfo::from_caps(&caps).unwrap();
        let mut fixture = Fixture::new(&[]);
        fixture.harness.set_src_caps(caps);
        let buffer = gst::Buffer::from_mut_slice(vec![100u8; info.size()]);
        fixture.harness.push(buffer).unwrap();
        assert_eq!(fixture.finish().len(), 1);
        let output = fixture.output_caps();
        let structure = output.structure(0).unwrap();
        assert_eq!(structure.get::<&str>("colorimetry"), Ok(colorimetry));
        assert!(colorimetry.parse::<VideoColorimetry>().is_ok());
    }
}
