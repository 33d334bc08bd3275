// SPDX-License-Identifier: MPL-2.0
//! Chroma stays where the caps say that it lies: a ramp over both axes of the picture is the same ramp in the large one.

use gst_video::{VideoChromaSite, VideoFormat, VideoInfo};

use crate::fixture::{Fixture, init};

const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;

/// The value of the ramp at a place, in pixels of the small picture from its outer edge. It is whole where chroma lies in any
/// of the sitings, so that rounding moves nothing.
fn ramp(x: f64, y: f64) -> f64 {
    20.0 + 2.0 * x + 2.0 * y
}

/// Where chroma sample `index` lies on an axis, in pixels of its own picture from the outer edge.
fn place(index: usize, sub: u32, cosited: bool) -> f64 {
    let group = f64::from(1u32 << sub);
    group * index as f64 + if cosited { 0.5 } else { group / 2.0 }
}

fn info(format: VideoFormat, site: VideoChromaSite, width: u32, height: u32) -> VideoInfo {
    let info = VideoInfo::builder(format, width, height).fps((25, 1));
    info.chroma_site(site).build().unwrap()
}

/// Calls `visit` with each chroma sample of a picture: its byte, and its place in pixels of that picture.
fn chroma(info: &VideoInfo, mut visit: impl FnMut(usize, f64, f64)) {
    let site = info.chroma_site();
    let (sub_x, sub_y) = (info.format_info().w_sub()[1], info.format_info().h_sub()[1]);
    let (width, height) = (info.comp_width(1) as usize, info.comp_height(1) as usize);
    let step = info.comp_pstride(1) as usize;
    for component in 1..3u8 {
        let (stride, offset) = (
            info.comp_stride(component) as usize,
            info.comp_offset(component),
        );
        for row in 0..height {
            let y = place(row, sub_y, site.contains(VideoChromaSite::V_COSITED));
            for column in 0..width {
                let x = place(column, sub_x, site.contains(VideoChromaSite::H_COSITED));
                visit(offset + row * stride + column * step, x, y);
            }
        }
    }
}

fn check(format: VideoFormat, site: VideoChromaSite, scale: u32, properties: &[(&str, &str)]) {
    let small = info(format, site, WIDTH, HEIGHT);
    let mut bytes = vec![100u8; small.size()];
    chroma(&small, |at, x, y| bytes[at] = ramp(x, y).round() as u8);
    let factor = scale.to_string();
    let mut fixture = Fixture::new(&[&[("scale", &*factor)][..], properties].concat());
    fixture.harness.set_src_caps(small.to_caps().unwrap());
    fixture
        .harness
        .push(gst::Buffer::from_mut_slice(bytes))
        .unwrap();
    let output = fixture.finish().remove(0);
    let large = VideoInfo::from_caps(&fixture.output_caps()).unwrap();
    assert_eq!(large.chroma_site(), site);
    let bytes = output.map_readable().unwrap();
    let scale = f64::from(scale);
    chroma(&large, |at, x, y| {
        let (x, y) = (x / scale, y / scale);
        // A resize reads three samples on each side, of which each may stand for four pixels.
        let inside = |place: f64, side: u32| (14.0..f64::from(side) - 14.0).contains(&place);
        if inside(x, WIDTH) && inside(y, HEIGHT) {
            let (found, wanted) = (f64::from(bytes[at]), ramp(x, y));
            assert!(
                (found - wanted).abs() <= 1.0,
                "{format} {site:?} x{scale} {properties:?}: {found} at {x:.2}, {y:.2}, expected {wanted:.2}"
            );
        }
    });
}

#[test]
fn chroma_lies_where_the_caps_say() {
    init();
    let sites = [
        VideoChromaSite::MPEG2,
        VideoChromaSite::JPEG,
        VideoChromaSite::COSITED,
    ];
    for format in [
        VideoFormat::I420,
        VideoFormat::Nv12,
        VideoFormat::Y42b,
        VideoFormat::Yuy2,
        VideoFormat::Y41b,
        VideoFormat::Yuv9,
    ] {
        for site in sites {
            for scale in [2, 4, 8] {
                check(format, site, scale, &[("bypass", "true")]);
            }
            check(format, site, 2, &[]);
            check(format, site, 4, &[]);
            check(format, site, 4, &[("model", "builtin")]);
        }
    }
}
