// SPDX-License-Identifier: MPL-2.0
use flashvideo::{Planes, Samples, Siting, Size};
use gst_video::{VideoChromaSite, VideoFormat, VideoFormatInfo, VideoPackFlags};

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

/// Rows of a plane: those of a component in it.
fn plane_rows(info: &VideoInfo, plane: usize) -> usize {
    info.comp_height(component_in(info, plane)) as usize
}

/// The first component in a plane.
fn component_in(info: &VideoInfo, plane: usize) -> u8 {
    let mut components = 0..info.n_components() as u8;
    let inside = components.find(|&index| info.comp_plane(index) as usize == plane);
    inside.unwrap()
}

#[test]
fn every_format_survives_the_round_trip() {
    for format in FORMATS {
        for (width, height) in [(1, 1), (2, 1), (3, 5), (16, 8), (33, 7)] {
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
    for format in FORMATS {
        let plain = info(format, 5, 3);
        let strides: Vec<i32> = plain.stride().iter().map(|s| s + 48).collect();
        let mut offsets = Vec::new();
        let mut end = 16;
        for (plane, stride) in strides.iter().enumerate() {
            offsets.push(end);
            end += *stride as usize * plane_rows(&plain, plane);
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
        let rows = |plane| plane_rows(&plain, plane);
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

/// What GStreamer itself reads of each component, row by row: of 8 bits or of 16, where those that a format lacks are zeros.
fn unpacked(buffer: &gst::BufferRef, info: &VideoInfo) -> Vec<Vec<u16>> {
    let format = info.format_info();
    let wide = VideoFormatInfo::from_format(format.unpack_format()).depth()[0] == 16;
    let picture = VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let planes: Vec<&[u8]> = (0..picture.n_planes())
        .map(|plane| picture.plane_data(plane).unwrap())
        .collect();
    let (width, height) = (info.width() as usize, info.height() as usize);
    let mut components = vec![Vec::new(); 4];
    let mut line = vec![0u8; width * if wide { 8 } else { 4 }];
    for y in 0..height {
        // The binding takes each plane to have as many rows as the picture; so it gets the row alone, where a plane has it.
        let rows: Vec<&[u8]> = (0..planes.len())
            .map(|plane| {
                let sub = format.h_sub()[component_in(info, plane) as usize];
                &planes[plane][(y >> sub) * picture.plane_stride()[plane] as usize..]
            })
            .collect();
        format.unpack(
            VideoPackFlags::TRUNCATE_RANGE,
            &mut line,
            &rows,
            picture.plane_stride(),
            0,
            0,
            width as i32,
        );
        for pixel in line.chunks(line.len() / width) {
            let of = |index: usize| match wide {
                true => u16::from_ne_bytes([pixel[2 * index], pixel[2 * index + 1]]),
                false => pixel[index].into(),
            };
            // Alpha comes first there and last here.
            for (component, index) in components.iter_mut().zip([1, 2, 3, 0]) {
                component.push(of(index));
            }
        }
    }
    components
}

#[test]
fn gstreamer_reads_what_was_written() {
    for format in FORMATS {
        for (width, height) in [(8, 4), (5, 3), (1, 1)] {
            let info = info(format, width, height);
            let (width, height) = (width as usize, height as usize);
            let meaning = frame_format(&info);
            let frame = pattern(meaning, Size::new(width, height));
            let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; info.size()]);
            write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
            let read = unpacked(&buffer, &info);
            for (plane, samples) in frame.planes().iter().enumerate() {
                let component = if plane + 1 == meaning.plane_count() && meaning.alpha {
                    3
                } else {
                    plane
                };
                let size = meaning.plane_size(plane, frame.size());
                // GStreamer puts a chroma sample on each pixel that it stands for.
                let (sub_x, sub_y) = match meaning.planes {
                    Planes::Yuv { sub_x, sub_y } if plane == 1 || plane == 2 => (sub_x, sub_y),
                    _ => (0, 0),
                };
                for y in 0..height {
                    for x in 0..width {
                        let place = (y >> sub_y) * size.width + (x >> sub_x);
                        let written = match &**samples {
                            Samples::U8(samples) => samples[place].into(),
                            Samples::U16(samples) => samples[place] << (16 - meaning.depth),
                        };
                        let found = read[component][y * width + x];
                        assert_eq!(
                            found, written,
                            "{format} {width}x{height}, plane {plane} at {x}, {y}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn packed_pairs_are_whole_where_the_width_is_odd() {
    for (format, expected) in [
        (VideoFormat::Yuy2, [1, 11, 2, 21, 3, 12, 3, 22]),
        (VideoFormat::Yvyu, [1, 21, 2, 11, 3, 22, 3, 12]),
        (VideoFormat::Uyvy, [11, 1, 21, 2, 12, 3, 22, 3]),
    ] {
        let info = info(format, 3, 1);
        let planes = vec![
            Samples::U8(vec![1, 2, 3]),
            Samples::U8(vec![11, 12]),
            Samples::U8(vec![21, 22]),
        ];
        let frame = Frame::new(frame_format(&info), Size::new(3, 1), planes).unwrap();
        let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; info.size()]);
        write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
        assert_eq!(buffer.map_readable().unwrap()[..], expected, "{format}");
    }
}

#[test]
fn wide_samples_lie_where_their_names_say() {
    let (r, g, b, a) = (0x1234u16, 0x5678, 0x9abc, 0xdef0);
    let ne = |order: [u16; 4]| order.map(u16::to_ne_bytes).concat();
    let le = |order: [u16; 4]| order.map(u16::to_le_bytes).concat();
    for (format, expected) in [
        (VideoFormat::Argb64, ne([a, r, g, b])),
        (VideoFormat::Ayuv64, ne([a, r, g, b])),
        (VideoFormat::Argb64Le, le([a, r, g, b])),
        (VideoFormat::Rgba64Le, le([r, g, b, a])),
        (VideoFormat::Bgra64Le, le([b, g, r, a])),
        (VideoFormat::Abgr64Le, le([a, b, g, r])),
    ] {
        let info = info(format, 1, 1);
        let planes = [r, g, b, a].map(|value| Samples::U16(vec![value]));
        let frame = Frame::new(frame_format(&info), Size::new(1, 1), planes.to_vec()).unwrap();
        let mut buffer = gst::Buffer::from_mut_slice(vec![0u8; info.size()]);
        write(&frame, buffer.get_mut().unwrap(), &info).unwrap();
        assert_eq!(buffer.map_readable().unwrap()[..8], expected, "{format}");
    }
}
