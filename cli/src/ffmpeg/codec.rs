// SPDX-License-Identifier: MPL-2.0
//! What video is encoded with, and which pixels the encoder gets.

use std::collections::HashSet;
use std::ffi::OsString;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::colour::Mastering;
use super::container::Container;
use super::pixel::Kind;
use super::program::{ffmpeg, output, succeed, with};
use super::raw::RawVideo;
use crate::usage::Usage;

/// The quality of H.264 at which the encoder is hard to see.
pub const CRF: u32 = 18;

/// A codec of video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Codec {
    /// Plays everywhere
    H264,
    /// Half the size of H.264; high dynamic range
    Hevc,
    /// Smaller still; slow
    Av1,
    /// For WebM
    Vp9,
    /// For editing: 4:2:2 with 10 bits, 4:4:4 with alpha
    Prores,
    /// Without any loss, all pixel formats
    Ffv1,
    /// Without any loss, RGB
    Png,
    /// Pictures
    #[value(skip)]
    Jpeg,
    /// Uncompressed
    #[value(skip)]
    Raw,
}

/// Resolution of chroma that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Chroma {
    /// 4:2:0, which every player shows; what the codec has for prores, ffv1 and png
    #[default]
    Auto,
    /// Half across and down
    #[value(name = "420")]
    C420,
    /// Half across
    #[value(name = "422")]
    C422,
    /// Full
    #[value(name = "444")]
    C444,
}

/// Who encodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The processor: the best picture for its size
    #[default]
    Software,
    /// A graphics card's encoder if one is found, else the processor
    Hardware,
}

/// How video is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// With what.
    pub codec: Codec,
    /// Name of ffmpeg's encoder.
    pub encoder: String,
    /// ffmpeg's name of the pixels that it gets.
    pub pixels: String,
    /// Whether these have alpha.
    pub alpha: bool,
    /// What people should know about it.
    pub notes: Vec<String>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// With what; the container's own where nothing is said.
    pub codec: Option<Codec>,
    /// Resolution of chroma.
    pub chroma: Chroma,
    /// Who encodes.
    pub engine: Engine,
}

impl Codec {
    /// As people write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::Hevc => "hevc",
            Self::Av1 => "av1",
            Self::Vp9 => "vp9",
            Self::Prores => "prores",
            Self::Ffv1 => "ffv1",
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Raw => "uncompressed",
        }
    }

    /// Encoders of the processor, best first.
    fn software(self) -> &'static [&'static str] {
        match self {
            Self::H264 => &["libx264"],
            Self::Hevc => &["libx265"],
            Self::Av1 => &["libsvtav1", "libaom-av1"],
            Self::Vp9 => &["libvpx-vp9"],
            Self::Prores => &["prores_ks"],
            Self::Ffv1 => &["ffv1"],
            Self::Png => &["png"],
            Self::Jpeg => &["mjpeg"],
            // What the muxer of y4m takes, which is not a copy of the frame.
            Self::Raw => &["wrapped_avframe"],
        }
    }

    /// Encoders of graphics cards that may be found.
    pub fn hardware(self) -> &'static [&'static str] {
        match self {
            Self::H264 => &["h264_nvenc", "h264_videotoolbox", "h264_qsv", "h264_amf"],
            Self::Hevc => &["hevc_nvenc", "hevc_videotoolbox", "hevc_qsv", "hevc_amf"],
            Self::Av1 => &["av1_nvenc", "av1_qsv", "av1_amf"],
            _ => &[],
        }
    }

    /// Largest number of bits of a sample.
    fn depth(self) -> u8 {
        match self {
            Self::H264 | Self::Av1 | Self::Prores => 10,
            Self::Hevc | Self::Vp9 => 12,
            Self::Jpeg => 8,
            Self::Raw => 12,
            Self::Ffv1 | Self::Png => 16,
        }
    }
}

/// Names of the encoders that ffmpeg has.
fn encoders() -> &'static HashSet<String> {
    static NAMES: OnceLock<HashSet<String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let list = succeed(&mut with(ffmpeg(), ["-encoders"])).unwrap_or_default();
        let list = String::from_utf8_lossy(&list).into_owned();
        list.lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .map(str::to_owned)
            .collect()
    })
}

/// Whether an encoder of a graphics card is there and does what it should.
pub fn hardware_works(name: &str) -> bool {
    if !encoders().contains(name) {
        return false;
    }
    let words = [
        "-f",
        "lavfi",
        "-i",
        "nullsrc=s=640x360:d=0.2:r=25",
        "-frames:v",
        "2",
        "-pix_fmt",
        "yuv420p",
        "-c:v",
        name,
        "-f",
        "null",
        "-",
    ];
    output(&mut with(ffmpeg(), words)).is_ok_and(|done| done.status.success())
}

impl Plan {
    /// How frames of `video` are encoded in `container`. `alpha` is whether theirs is to be kept, `factor` how many
    /// times as wide they are as the clip was.
    ///
    /// # Errors
    /// If the container does not take the codec, or ffmpeg has no encoder for it.
    pub fn new(
        container: Container,
        wish: Wish,
        video: &RawVideo,
        alpha: bool,
        factor: f64,
    ) -> Result<Self> {
        let codec = choose(container, wish.codec, video, alpha)?;
        let mut notes = Vec::new();
        let encoder = encoder(codec, wish.engine, &mut notes)?;
        let (pixels, alpha_kept) = pixels(codec, container, wish.chroma, video, alpha, &mut notes);
        if alpha && !alpha_kept {
            notes.push(format!(
                "transparency is left out: {} in this file has none (vp9 in .webm or .mkv, prores in .mov, ffv1 in .mkv and .png have)",
                codec.label()
            ));
        }
        let full_colour = matches!(video.format.kind, Kind::Yuv(0, _) | Kind::Rgb);
        if full_colour && factor < 2.0 && wish.chroma == Chroma::Auto && pixels.contains("420") {
            notes.push("colour is written at half the resolution (4:2:0), which every player shows; --chroma 444 keeps it".to_owned());
        }
        if container.is_pictures() && video.colour.is_hdr() {
            notes.push(
                "pictures do not tell that they are of high dynamic range: they will look pale"
                    .to_owned(),
            );
        }
        Ok(Self {
            codec,
            encoder,
            pixels,
            alpha: alpha_kept,
            notes,
        })
    }

    /// Whether width and height must be even.
    pub fn needs_even(&self) -> (bool, bool) {
        let across = self.pixels.contains("420") || self.pixels.contains("422");
        (
            across && self.codec != Codec::Ffv1 && self.codec != Codec::Raw,
            self.pixels.contains("420") && self.codec != Codec::Ffv1 && self.codec != Codec::Raw,
        )
    }

    /// Whether the encoder gets red, green and blue.
    pub fn is_rgb(&self) -> bool {
        self.pixels.starts_with("rgb")
            || self.pixels.starts_with("gbr")
            || self.pixels.starts_with("bgr")
    }

    /// Words of the encoder; `crf` is a quality on H.264's scale of 0 (lossless) to 51.
    pub fn arguments(
        &self,
        container: Container,
        crf: u32,
        mastering: &Mastering,
    ) -> Vec<OsString> {
        let crf_text = crf.to_string();
        // The scales of VP9 and AV1 end at 63.
        let wide = (crf * 63 / 51).to_string();
        let mut words: Vec<String> = vec!["-c:v".into(), self.encoder.clone()];
        let mut add = |list: &[&str]| words.extend(list.iter().map(|&word| word.to_owned()));
        match self.encoder.as_str() {
            // 20 frames of look-ahead instead of 40: at 3840x2160 that saves a quarter of a gigabyte.
            "libx264" => add(&["-preset", "faster", "-crf", &crf_text]),
            "libx265" => add(&[
                "-preset",
                "fast",
                "-crf",
                &crf_text,
                "-x265-params",
                &format!("log-level=error{}", mastering.x265()),
            ]),
            "libsvtav1" => add(&[
                "-preset",
                "8",
                "-crf",
                &wide,
                "-svtav1-params",
                &format!("tune=0{}", mastering.svt_av1()),
            ]),
            "libaom-av1" => add(&["-cpu-used", "6", "-crf", &wide, "-b:v", "0", "-row-mt", "1"]),
            "libvpx-vp9" => add(&[
                "-crf",
                &wide,
                "-b:v",
                "0",
                "-row-mt",
                "1",
                "-deadline",
                "good",
                "-cpu-used",
                "4",
            ]),
            "prores_ks" if self.pixels.contains("444") => {
                add(&["-profile:v", "4444", "-vendor", "apl0"]);
            }
            "prores_ks" => add(&["-profile:v", "hq", "-vendor", "apl0"]),
            "ffv1" => add(&["-level", "3", "-g", "1", "-slicecrc", "1"]),
            "mjpeg" => add(&["-q:v", "2"]),
            name if name.ends_with("_nvenc") => {
                add(&["-rc", "vbr", "-cq", &crf_text, "-b:v", "0", "-preset", "p5"]);
            }
            name if name.ends_with("_qsv") => add(&["-global_quality", &crf_text]),
            name if name.ends_with("_videotoolbox") => {
                add(&["-q:v", &(100 - crf * 100 / 51).to_string()]);
            }
            name if name.ends_with("_amf") => {
                add(&["-rc", "cqp", "-qp_i", &crf_text, "-qp_p", &crf_text]);
            }
            _ => {}
        }
        // Apple's players know HEVC by this name alone.
        if self.codec == Codec::Hevc && matches!(container, Container::Mp4 | Container::QuickTime) {
            add(&["-tag:v", "hvc1"]);
        }
        words.into_iter().map(OsString::from).collect()
    }
}

/// Codecs that a file may hold, the one that is taken by itself first.
fn codecs(container: Container) -> &'static [Codec] {
    match container {
        Container::Mp4 => &[Codec::H264, Codec::Hevc, Codec::Av1, Codec::Vp9],
        Container::QuickTime => &[Codec::H264, Codec::Hevc, Codec::Prores, Codec::Png],
        Container::Matroska => &[
            Codec::H264,
            Codec::Hevc,
            Codec::Av1,
            Codec::Vp9,
            Codec::Prores,
            Codec::Ffv1,
            Codec::Png,
        ],
        Container::WebM => &[Codec::Vp9, Codec::Av1],
        Container::Y4m => &[Codec::Raw],
        Container::Png => &[Codec::Png],
        Container::Jpeg => &[Codec::Jpeg],
    }
}

fn choose(
    container: Container,
    asked: Option<Codec>,
    video: &RawVideo,
    alpha: bool,
) -> Result<Codec> {
    let possible = codecs(container);
    if let Some(codec) = asked {
        if possible.contains(&codec) {
            return Ok(codec);
        }
        let names: Vec<_> = possible.iter().map(|codec| codec.label()).collect();
        let place = match codec {
            Codec::Prores => " (.mov and .mkv take prores)",
            Codec::Ffv1 => " (.mkv takes ffv1)",
            _ => "",
        };
        return Err(Usage(format!(
            "a {} file does not take {}: it takes {}{place}",
            container.muxer(),
            codec.label(),
            names.join(", ")
        ))
        .into());
    }
    let with_alpha = match container {
        Container::Matroska if video.format.depth == 8 => Some(Codec::Vp9),
        Container::Matroska => Some(Codec::Ffv1),
        Container::QuickTime => Some(Codec::Prores),
        _ => None,
    };
    let deep = video.colour.is_hdr() || video.bits > 10;
    Ok(match with_alpha.filter(|_| alpha) {
        Some(codec) => codec,
        // H.264 has no more than ten bits, and players do not expect high dynamic range in it.
        None if deep && possible.contains(&Codec::Hevc) => Codec::Hevc,
        None => *possible.first().context("a container without codecs")?,
    })
}

fn encoder(codec: Codec, engine: Engine, notes: &mut Vec<String>) -> Result<String> {
    if engine == Engine::Hardware {
        match codec.hardware().iter().find(|name| hardware_works(name)) {
            Some(name) => return Ok((*name).to_owned()),
            None => notes.push(format!(
                "no graphics card that encodes {} was found: the processor does",
                codec.label()
            )),
        }
    }
    let known = codec
        .software()
        .iter()
        .find(|name| encoders().contains(**name));
    known.map(|name| (*name).to_owned()).with_context(|| {
        format!(
            "the installed ffmpeg has no encoder for {} ({})",
            codec.label(),
            codec.software().join(" or ")
        )
    })
}

/// ffmpeg's name of the pixels that the encoder gets, and whether they have alpha.
fn pixels(
    codec: Codec,
    container: Container,
    chroma: Chroma,
    video: &RawVideo,
    alpha: bool,
    notes: &mut Vec<String>,
) -> (String, bool) {
    let format = &video.format;
    let depth = match video.bits {
        ..=8 => 8,
        9 | 10 => 10,
        11 | 12 => 12,
        _ => 16,
    };
    let kept = depth.min(codec.depth());
    if depth > kept {
        notes.push(format!(
            "{depth} bits become {kept}: {} has no more",
            codec.label()
        ));
    }
    let bits = |depth: u8| {
        if depth == 8 {
            String::new()
        } else {
            format!("{depth}le")
        }
    };
    let own = match format.kind {
        Kind::Yuv(0, _) | Kind::Rgb => "444",
        Kind::Yuv(1, 0) => "422",
        _ => "420",
    };
    let wanted = match chroma {
        Chroma::Auto => "420",
        Chroma::C420 => "420",
        Chroma::C422 => "422",
        Chroma::C444 => "444",
    };
    match codec {
        Codec::H264 | Codec::Hevc | Codec::Av1 => {
            let wanted = match codec {
                Codec::Av1 if wanted != "420" => {
                    notes.push(
                        "av1 is written with colour at half the resolution (4:2:0)".to_owned(),
                    );
                    "420"
                }
                _ => wanted,
            };
            (format!("yuv{wanted}p{}", bits(kept)), false)
        }
        // With alpha VP9 has one format.
        Codec::Vp9 if alpha => ("yuva420p".to_owned(), true),
        // Beyond 8 bits it is another profile, which WebM's players lack, but for pictures that need it.
        Codec::Vp9 => {
            let kept = if container == Container::WebM && !video.colour.is_hdr() {
                8
            } else {
                kept.min(10)
            };
            (format!("yuv{wanted}p{}", bits(kept)), false)
        }
        Codec::Prores if alpha => ("yuva444p10le".to_owned(), true),
        Codec::Prores if chroma == Chroma::C444 || own == "444" => {
            ("yuv444p10le".to_owned(), false)
        }
        Codec::Prores => ("yuv422p10le".to_owned(), false),
        Codec::Ffv1 if format.alpha && !alpha => (format!("gbrp{}", bits(kept.min(12))), false),
        Codec::Ffv1 => (lossless(video).to_owned(), alpha),
        Codec::Png => {
            let name = match (format.kind, alpha, format.depth > 8) {
                (Kind::Gray, _, false) => "gray",
                (Kind::Gray, _, true) => "gray16be",
                (_, true, false) => "rgba",
                (_, true, true) => "rgba64be",
                (_, false, false) => "rgb24",
                (_, false, true) => "rgb48be",
            };
            (name.to_owned(), alpha)
        }
        Codec::Jpeg => (
            format!(
                "yuvj{}p",
                if chroma == Chroma::Auto {
                    "444"
                } else {
                    wanted
                }
            ),
            false,
        ),
        Codec::Raw => match format.kind {
            Kind::Gray => ("gray".to_owned() + &bits(kept), false),
            _ => (
                format!(
                    "yuv{}p{}",
                    if chroma == Chroma::Auto { own } else { wanted },
                    bits(kept.min(12))
                ),
                false,
            ),
        },
    }
}

/// FFV1 takes what there is, but for the order of bytes in packed RGB.
fn lossless(video: &RawVideo) -> &str {
    match video.format.name {
        "rgb24" | "bgr24" => "gbrp",
        "rgba" | "argb" | "abgr" | "bgra" => "gbrap",
        "rgba64le" => "gbrap16le",
        "yuyv422" | "uyvy422" => "yuv422p",
        "nv12" => "yuv420p",
        name => name,
    }
}

#[cfg(test)]
mod tests;
