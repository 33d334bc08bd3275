// SPDX-License-Identifier: MPL-2.0
//! Pictures, and what travels with them.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use crate::fixture::{FRAME, Fixture, caps, element, i420, picture};

/// All formats of the pads; how many these are is another test.
fn formats() -> Vec<VideoFormat> {
    let template = element(&[]).pad_template("sink").unwrap();
    let structure = template.caps().structure(0).unwrap();
    let list = structure.get::<gst::List>("format").unwrap();
    list.iter()
        .map(|name| VideoFormat::from_string(name.get::<&str>().unwrap()))
        .collect()
}

#[test]
fn every_format_goes_through_the_model() {
    for format in formats() {
        let mut fixture = Fixture::new(&[("scale", "2")]);
        fixture.harness.set_src_caps(caps(format, 9, 6));
        for index in 0..2 {
            fixture.harness.push(picture(format, 9, 6, index)).unwrap();
        }
        let buffers = fixture.finish();
        assert_eq!(buffers.len(), 2, "{format}");
        let info = VideoInfo::from_caps(&fixture.output_caps()).unwrap();
        assert_eq!(
            (info.format(), info.width(), info.height()),
            (format, 18, 12)
        );
        for buffer in &buffers {
            assert!(buffer.size() >= info.size(), "{format}");
        }
    }
}

/// A grey picture stays grey in every format: the planes, their order and their ranges are right.
#[test]
fn flat_pictures_stay_flat() {
    crate::fixture::init();
    for format in formats() {
        let info = VideoInfo::builder(format, 8, 8).build().unwrap();
        let levels: Vec<u16> = (0..info.n_components())
            .map(|c| (60 + 40 * c as u16) << (info.comp_depth(0) - 8))
            .collect();
        let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
        fill(buffer.get_mut().unwrap(), &info, &levels);
        let mut fixture = Fixture::new(&[("scale", "2")]);
        fixture.harness.set_src_caps(caps(format, 8, 8));
        fixture.harness.push(buffer).unwrap();
        let output = fixture.finish().remove(0);
        let out_info = VideoInfo::from_caps(&fixture.output_caps()).unwrap();
        for (component, level) in levels.iter().enumerate() {
            let mean = mean(&output, &out_info, component as u8);
            let error = (mean - f64::from(*level)).abs() / f64::from(1 << (info.comp_depth(0) - 8));
            assert!(
                error < 6.0,
                "{format} component {component}: {level} became {mean}"
            );
        }
    }
}

fn each_sample(info: &VideoInfo, component: u8, mut visit: impl FnMut(usize)) {
    // Of P010, GStreamer 1.22 gives the offset of the last component within its pixel in samples.
    let within = info.comp_poffset(component) as usize;
    let bytes = if info.comp_depth(component) > 8 && within % 2 == 1 {
        2 * within
    } else {
        within
    };
    let start = info.comp_offset(component) - within + bytes;
    for y in 0..info.comp_height(component) as usize {
        for x in 0..info.comp_width(component) as usize {
            visit(
                start
                    + y * info.comp_stride(component) as usize
                    + x * info.comp_pstride(component) as usize,
            );
        }
    }
}

fn shift(info: &VideoInfo, component: u8) -> u32 {
    info.format_info().shift()[usize::from(component)]
}

fn fill(buffer: &mut gst::BufferRef, info: &VideoInfo, levels: &[u16]) {
    let mut bytes = buffer.map_writable().unwrap();
    for (component, level) in levels.iter().enumerate() {
        let component = component as u8;
        each_sample(info, component, |at| {
            if info.comp_depth(component) == 8 {
                bytes[at] = *level as u8;
            } else {
                bytes[at..at + 2].copy_from_slice(&(level << shift(info, component)).to_le_bytes());
            }
        });
    }
}

fn mean(buffer: &gst::BufferRef, info: &VideoInfo, component: u8) -> f64 {
    let bytes = buffer.map_readable().unwrap();
    let (mut sum, mut count) = (0.0, 0.0);
    each_sample(info, component, |at| {
        sum += if info.comp_depth(component) == 8 {
            f64::from(bytes[at])
        } else {
            f64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]) >> shift(info, component))
        };
        count += 1.0;
    });
    sum / count
}

#[test]
fn odd_and_tiny_sizes() {
    for (width, height) in [(1, 1), (3, 5), (1, 7), (17, 2), (33, 31)] {
        let mut fixture = Fixture::with_size(width, height, &[]);
        for index in 0..2 {
            fixture.harness.push(i420(width, height, index)).unwrap();
        }
        assert_eq!(fixture.finish().len(), 2);
        let info = VideoInfo::from_caps(&fixture.output_caps()).unwrap();
        assert_eq!((info.width(), info.height()), (4 * width, 4 * height));
    }
}

#[test]
fn padded_input_strides_do_not_show() {
    let plain = i420(9, 6, 0);
    let info = VideoInfo::builder(VideoFormat::I420, 9, 6).build().unwrap();
    let strides: Vec<i32> = info.stride().iter().map(|s| s + 20).collect();
    let rows = [6usize, 3, 3];
    let mut padded = Vec::new();
    let mut offsets = Vec::new();
    {
        let bytes = plain.map_readable().unwrap();
        for plane in 0..3 {
            offsets.push(padded.len());
            let stride = info.stride()[plane] as usize;
            for row in bytes[info.offset()[plane]..]
                .chunks(stride)
                .take(rows[plane])
            {
                padded.extend_from_slice(row);
                padded.extend([0xee; 20]);
            }
        }
    }
    let mut padded = gst::Buffer::from_mut_slice(padded);
    gst_video::VideoMeta::add_full(
        padded.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        VideoFormat::I420,
        9,
        6,
        &offsets,
        &strides,
    )
    .unwrap();
    let enhance = |buffer: gst::Buffer| {
        let mut fixture = Fixture::with_size(9, 6, &[]);
        fixture.harness.push(buffer).unwrap();
        let output = fixture.finish().remove(0);
        // The bytes between the rows are nobody's.
        let info = VideoInfo::from_caps(&fixture.output_caps()).unwrap();
        let bytes = output.map_readable().unwrap();
        let mut samples = Vec::new();
        for component in 0..3 {
            each_sample(&info, component, |at| samples.push(bytes[at]));
        }
        samples
    };
    assert_eq!(enhance(plain), enhance(padded));
}

#[test]
fn as_many_frames_out_as_in() {
    for count in 0..=12 {
        let mut fixture = Fixture::with_size(8, 8, &[("scale", "2")]);
        for index in 0..count {
            fixture.harness.push(i420(8, 8, index)).unwrap();
        }
        let offsets: Vec<_> = fixture.finish().iter().map(|b| b.offset()).collect();
        assert_eq!(offsets, (0..count).collect::<Vec<_>>());
    }
}

#[test]
fn each_frame_keeps_its_own_times_and_flags() {
    let mut fixture = Fixture::with_size(8, 8, &[]);
    let mut sent = Vec::new();
    for (index, pts) in [7u64, 40, 99, 118, 161, 200, 255].into_iter().enumerate() {
        let mut buffer = i420(8, 8, index as u64);
        {
            let buffer = buffer.get_mut().unwrap();
            buffer.set_pts(gst::ClockTime::from_mseconds(pts));
            buffer.set_dts((index % 2 == 0).then(|| gst::ClockTime::from_mseconds(pts - 1)));
            buffer.set_duration((index % 3 > 0).then_some(FRAME * index as u64));
            if index == 2 {
                buffer.set_flags(gst::BufferFlags::CORRUPTED | gst::BufferFlags::DELTA_UNIT);
            }
            if index == 4 {
                buffer.set_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::MARKER);
            }
        }
        sent.push(describe(&buffer));
        fixture.harness.push(buffer).unwrap();
    }
    let received: Vec<_> = fixture.finish().iter().map(|b| describe(b)).collect();
    assert_eq!(received, sent);
}

type Description = (
    Option<gst::ClockTime>,
    Option<gst::ClockTime>,
    Option<gst::ClockTime>,
    u64,
    u64,
    gst::BufferFlags,
);

fn describe(buffer: &gst::BufferRef) -> Description {
    (
        buffer.pts(),
        buffer.dts(),
        buffer.duration(),
        buffer.offset(),
        buffer.offset_end(),
        buffer.flags() - gst::BufferFlags::TAG_MEMORY,
    )
}

#[test]
fn metas_travel_and_positions_are_scaled() {
    let mut fixture = Fixture::with_size(16, 12, &[]);
    let clock = gst::Caps::new_empty_simple("timestamp/x-test");
    for index in 0..3 {
        let mut buffer = i420(16, 12, index);
        {
            let buffer = buffer.get_mut().unwrap();
            gst::ReferenceTimestampMeta::add(
                buffer,
                &clock,
                gst::ClockTime::from_seconds(index),
                None,
            );
            gst_video::VideoRegionOfInterestMeta::add(buffer, "face", (2 + index as u32, 1, 4, 3));
        }
        fixture.harness.push(buffer).unwrap();
    }
    let buffers = fixture.finish();
    assert_eq!(buffers.len(), 3);
    for (index, buffer) in (0u64..).zip(&buffers) {
        let time = buffer.meta::<gst::ReferenceTimestampMeta>().unwrap();
        assert_eq!(time.timestamp(), gst::ClockTime::from_seconds(index));
        let regions: Vec<_> = buffer
            .iter_meta::<gst_video::VideoRegionOfInterestMeta>()
            .collect();
        assert_eq!(regions.len(), 1);
        assert_eq!(regions[0].rect(), (4 * (2 + index as u32), 4, 16, 12));
    }
}
