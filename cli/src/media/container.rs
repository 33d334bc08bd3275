// SPDX-License-Identifier: MPL-2.0
//! What each file format is written with.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;

use super::elements::make;

/// The quality of H.264 at which the encoder is hard to see.
pub const CRF: u32 = 18;
/// Bits per second that no picture needs.
const UNLIMITED: i32 = 200_000_000;

/// A file format the program writes, chosen by the name of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `.mp4`, `.m4v`: H.264, AAC.
    Mp4,
    /// `.mov`: H.264, AAC.
    QuickTime,
    /// `.mkv`: H.264, Opus.
    Matroska,
    /// `.webm`: VP9, Opus.
    WebM,
}

impl Container {
    /// By the file name's extension.
    ///
    /// # Errors
    ///
    /// If there is none or it is not one of those above.
    pub fn from_path(path: &Path) -> Result<Self> {
        let extension = path.extension().and_then(|e| e.to_str()).with_context(|| {
            format!(
                "'{}' has no extension: expected .mp4, .mov, .mkv or .webm",
                path.display()
            )
        })?;
        match extension.to_ascii_lowercase().as_str() {
            "mp4" | "m4v" => Ok(Self::Mp4),
            "mov" => Ok(Self::QuickTime),
            "mkv" => Ok(Self::Matroska),
            "webm" => Ok(Self::WebM),
            other => {
                bail!("cannot write '.{other}' files: name the output .mp4, .mov, .mkv or .webm")
            }
        }
    }

    /// The element that writes the format.
    ///
    /// # Errors
    ///
    /// If it is not installed.
    pub fn muxer(self) -> Result<gst::Element> {
        make(match self {
            Self::Mp4 => "mp4mux",
            Self::QuickTime => "qtmux",
            Self::Matroska => "matroskamux",
            Self::WebM => "webmmux",
        })
    }

    /// Video encoder and what follows it, to be linked in order; `crf` is the constant quality (lower is better).
    ///
    /// # Errors
    ///
    /// If one of the elements is not installed.
    pub fn video_encoder(self, crf: u32) -> Result<Vec<gst::Element>> {
        if self == Self::WebM {
            let encoder = make("vp9enc")?;
            encoder.set_property("deadline", 1i64);
            encoder.set_property("cpu-used", 4i32);
            encoder.set_property("row-mt", true);
            encoder.set_property_from_str("end-usage", "cq");
            // The rate caps the quality, and by default it is a fixed share of a bit for each pixel.
            encoder.set_property("target-bitrate", UNLIMITED);
            // What looks ahead is flushed only as far as one of its buffers holds: large frames at the end would be lost.
            encoder.set_property("lag-in-frames", 0i32);
            // VP9's scale ends at 63 where H.264's ends at 51.
            encoder.set_property("cq-level", (crf * 63 / 51) as i32);
            return Ok(vec![encoder]);
        }
        Ok(vec![h264_encoder(crf)?, make("h264parse")?])
    }

    /// The pixel formats the encoder gets: 4:2:0, which every player shows, with ten bits where the source has them.
    pub fn video_caps(self) -> gst::Caps {
        let formats: &[&str] = match self {
            // VP9 beyond 8 bits is profile 2, which many hardware decoders lack.
            Self::WebM => &["I420"],
            _ => &["I420", "I420_10LE"],
        };
        gst::Caps::builder("video/x-raw")
            .field("format", gst::List::new(formats))
            .build()
    }

    /// The audio encoder for sound that the format cannot carry as it is.
    ///
    /// # Errors
    ///
    /// If it is not installed.
    pub fn audio_encoder(self) -> Result<gst::Element> {
        let (factory, bits_per_second) = match self {
            Self::Mp4 | Self::QuickTime => ("avenc_aac", 192_000),
            Self::Matroska | Self::WebM => ("opusenc", 160_000),
        };
        let encoder = make(factory)?;
        encoder.set_property("bitrate", bits_per_second);
        Ok(encoder)
    }
}

/// H.264 of constant quality, whatever rate that takes.
///
/// # Errors
///
/// If the encoder is not installed.
pub fn h264_encoder(crf: u32) -> Result<gst::Element> {
    let encoder = make("x264enc")?;
    encoder.set_property_from_str("pass", "qual");
    encoder.set_property("quantizer", crf);
    // With a buffer, `bitrate` caps the quality: 2 Mbit/s by default, which turns a large picture into blocks.
    encoder.set_property("vbv-buf-capacity", 0u32);
    // 20 frames of look-ahead instead of 40: at 3840x2160 that saves a quarter of a gigabyte.
    encoder.set_property_from_str("speed-preset", "faster");
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that `container`'s encoder makes of a second of noise at 640x360, which comes out whole.
    fn encoded_size(container: Container, crf: u32) -> usize {
        crate::media::init().unwrap();
        let source = gst::parse::bin_from_description(
            "videotestsrc pattern=snow num-buffers=25 ! video/x-raw,format=I420,width=640,height=360,framerate=25/1 ! identity",
            true,
        )
        .unwrap();
        let sink = gst_app::AppSink::builder().sync(false).build();
        let mut chain = vec![source.upcast::<gst::Element>()];
        chain.extend(container.video_encoder(crf).unwrap());
        chain.push(sink.clone().upcast());
        let pipeline = gst::Pipeline::new();
        pipeline.add_many(&chain).unwrap();
        gst::Element::link_many(&chain).unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let sizes: Vec<_> = std::iter::from_fn(|| sink.pull_sample().ok())
            .map(|sample| sample.buffer().unwrap().size())
            .collect();
        pipeline.set_state(gst::State::Null).unwrap();
        assert_eq!(sizes.len(), 25, "{container:?}, crf {crf}");
        sizes.iter().sum()
    }

    #[test]
    fn no_rate_caps_the_quality() {
        for container in [Container::Mp4, Container::WebM] {
            let (fine, coarse) = (encoded_size(container, 4), encoded_size(container, 40));
            assert!(fine > 2 * coarse, "{container:?}: {fine} {coarse} bytes");
            // 8 Mbit/s; the caps that the encoders have by default are at 2 for H.264 and less for VP9.
            assert!(fine > 1_000_000, "{container:?}: {fine} bytes");
        }
    }

    #[test]
    fn the_extension_chooses_the_format() {
        let of = |name: &str| Container::from_path(Path::new(name));
        assert_eq!(of("a/b.MP4").unwrap(), Container::Mp4);
        assert_eq!(of("b.m4v").unwrap(), Container::Mp4);
        assert_eq!(of("b.mov").unwrap(), Container::QuickTime);
        assert_eq!(of("b.c.mkv").unwrap(), Container::Matroska);
        assert_eq!(of("b.webm").unwrap(), Container::WebM);
        assert!(of("b.avi").unwrap_err().to_string().contains(".avi"));
        assert!(of("mp4").unwrap_err().to_string().contains("no extension"));
    }

    #[test]
    fn every_format_finds_a_pad_for_its_own_encoders() {
        gst::init().unwrap();
        for container in [
            Container::Mp4,
            Container::QuickTime,
            Container::Matroska,
            Container::WebM,
        ] {
            let muxer = container.muxer().unwrap();
            let video = container.video_encoder(20).unwrap().pop().unwrap();
            for encoder in [video, container.audio_encoder().unwrap()] {
                let caps = encoder.static_pad("src").unwrap().pad_template_caps();
                assert!(
                    crate::media::elements::request_template(&muxer, &caps).is_some(),
                    "{container:?}: {} does not take {caps}",
                    muxer.name()
                );
            }
        }
    }
}
