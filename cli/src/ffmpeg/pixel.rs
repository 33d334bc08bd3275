// SPDX-License-Identifier: MPL-2.0
//! Pixel formats, as ffmpeg and as GStreamer name them, and which of them a clip is decoded to.

use gst_video::VideoFormat;

/// What a pixel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Luma alone.
    Gray,
    /// Luma and chroma, with log2 of the horizontal and vertical reduction of chroma.
    Yuv(u8, u8),
    /// Red, green, blue.
    Rgb,
}

/// A format that both sides know, with the same bytes in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelFormat {
    /// ffmpeg's name.
    pub name: &'static str,
    /// GStreamer's name.
    pub gst: &'static str,
    /// The code of uncompressed pictures in Matroska and NUT.
    pub fourcc: [u8; 4],
    /// What a pixel has.
    pub kind: Kind,
    /// Bits of a sample.
    pub depth: u8,
    /// Whether there is alpha too.
    pub alpha: bool,
}

const fn format(
    name: &'static str,
    gst: &'static str,
    fourcc: &[u8; 4],
    kind: Kind,
    depth: u8,
    alpha: bool,
) -> PixelFormat {
    PixelFormat {
        name,
        gst,
        fourcc: *fourcc,
        kind,
        depth,
        alpha,
    }
}

use Kind::{Gray, Rgb, Yuv};

/// Planar formats first: others are decoded to one of these where the enhancer does not know them.
#[rustfmt::skip]
const FORMATS: &[PixelFormat] = &[
    format("yuv420p",      "I420",       b"I420",       Yuv(1, 1), 8,  false),
    format("yuv422p",      "Y42B",       b"Y42B",       Yuv(1, 0), 8,  false),
    format("yuv444p",      "Y444",       b"444P",       Yuv(0, 0), 8,  false),
    format("yuv411p",      "Y41B",       b"Y41B",       Yuv(2, 0), 8,  false),
    format("yuv410p",      "YUV9",       b"YUV9",       Yuv(2, 2), 8,  false),
    format("yuv420p10le",  "I420_10LE",  b"Y3\x0b\x0a", Yuv(1, 1), 10, false),
    format("yuv422p10le",  "I422_10LE",  b"Y3\x0a\x0a", Yuv(1, 0), 10, false),
    format("yuv444p10le",  "Y444_10LE",  b"Y3\x00\x0a", Yuv(0, 0), 10, false),
    format("yuv420p12le",  "I420_12LE",  b"Y3\x0b\x0c", Yuv(1, 1), 12, false),
    format("yuv422p12le",  "I422_12LE",  b"Y3\x0a\x0c", Yuv(1, 0), 12, false),
    format("yuv444p12le",  "Y444_12LE",  b"Y3\x00\x0c", Yuv(0, 0), 12, false),
    format("yuva420p",     "A420",       b"Y4\x0b\x08", Yuv(1, 1), 8,  true),
    format("yuva420p10le", "A420_10LE",  b"Y4\x0b\x0a", Yuv(1, 1), 10, true),
    format("yuva422p10le", "A422_10LE",  b"Y4\x0a\x0a", Yuv(1, 0), 10, true),
    format("yuva444p10le", "A444_10LE",  b"Y4\x00\x0a", Yuv(0, 0), 10, true),
    format("gray",         "GRAY8",      b"Y800",       Gray,      8,  false),
    format("gray16le",     "GRAY16_LE",  b"Y1\x00\x10", Gray,      16, false),
    format("rgb24",        "RGB",        b"RGB\x18",    Rgb,       8,  false),
    format("rgba",         "RGBA",       b"RGBA",       Rgb,       8,  true),
    format("gbrp10le",     "GBR_10LE",   b"G3\x00\x0a", Rgb,       10, false),
    format("gbrp12le",     "GBR_12LE",   b"G3\x00\x0c", Rgb,       12, false),
    format("gbrap10le",    "GBRA_10LE",  b"G4\x00\x0a", Rgb,       10, true),
    format("gbrap12le",    "GBRA_12LE",  b"G4\x00\x0c", Rgb,       12, true),
    format("rgba64le",     "RGBA64_LE",  b"RBA\x40",    Rgb,       16, true),
    // Packed or interleaved ones, and another order of planes: taken only where the clip has them.
    format("nv12",         "NV12",       b"NV12",       Yuv(1, 1), 8,  false),
    format("yuyv422",      "YUY2",       b"YUY2",       Yuv(1, 0), 8,  false),
    format("uyvy422",      "UYVY",       b"UYVY",       Yuv(1, 0), 8,  false),
    format("gbrp",         "GBR",        b"G3\x00\x08", Rgb,       8,  false),
    format("gbrap",        "GBRA",       b"G4\x00\x08", Rgb,       8,  true),
    format("bgr24",        "BGR",        b"BGR\x18",    Rgb,       8,  false),
    format("bgra",         "BGRA",       b"BGRA",       Rgb,       8,  true),
    format("argb",         "ARGB",       b"ARGB",       Rgb,       8,  true),
    format("abgr",         "ABGR",       b"ABGR",       Rgb,       8,  true),
];

impl PixelFormat {
    /// The format of GStreamer.
    pub fn video_format(&self) -> VideoFormat {
        VideoFormat::from_string(self.gst)
    }

    /// Which a clip with pixels of `name` is decoded to: the same where the enhancer takes it, else what keeps everything
    /// (samples of at least its depth, chroma of at least its resolution, alpha).
    pub fn for_clip(name: &str, taken: &[VideoFormat]) -> Option<Self> {
        // yuvj420p is yuv420p of full range.
        let plain = name.replacen("yuvj", "yuv", 1);
        let formats = || {
            FORMATS
                .iter()
                .filter(|format| taken.contains(&format.video_format()))
        };
        if let Some(same) = formats().find(|format| format.name == plain) {
            return Some(*same);
        }
        let (kind, depth, alpha) = meaning(&plain);
        let loss = |format: &Self| {
            let chroma = match (kind, format.kind) {
                (Yuv(x, y), Yuv(to_x, to_y)) => {
                    let lost = to_x.saturating_sub(x) + to_y.saturating_sub(y);
                    let spent = x.saturating_sub(to_x) + y.saturating_sub(to_y);
                    Some(1000 * u32::from(lost) + u32::from(spent))
                }
                (Gray, Gray) | (Rgb, Rgb) => Some(0),
                // Keeping alpha is worth a change of colours' arithmetic.
                (Yuv(..) | Gray, Rgb) => Some(20_000),
                _ => None,
            }?;
            let bits = match (depth, format.depth) {
                (from, to) if to >= from => 4 * u32::from(to - from),
                (from, to) => 10_000 * u32::from(from - to),
            };
            let transparency = match (alpha, format.alpha) {
                (true, false) => 200_000,
                (false, true) => 100,
                _ => 0,
            };
            Some(chroma + bits + transparency)
        };
        formats()
            .filter_map(|format| Some((loss(format)?, format)))
            .min_by_key(|(loss, _)| *loss)
            .map(|(_, format)| *format)
    }

    /// Formats that `flashupscale` takes.
    pub fn taken_by_enhancer() -> Vec<VideoFormat> {
        let template = gst::ElementFactory::find("flashupscale").and_then(|factory| {
            let templates = factory.static_pad_templates();
            templates
                .into_iter()
                .find(|t| t.direction() == gst::PadDirection::Sink)
        });
        let caps = template.map(|template| template.caps());
        let formats = caps
            .as_ref()
            .and_then(|caps| caps.structure(0)?.get::<gst::List>("format").ok());
        let names = formats.iter().flat_map(|list| list.iter());
        names
            .filter_map(|name| name.get::<&str>().ok())
            .map(VideoFormat::from_string)
            .collect()
    }
}

/// Bits of a sample in one of ffmpeg's formats, by its name.
pub fn depth_of(name: &str) -> u8 {
    meaning(&name.replacen("yuvj", "yuv", 1)).1
}

/// What the name of one of ffmpeg's formats says: kind, bits, alpha.
fn meaning(name: &str) -> (Kind, u8, bool) {
    let base = name.trim_end_matches("le").trim_end_matches("be");
    let digits = base.trim_start_matches(|c: char| !c.is_ascii_digit());
    // yuv422p10: the bits stand after the p. p010, gray12, gbrp14: after the letters.
    let depth = match base.rsplit_once('p') {
        Some((_, bits)) if !bits.is_empty() => bits.parse().ok(),
        Some(_) => Some(8),
        None => digits.parse().ok(),
    };
    let deep = |depth: Option<u8>| depth.filter(|bits| (8..=16).contains(bits)).unwrap_or(8);
    let chroma = |name: &str| {
        [
            ("444", (0, 0)),
            ("440", (0, 1)),
            ("422", (1, 0)),
            ("420", (1, 1)),
            ("411", (2, 0)),
            ("410", (2, 2)),
        ]
        .into_iter()
        .find(|(digits, _)| name.contains(digits))
        .map(|(_, (x, y))| Yuv(x, y))
    };
    match base {
        "pal8" => (Rgb, 8, true),
        "monow" | "monob" => (Gray, 8, false),
        "ya8" => (Gray, 8, true),
        "ya16" => (Gray, 16, true),
        "nv12" | "nv21" => (Yuv(1, 1), 8, false),
        "nv16" => (Yuv(1, 0), 8, false),
        "nv24" | "nv42" => (Yuv(0, 0), 8, false),
        "nv20" | "y210" => (Yuv(1, 0), 10, false),
        "y212" => (Yuv(1, 0), 12, false),
        "p010" => (Yuv(1, 1), 10, false),
        "p012" => (Yuv(1, 1), 12, false),
        "p016" => (Yuv(1, 1), 16, false),
        "p210" | "p216" => (
            Yuv(1, 0),
            deep(digits.get(1..).and_then(|d| d.parse().ok())),
            false,
        ),
        "p410" | "p416" | "xv30" | "xv36" => (Yuv(0, 0), 12, false),
        "vuya" | "ayuv" => (Yuv(0, 0), 8, true),
        "ayuv64" => (Yuv(0, 0), 16, true),
        _ if base.starts_with("yuva") => (chroma(base).unwrap_or(Yuv(0, 0)), deep(depth), true),
        _ if base.starts_with("yu") || base.starts_with("uy") || base.starts_with("yv") => {
            (chroma(base).unwrap_or(Yuv(0, 0)), deep(depth), false)
        }
        _ if base.starts_with("gray") => (Gray, deep(digits.parse().ok()), false),
        _ if base.starts_with("gbrap") => (Rgb, deep(depth), true),
        _ if base.starts_with("gbrp") => (Rgb, deep(depth), false),
        "rgb48" | "bgr48" | "xyz12" => (Rgb, 12, false),
        "rgba64" | "bgra64" => (Rgb, 16, true),
        "x2rgb10" | "x2bgr10" => (Rgb, 10, false),
        "rgba" | "bgra" | "argb" | "abgr" => (Rgb, 8, true),
        _ => (Rgb, 8, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str, taken: &[&str]) -> Option<&'static str> {
        gst::init().unwrap();
        let taken: Vec<_> = taken
            .iter()
            .map(|name| VideoFormat::from_string(name))
            .collect();
        PixelFormat::for_clip(name, &taken).map(|format| format.name)
    }

    #[test]
    fn names_tell_what_pixels_have() {
        assert_eq!(meaning("yuv422p10le"), (Yuv(1, 0), 10, false));
        assert_eq!(meaning("yuva444p16be"), (Yuv(0, 0), 16, true));
        assert_eq!(meaning("yuv440p"), (Yuv(0, 1), 8, false));
        assert_eq!(meaning("gray12le"), (Gray, 12, false));
        assert_eq!(meaning("gbrp14be"), (Rgb, 14, false));
        assert_eq!(meaning("p010le"), (Yuv(1, 1), 10, false));
        assert_eq!(meaning("pal8"), (Rgb, 8, true));
        assert_eq!(meaning("rgb555le"), (Rgb, 8, false));
    }

    #[test]
    fn what_the_enhancer_lacks_becomes_what_keeps_everything() {
        let few = ["I420", "Y42B", "Y444", "I420_10LE", "RGB", "RGBA", "GRAY8"];
        assert_eq!(chosen("yuvj420p", &few), Some("yuv420p"));
        assert_eq!(chosen("yuv440p", &few), Some("yuv444p"));
        assert_eq!(chosen("yuv410p", &few), Some("yuv420p"));
        assert_eq!(chosen("yuv411p", &few), Some("yuv422p"));
        assert_eq!(chosen("yuv420p9le", &few), Some("yuv420p10le"));
        assert_eq!(chosen("yuva420p", &few), Some("rgba"));
        assert_eq!(chosen("pal8", &few), Some("rgba"));
        assert_eq!(chosen("gbrp", &few), Some("rgb24"));
        let more = [
            "I420",
            "I420_10LE",
            "I422_10LE",
            "Y444_12LE",
            "A420",
            "GBR_10LE",
            "GRAY16_LE",
            "RGBA64_LE",
        ];
        assert_eq!(chosen("yuv422p10be", &more), Some("yuv422p10le"));
        assert_eq!(chosen("yuv444p14le", &more), Some("yuv444p12le"));
        assert_eq!(chosen("yuva420p", &more), Some("yuva420p"));
        assert_eq!(chosen("gray10le", &more), Some("gray16le"));
        assert_eq!(chosen("gbrp14le", &more), Some("rgba64le"));
        assert_eq!(chosen("yuv420p", &[]), None);
    }

    #[test]
    fn every_format_has_a_name_that_gstreamer_knows() {
        gst::init().unwrap();
        for format in FORMATS {
            let known = format.video_format() != VideoFormat::Unknown;
            assert!(known, "{}", format.gst);
            let (kind, depth, alpha) = meaning(format.name);
            assert_eq!(
                (kind, depth, alpha),
                (format.kind, format.depth, format.alpha),
                "{}",
                format.name
            );
        }
    }
}
