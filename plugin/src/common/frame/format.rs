// SPDX-License-Identifier: MPL-2.0
//! Which formats there are, and what caps say about their samples.

use flashvideo::{FrameFormat, Planes, Siting, Size};
use gst_video::{VideoChromaSite, VideoColorRange, VideoFormat, VideoInfo};

/// All formats that can be read and written, best first: Y'CbCr before R, G, B, which costs three planes and a matrix, and what
/// decoders give before what is rare.
pub(crate) const FORMATS: [VideoFormat; 55] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yv12,
    VideoFormat::Nv21,
    VideoFormat::Y42b,
    VideoFormat::Nv16,
    VideoFormat::Nv61,
    VideoFormat::Yuy2,
    VideoFormat::Uyvy,
    VideoFormat::Yvyu,
    VideoFormat::Y444,
    VideoFormat::Nv24,
    VideoFormat::Y41b,
    VideoFormat::Yuv9,
    VideoFormat::Yvu9,
    VideoFormat::I42010le,
    VideoFormat::P01010le,
    VideoFormat::I42210le,
    VideoFormat::Y44410le,
    VideoFormat::I42012le,
    VideoFormat::P012Le,
    VideoFormat::I42212le,
    VideoFormat::Y44412le,
    VideoFormat::P016Le,
    VideoFormat::Y44416le,
    VideoFormat::A420,
    VideoFormat::Ayuv,
    VideoFormat::Vuya,
    VideoFormat::A42010le,
    VideoFormat::A42210le,
    VideoFormat::A44410le,
    VideoFormat::Ayuv64,
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
    VideoFormat::Gbr,
    VideoFormat::Gbra,
    VideoFormat::Gbr10le,
    VideoFormat::Gbr12le,
    VideoFormat::Gbra10le,
    VideoFormat::Gbra12le,
    VideoFormat::Argb64,
    VideoFormat::Argb64Le,
    VideoFormat::Rgba64Le,
    VideoFormat::Bgra64Le,
    VideoFormat::Abgr64Le,
    VideoFormat::Gray8,
    VideoFormat::Gray16Le,
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
