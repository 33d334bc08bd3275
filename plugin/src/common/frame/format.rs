// SPDX-License-Identifier: MPL-2.0
//! Which formats there are, and what caps say about their samples.

use flashvideo::{FrameFormat, Planes, Siting, Size};
use gst_video::{VideoChromaSite, VideoColorRange, VideoFormat, VideoInfo};

/// All formats that can be read and written, best first.
pub(crate) const FORMATS: [VideoFormat; 18] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yv12,
    VideoFormat::Y42b,
    VideoFormat::Y444,
    VideoFormat::I42010le,
    VideoFormat::P01010le,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Gray8,
];

/// Meaning of the samples in frames of `info`: planes, depth, and range, matrix and siting of the caps.
pub(crate) fn frame_format(info: &VideoInfo) -> FrameFormat {
    let format = info.format_info();
    let log2_sub = |subs: &[u32]| subs.get(1).map_or(0, |&sub| sub as u8);
    let planes = if format.is_gray() {
        Planes::Gray
    } else if format.is_rgb() {
        Planes::Rgb
    } else {
        Planes::Yuv {
            sub_x: log2_sub(format.w_sub()),
            sub_y: log2_sub(format.h_sub()),
        }
    };
    let colorimetry = info.colorimetry();
    let full_range = match colorimetry.range() {
        VideoColorRange::Range0_255 => true,
        VideoColorRange::Range16_235 => false,
        _ => format.is_rgb(),
    };
    // For R, G, B and for "unknown" there is no matrix; BT.709 then weighs the luma that the model sees.
    let matrix = colorimetry
        .matrix()
        .kr_kb()
        .ok()
        .filter(|&(kr, kb)| kr > 0.0 && kb > 0.0)
        .unwrap_or((0.2126, 0.0722));
    FrameFormat {
        planes,
        alpha: format.has_alpha(),
        depth: info.comp_depth(0) as u8,
        full_range,
        matrix,
        siting: siting(info.chroma_site()),
    }
}

/// Unknown siting is taken as MPEG-2, which is what nearly all streams that do not tell have.
fn siting(site: VideoChromaSite) -> (Siting, Siting) {
    let axis = |cosited: VideoChromaSite| {
        if site.contains(cosited) {
            Siting::Cosited
        } else {
            Siting::Centre
        }
    };
    // UNKNOWN is 0, NONE (centred on both axes) has a bit of its own.
    if site.is_empty() {
        (Siting::Cosited, Siting::Centre)
    } else {
        (
            axis(VideoChromaSite::H_COSITED),
            axis(VideoChromaSite::V_COSITED),
        )
    }
}

/// Size of the pictures.
pub(crate) fn frame_size(info: &VideoInfo) -> Size {
    Size::new(info.width() as usize, info.height() as usize)
}
