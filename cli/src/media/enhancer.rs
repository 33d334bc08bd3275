// SPDX-License-Identifier: MPL-2.0
//! The options of `flashupscale` as command-line arguments.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use gst::prelude::*;

/// Width and height in pixels, written `3840x2160`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    /// Columns.
    pub width: i32,
    /// Rows.
    pub height: i32,
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

/// What is asked of `flashupscale`. What is left out stays at the element's default.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Enlarge by this factor (more than 1, at most 16)
    #[arg(long, value_name = "FACTOR", conflicts_with = "size", value_parser = parse_scale)]
    pub scale: Option<f64>,

    /// Enlarge to this size in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub size: Option<PictureSize>,

    /// Model: builtin, builtin:live, or the path of a model folder
    #[arg(long)]
    pub model: Option<String>,

    /// Trade of speed for quality
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,

    /// Evaluations of the network for each frame, 0 for the model's own default
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=8))]
    pub steps: Option<u32>,

    /// Noise at the start of the flow: 0 is faithful, 1 invents most detail
    #[arg(long, value_parser = parse_noise)]
    pub noise: Option<f64>,

    /// Seed of that noise
    #[arg(long)]
    pub seed: Option<u64>,

    /// What the clip shows, for models that read text
    #[arg(long)]
    pub prompt: Option<String>,

    /// How closely models that read text follow the prompt
    #[arg(long)]
    pub guidance_scale: Option<f64>,

    /// Device: cpu, cuda:0, metal
    #[arg(long)]
    pub device: Option<String>,

    /// Number type: auto, f32, bf16, int8
    #[arg(long)]
    pub dtype: Option<String>,

    /// Threads of the network, 0 for all cores
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

impl Options {
    /// `flashupscale` with these options; the size, if one was asked for, is for [`Options::output_caps`].
    ///
    /// # Errors
    ///
    /// If the element has no such property, or does not take the value.
    pub fn element(&self) -> Result<gst::Element> {
        let element = super::elements::make("flashupscale")?;
        let preset = self
            .preset
            .and_then(|p| p.to_possible_value())
            .map(|p| p.get_name().to_owned());
        let values = [
            ("scale", self.scale.map(|v| v.to_string())),
            ("model", self.model.clone()),
            ("preset", preset),
            ("steps", self.steps.map(|v| v.to_string())),
            ("noise", self.noise.map(|v| v.to_string())),
            ("seed", self.seed.map(|v| v.to_string())),
            ("prompt", self.prompt.clone()),
            ("guidance-scale", self.guidance_scale.map(|v| v.to_string())),
            ("device", self.device.clone()),
            ("dtype", self.dtype.clone()),
            ("threads", self.threads.map(|v| v.to_string())),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                set(&element, name, &value)?;
            }
        }
        Ok(element)
    }

    /// The caps that follow the element: the size asked for, or any.
    pub fn output_caps(&self) -> gst::Caps {
        let caps = gst::Caps::builder("video/x-raw");
        match self.size {
            Some(size) => caps
                .field("width", size.width)
                .field("height", size.height)
                .build(),
            None => caps.build(),
        }
    }
}

/// Sets a property from text, checked first: GObject's own call ends the process on a value that is out of range.
fn set(element: &gst::Element, name: &str, text: &str) -> Result<()> {
    let property = element
        .find_property(name)
        .with_context(|| format!("{} has no property '{name}'", element.name()))?;
    let value = gst::glib::Value::deserialize_with_pspec(text, &property)
        .with_context(|| format!("--{name}: '{text}' is no {}", property.value_type()))?;
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
        let element = gst::ElementFactory::make("x264enc").build().unwrap();
        set(&element, "quantizer", "18").unwrap();
        assert_eq!(element.property::<u32>("quantizer"), 18);
        assert!(
            set(&element, "quantizer", "900")
                .unwrap_err()
                .to_string()
                .contains("out of range")
        );
        assert!(
            set(&element, "quantizer", "low")
                .unwrap_err()
                .to_string()
                .contains("--quantizer")
        );
        assert!(
            set(&element, "no-such", "1")
                .unwrap_err()
                .to_string()
                .contains("no-such")
        );
    }
}
