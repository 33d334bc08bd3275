// SPDX-License-Identifier: MPL-2.0
use flashvideo::{Samples, Siting, Size};
use gst_video::{VideoChromaSite, VideoFormat};

use super::*;

fn info(format: VideoFormat, width: u32, height: u32) -> VideoInfo {
    gst::init().unwrap();
    VideoInfo::builder(format, width, height).build().unwrap()
}

/// A frame whose samples are all different within their plane's range.
fn pattern(format: FrameFormat, size: Size) -> Frame {
    let planes = (0..format.plane_count())
        .map(|index| {
            let count = format.plane_size(index, size).pixels();
            let values = (0..count).map(|i| {
                ((i * 37 + index * 91 + 5) % (usize::from(format.max_value()) + 1)) as u16
            });
            if format.depth == 8 {
                Samples::U8(values.map(|v| v as u8).collect())
            } else {
                Samples::U16(values.collect())
            }
        })
        .collect();
    Frame::new(format, size, planes).unwrap()
}

fn assert_same(a: &Frame, b: &Frame) {
    assert_eq!(a.format(), b.format());
    assert_eq!(a.planes(), b.planes());
}

#[test]
fn every_format_survives_the_round_trip() {
    for format in FORMATS {
        for (width, height) in [(1, 1), (3, 5), (16, 8), (33, 7)] {
            let info = info(format, width, height);
            let frame = pattern(
                frame_format(&info),
                Size::new(width as usize, height as usize),
            );
            let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
            write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
            assert_same(&read(&buffer, &info, frame_format(&info)).unwrap(), &frame);
        }
    }
}

#[test]
fn padded_strides_are_honoured() {
    for format in [
        VideoFormat::I420,
        VideoFormat::Nv12,
        VideoFormat::Bgra,
        VideoFormat::P01010le,
    ] {
        let plain = info(format, 5, 3);
        let strides: Vec<i32> = plain.stride().iter().map(|s| s + 48).collect();
        let mut offsets = Vec::new();
        let mut end = 16;
        for (plane, stride) in strides.iter().enumerate() {
            offsets.push(end);
            let rows = if plane == 0 { 3 } else { 2 };
            end += *stride as usize * rows;
        }
        let mut buffer = gst::Buffer::from_mut_slice(vec![0xabu8; end]);
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            format,
            5,
            3,
            &offsets,
            &strides,
        )
        .unwrap();
        let frame = pattern(frame_format(&plain), Size::new(5, 3));
        write(&frame, buffer.get_mut().unwrap(), &plain).unwrap();
        assert_same(
            &read(&buffer, &plain, frame_format(&plain)).unwrap(),
            &frame,
        );
        let bytes = buffer.map_readable().unwrap();
        assert!(
            bytes[..16].iter().all(|b| *b == 0xab),
            "{format}: written before the first row"
        );
    }
}

#[test]
fn bytes_between_rows_are_left_alone() {
    for format in FORMATS {
        let plain = info(format, 5, 4);
        let strides: Vec<i32> = plain.stride().iter().map(|s| s + 16).collect();
        let rows = |plane| plain.comp_height(u8::from(plane > 0)) as usize;
        let mut offsets = Vec::new();
        let mut end = 0;
        for (plane, stride) in strides.iter().enumerate() {
            offsets.push(end);
            end += *stride as usize * rows(plane);
        }
        let mut buffer = gst::Buffer::from_mut_slice(vec![0xabu8; end]);
        let flags = gst_video::VideoFrameFlags::empty();
        let writable = buffer.get_mut().unwrap();
        gst_video::VideoMeta::add_full(writable, flags, format, 5, 4, &offsets, &strides).unwrap();
        let frame = pattern(frame_format(&plain), Size::new(5, 4));
        write(&frame, buffer.get_mut().unwrap(), &plain).unwrap();
        let bytes = buffer.map_readable().unwrap();
        for (plane, (offset, stride)) in offsets.iter().zip(&strides).enumerate() {
            for row in bytes[*offset..].chunks(*stride as usize).take(rows(plane)) {
                let gap = &row[plain.stride()[plane] as usize..];
                assert!(gap.iter().all(|b| *b == 0xab), "{format}, plane {plane}");
            }
        }
    }
}

#[test]
fn known_bytes() {
    // 2x1 pixels, red and blue of packed formats; the unused byte reads as opaque.
    for (format, expected) in [
        (VideoFormat::Rgb, vec![1, 2, 3, 4, 5, 6]),
        (VideoFormat::Bgr, vec![3, 2, 1, 6, 5, 4]),
        (VideoFormat::Xrgb, vec![255, 1, 2, 3, 255, 4, 5, 6]),
        (VideoFormat::Bgrx, vec![3, 2, 1, 255, 6, 5, 4, 255]),
        (VideoFormat::Abgr, vec![7, 3, 2, 1, 8, 6, 5, 4]),
    ] {
        let info = info(format, 2, 1);
        let mut planes = vec![
            Samples::U8(vec![1, 4]),
            Samples::U8(vec![2, 5]),
            Samples::U8(vec![3, 6]),
        ];
        if info.has_alpha() {
            planes.push(Samples::U8(vec![7, 8]));
        }
        let frame = Frame::new(frame_format(&info), Size::new(2, 1), planes).unwrap();
        let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
        write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
        let bytes = buffer.map_readable().unwrap();
        assert_eq!(&bytes[..expected.len()], expected, "{format}");
    }
    // P010 has its ten bits at the top, I420_10LE at the bottom.
    for (format, expected) in [
        (VideoFormat::P01010le, 0x3ffu16 << 6),
        (VideoFormat::I42010le, 0x3ff),
    ] {
        let info = info(format, 2, 2);
        let frame = Frame::new(
            frame_format(&info),
            Size::new(2, 2),
            vec![
                Samples::U16(vec![0x3ff; 4]),
                Samples::U16(vec![0; 1]),
                Samples::U16(vec![0; 1]),
            ],
        )
        .unwrap();
        let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
        write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
        assert_eq!(
            &buffer.map_readable().unwrap()[..2],
            expected.to_le_bytes(),
            "{format}"
        );
    }
}

#[test]
fn interleaved_ten_bit_chroma() {
    let info = info(VideoFormat::P01010le, 4, 2);
    let planes = vec![
        Samples::U16(vec![0; 8]),
        Samples::U16(vec![0x001, 0x002]),
        Samples::U16(vec![0x3ff, 0x200]),
    ];
    let frame = Frame::new(frame_format(&info), Size::new(4, 2), planes).unwrap();
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
    let start = info.offset()[1];
    assert_eq!(
        buffer.map_readable().unwrap()[start..start + 8],
        [0x40, 0x00, 0xc0, 0xff, 0x80, 0x00, 0x00, 0x80]
    );
}

#[test]
fn swapped_chroma_planes() {
    let frame = pattern(
        frame_format(&info(VideoFormat::I420, 4, 4)),
        Size::new(4, 4),
    );
    let bytes = |format| {
        let info = info(format, 4, 4);
        let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
        write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
        let (u, v) = (info.comp_offset(1), info.comp_offset(2));
        let map = buffer.map_readable().unwrap();
        ([map[u], map[u + 1]], [map[v], map[v + 1]])
    };
    assert_eq!(bytes(VideoFormat::I420), bytes(VideoFormat::Yv12));
}

#[test]
fn colours_come_from_the_caps() {
    let with = |colorimetry: &str, site: VideoChromaSite| {
        gst::init().unwrap();
        let info = VideoInfo::builder(VideoFormat::I420, 64, 64)
            .colorimetry(&colorimetry.parse().unwrap())
            .chroma_site(site)
            .build()
            .unwrap();
        frame_format(&info)
    };
    let bt601 = with("bt601", VideoChromaSite::JPEG);
    assert!((bt601.matrix.0 - 0.299).abs() < 1e-9 && !bt601.full_range);
    assert_eq!(bt601.siting, (Siting::Centre, Siting::Centre));
    let jpeg = with("1:4:0:0", VideoChromaSite::COSITED);
    assert!(jpeg.full_range);
    assert_eq!(jpeg.siting, (Siting::Cosited, Siting::Cosited));
    let bt2020 = with("bt2020", VideoChromaSite::MPEG2);
    assert!((bt2020.matrix.0 - 0.2627).abs() < 1e-9);
    assert_eq!(bt2020.siting, (Siting::Cosited, Siting::Centre));
    assert!(frame_format(&info(VideoFormat::Rgb, 8, 8)).full_range);
}

#[test]
fn short_buffers_are_refused() {
    let info = info(VideoFormat::I420, 16, 16);
    let buffer = gst::Buffer::with_size(info.size() - 1).unwrap();
    let error = read(&buffer, &info, frame_format(&info)).unwrap_err();
    assert!(error.contains("16x16"), "{error}");
}
