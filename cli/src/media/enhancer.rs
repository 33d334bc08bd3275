// SPDX-License-Identifier: MPL-2.0
//! The options of `flashupscale` as command-line arguments, and the size of its pictures.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use gst::prelude::*;

use crate::ffmpeg::raw::RawVideo;

/// The factor where nothing is said, as far as that stays within [`LARGEST_BY_ITSELF`].
const FACTOR: f64 = 4.0;
/// 4K: larger pictures are made when they are asked for.
const LARGEST_BY_ITSELF: (u32, u32) = (3840, 2160);

/// Width and height in pixels, written `3840x2160`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl FromStr for PictureSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is no size: expected WIDTHxHEIGHT with both in 1..=16384, as in 3840x2160"
            )
        };
        let (width, height) = text.split_once('x').ok_or_else(wrong)?;
        let parse = |s: &str| s.parse().ok().filter(|n| (1..=16384).contains(n));
        match (parse(width), parse(height)) {
            (Some(width), Some(height)) => Ok(Self { width, height }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for PictureSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// The trade of speed for quality, as the element's `preset` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Keep up with a live source.
    Live,
    /// In between.
    Balanced,
    /// As good as the model can.
    Quality,
}

/// A common size of screens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Screen {
    /// 1280x720
    #[value(name = "720p")]
    P720,
    /// 1920x1080
    #[value(name = "1080p")]
    P1080,
    /// 2560x1440
    #[value(name = "1440p")]
    P1440,
    /// 3840x2160
    #[value(name = "4k", alias = "2160p")]
    K4,
    /// 7680x4320
    #[value(name = "8k", alias = "4320p")]
    K8,
}

impl Screen {
    fn size(self) -> (u32, u32) {
        match self {
            Self::P720 => (1280, 720),
            Self::P1080 => (1920, 1080),
            Self::P1440 => (2560, 1440),
            Self::K4 => (3840, 2160),
            Self::K8 => (7680, 4320),
        }
    }
}

/// The number type of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NumberType {
    /// The fastest that is good enough on this machine
    Auto,
    /// 32 bits
    F32,
    /// 16 bits, fine
    F16,
    /// 16 bits, of large range
    Bf16,
    /// 8 bits, for the built-in models
    Int8,
}

/// How large the result is.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Enlarge {
    /// Enlarge by this factor, more than 1 and at most 16 [default: 4, or what makes 4K if that is less]
    #[arg(long, value_name = "FACTOR", conflicts_with_all = ["size", "to"], value_parser = parse_scale)]
    pub scale: Option<f64>,

    /// Enlarge to this size in pixels, as in 1920x1080; the picture keeps its shape
    #[arg(long, value_name = "WIDTHxHEIGHT", conflicts_with = "to")]
    pub size: Option<PictureSize>,

    /// Enlarge to fit such a screen
    #[arg(long, value_enum, value_name = "SCREEN")]
    pub to: Option<Screen>,
}

/// What is asked of `flashupscale`. What is left out stays at the element's default.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    #[command(flatten)]
    pub enlarge: Enlarge,

    /// Model: builtin, builtin:live, or the path of a model file or folder [default: builtin, or the preset's]
    #[arg(long)]
    pub model: Option<String>,

    /// Trade of speed for quality [default: quality]
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,

    /// Evaluations of the network for each frame, 1 to 8 [default: the model's own]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=8))]
    pub steps: Option<u32>,

    /// Noise at the start of the flow, 0 to 1: 0 is faithful, 1 invents most detail [default: the model's own]
    #[arg(long, value_parser = parse_noise)]
    pub noise: Option<f64>,

    /// Seed of that noise [default: 0]
    #[arg(long)]
    pub seed: Option<u64>,

    /// What the clip shows, for models that read text
    #[arg(long)]
    pub prompt: Option<String>,

    /// How closely models that read text follow the prompt [default: the model's own]
    #[arg(long)]
    pub guidance_scale: Option<f64>,

    /// Device: cpu, cuda:0, metal; `flashvideo devices` lists them [default: cpu]
    #[arg(long)]
    pub device: Option<String>,

    /// Number type of the network [default: auto]
    #[arg(long, value_enum)]
    pub dtype: Option<NumberType>,

    /// Threads of the network, 0 for all cores [default: 0]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1024))]
    pub threads: Option<u32>,
}

fn parse_scale(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(factor) if factor > 1.0 && factor <= 16.0 => Ok(factor),
        _ => Err("expected a factor of more than 1 and at most 16".into()),
    }
}

fn parse_noise(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(strength) if (0.0..=1.0).contains(&strength) => Ok(strength),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

fn name_of(value: Option<impl ValueEnum>) -> Option<String> {
    Some(value?.to_possible_value()?.get_name().to_owned())
}

impl Options {
    /// `flashupscale` with these options; its size is for the caps that follow it.
    ///
    /// # Errors
    ///
    /// If the element has no such property, or does not take the value.
    pub fn element(&self) -> Result<gst::Element> {
        let element = super::elements::make("flashupscale")?;
        let values = [
            ("model", self.model.clone()),
            ("preset", name_of(self.preset)),
            ("steps", self.steps.map(|v| v.to_string())),
            ("noise", self.noise.map(|v| v.to_string())),
            ("seed", self.seed.map(|v| v.to_string())),
            ("prompt", self.prompt.clone()),
            ("guidance-scale", self.guidance_scale.map(|v| v.to_string())),
            ("device", self.device.clone()),
            ("dtype", name_of(self.dtype)),
            ("threads", self.threads.map(|v| v.to_string())),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                set(&element, name, &value)?;
            }
        }
        Ok(element)
    }
}

impl Enlarge {
    /// Width and height that pictures of `video` get; `even` is which of the two an encoder needs even.
    ///
    /// # Errors
    ///
    /// If that is smaller than the pictures are.
    pub fn size_of(&self, video: &RawVideo, even: (bool, bool)) -> Result<(u32, u32)> {
        self.size_for((video.width, video.height), video.pixel_aspect, even)
    }

    /// The same for pictures of `small` pixels of this shape.
    ///
    /// # Errors
    ///
    /// As [`size_of`](Self::size_of).
    pub fn size_for(
        &self,
        small: (u32, u32),
        pixel_aspect: (u32, u32),
        even: (bool, bool),
    ) -> Result<(u32, u32)> {
        let (width, height) = (f64::from(small.0), f64::from(small.1));
        let wide = width * f64::from(pixel_aspect.0) / f64::from(pixel_aspect.1);
        // The box that a screen is for this picture: upright for upright ones.
        let fit = |(a, b): (u32, u32)| {
            let (a, b) = if wide >= height { (a, b) } else { (b, a) };
            (f64::from(a) / wide).min(f64::from(b) / height)
        };
        let whole = |side: f64, even: bool| {
            let step = if even { 2.0 } else { 1.0 };
            ((side / step).round() * step).max(step) as u32
        };
        let scaled = |factor: f64| {
            (
                whole(width * factor, even.0),
                whole(height * factor, even.1),
            )
        };
        let size = match (self.size, self.to, self.scale) {
            (Some(size), ..) => {
                for (side, even) in [(size.width, even.0), (size.height, even.1)] {
                    if even && side % 2 == 1 {
                        bail!(
                            "--size {size}: this codec and chroma need even sides, {side} is odd"
                        );
                    }
                }
                (size.width, size.height)
            }
            (None, Some(screen), _) => {
                let factor = fit(screen.size());
                if factor <= 1.0 {
                    bail!(
                        "its pictures of {}x{} fill such a screen already; --scale enlarges them all the same",
                        small.0,
                        small.1
                    );
                }
                // Screens have square pixels.
                (whole(wide * factor, even.0), whole(height * factor, even.1))
            }
            (None, None, Some(factor)) => scaled(factor),
            (None, None, None) => {
                let factor = fit(LARGEST_BY_ITSELF).min(FACTOR);
                if factor <= 1.05 {
                    bail!(
                        "its pictures of {}x{} are as large as 4K already; --scale enlarges them all the same",
                        small.0,
                        small.1
                    );
                }
                scaled(factor)
            }
        };
        if size.0 < small.0 || size.1 < small.1 {
            bail!(
                "{}x{} is smaller than its pictures of {}x{}: they can only be enlarged",
                size.0,
                size.1,
                small.0,
                small.1
            );
        }
        Ok(size)
    }
}

/// Sets a property from text, checked first: GObject's own call ends the process on a value that is out of range.
pub fn set(element: &gst::Element, name: &str, text: &str) -> Result<()> {
    let property = element
        .find_property(name)
        .with_context(|| format!("{} has no property '{name}'", element.name()))?;
    let value = gst::glib::Value::deserialize_with_pspec(text, &property).map_err(|_| {
        anyhow::anyhow!(
            "--{name}: '{text}' is not possible, see gst-inspect-1.0 {}",
            element.name()
        )
    })?;
    if !in_range(&property, &value) {
        bail!(
            "--{name}: '{text}' is out of range, see gst-inspect-1.0 {}",
            element.name()
        );
    }
    element.set_property_from_value(name, &value);
    Ok(())
}

/// Whether a number is within the bounds of its property; what is no number has none.
fn in_range(property: &gst::glib::ParamSpec, value: &gst::glib::Value) -> bool {
    macro_rules! check {
        ($($spec:ident: $number:ty),*) => {$(
            if let Some(spec) = property.downcast_ref::<gst::glib::$spec>() {
                return value.get::<$number>().is_ok_and(|n| (spec.minimum()..=spec.maximum()).contains(&n));
            }
        )*};
    }
    check!(ParamSpecInt: i32, ParamSpecUInt: u32, ParamSpecInt64: i64, ParamSpecUInt64: u64);
    check!(ParamSpecFloat: f32, ParamSpecDouble: f64);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_wrong_ones_refused() {
        assert_eq!(
            "3840x2160".parse(),
            Ok(PictureSize {
                width: 3840,
                height: 2160
            })
        );
        for wrong in [
            "",
            "3840",
            "3840x",
            "x2160",
            "0x10",
            "-4x4",
            "16385x16",
            "4x4x4",
            "99999999999x1",
        ] {
            assert!(wrong.parse::<PictureSize>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_the_option() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("videotestsrc").build().unwrap();
        set(&element, "num-buffers", "18").unwrap();
        assert_eq!(element.property::<i32>("num-buffers"), 18);
        assert!(
            set(&element, "num-buffers", "-900")
                .unwrap_err()
                .to_string()
                .contains("out of range")
        );
        assert!(
            set(&element, "num-buffers", "low")
                .unwrap_err()
                .to_string()
                .contains("--num-buffers")
        );
        assert!(
            set(&element, "no-such", "1")
                .unwrap_err()
                .to_string()
                .contains("no-such")
        );
    }

    #[test]
    fn sizes_follow_the_shape_of_the_picture() {
        use crate::ffmpeg::{colour::Colour, pixel::PixelFormat};
        gst::init().unwrap();
        let video = |width, height, pixel_aspect| RawVideo {
            format: PixelFormat::for_clip("yuv420p", &[gst_video::VideoFormat::I420]).unwrap(),
            width,
            height,
            pixel_aspect,
            colour: Colour::default(),
            time_base: (1, 25),
            rate: None,
            bits: 8,
        };
        let by = |scale| Enlarge {
            scale: Some(scale),
            ..Enlarge::default()
        };
        let to = |screen| Enlarge {
            to: Some(screen),
            ..Enlarge::default()
        };
        let even = (true, true);
        assert_eq!(
            by(1.5).size_of(&video(171, 95, (1, 1)), even).unwrap(),
            (256, 142)
        );
        assert_eq!(
            by(1.5)
                .size_of(&video(171, 95, (1, 1)), (false, false))
                .unwrap(),
            (257, 143)
        );
        assert_eq!(
            to(Screen::P1080)
                .size_of(&video(720, 576, (64, 45)), even)
                .unwrap(),
            (1920, 1080)
        );
        assert_eq!(
            to(Screen::K4)
                .size_of(&video(270, 480, (1, 1)), even)
                .unwrap(),
            (2160, 3840)
        );
        assert_eq!(
            to(Screen::P1080)
                .size_of(&video(640, 480, (1, 1)), even)
                .unwrap(),
            (1440, 1080)
        );
        assert!(
            to(Screen::P1080)
                .size_of(&video(1920, 1080, (1, 1)), even)
                .is_err()
        );
        let default = Enlarge::default();
        assert_eq!(
            default.size_of(&video(480, 270, (1, 1)), even).unwrap(),
            (1920, 1080)
        );
        assert_eq!(
            default.size_of(&video(1920, 1080, (1, 1)), even).unwrap(),
            (3840, 2160)
        );
        assert!(default.size_of(&video(3840, 2160, (1, 1)), even).is_err());
    }
}
