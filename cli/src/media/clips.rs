// SPDX-License-Identifier: MPL-2.0
//! Clips from a prompt, kept as samples, so that they can be looked at, enhanced and written without being made again.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_video::prelude::*;

use super::elements::{make, size_caps};
use super::enhancer::Options;
use super::run::{Outcome, to_the_end};
use crate::ffmpeg::codec::{CRF, Plan, Wish};
use crate::ffmpeg::colour::{Colour, Mastering};
use crate::ffmpeg::container::Container;
use crate::ffmpeg::encode::{EncodeOptions, Encoder};
use crate::ffmpeg::pixel::PixelFormat;
use crate::ffmpeg::raw::RawVideo;
use crate::picture::{FilterType, Picture, WHITE};

/// White around and between the pictures of a sheet.
const GAP: u32 = 6;
/// Height of a caption.
const CAPTION: u32 = 28;

/// What `flashvideosrc` is to make.
#[derive(Debug, Clone, clap::Args)]
pub struct Source {
    /// Which model makes it: builtin, the path of a model in one file, or the folder of a released one
    #[arg(long, default_value = "builtin")]
    pub model: String,

    /// Frames of a clip; 0 for the model's own number
    #[arg(long, default_value_t = 0)]
    pub frames: u32,

    /// Sampling steps; 0 for the model's own number
    #[arg(long, default_value_t = 0)]
    pub steps: u32,

    /// How closely the clip follows the prompt [default: the model's own]
    #[arg(long, value_name = "SCALE")]
    pub guidance: Option<f64>,

    /// An adapter (LoRA) for another look
    #[arg(long, value_name = "FILE")]
    pub lora: Option<String>,

    /// Device: cpu, cuda:0, metal; `flashvideo devices` lists them
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

impl Source {
    fn element(&self) -> Result<gst::Element> {
        let element = make("flashvideosrc")?;
        let values = [
            ("model", Some(self.model.clone())),
            ("device", Some(self.device.clone())),
            ("num-frames", Some(self.frames.to_string())),
            ("steps", Some(self.steps.to_string())),
            (
                "guidance-scale",
                self.guidance.map(|scale| scale.to_string()),
            ),
            ("lora", self.lora.clone()),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                super::enhancer::set(&element, name, &value)?;
            }
        }
        Ok(element)
    }
}

/// Makes `clips` clips of `prompt`, the first from the noise of `seed`, each further one from that of the next number:
/// the samples of each.
///
/// # Errors
///
/// What the pipeline says.
pub fn generate(
    source: &Source,
    prompt: &str,
    seed: i64,
    clips: u32,
    say: &dyn Fn(&str),
) -> Result<Vec<Vec<gst::Sample>>> {
    let element = source.element()?;
    element.set_property("prompt", prompt);
    element.set_property("seed", seed);
    element.set_property("num-clips", clips);
    let samples = collect(&[element], say)?;
    let frames = samples.len() / clips.max(1) as usize;
    if frames == 0 || samples.len() % frames != 0 {
        bail!("{} frames came out for {clips} clips", samples.len());
    }
    Ok(samples.chunks(frames).map(<[_]>::to_vec).collect())
}

/// `samples` through `flashupscale` with these options.
///
/// # Errors
///
/// What the pipeline says.
pub fn enhance(
    samples: &[gst::Sample],
    options: &Options,
    say: &dyn Fn(&str),
) -> Result<Vec<gst::Sample>> {
    let info = info(samples.first().context("a clip without frames")?)?;
    let (width, height) =
        options
            .enlarge
            .size_for((info.width(), info.height()), (1, 1), (true, true))?;
    let size = make("capsfilter")?;
    size.set_property("caps", size_caps(width, height));
    collect(&[source(samples)?, options.element()?, size], say)
}

/// Writes `samples` to `path`, in the format and with the codec that the name `target` asks for.
///
/// # Errors
///
/// If there is none, or the file cannot be written.
pub fn write(samples: &[gst::Sample], path: &Path, target: &Path) -> Result<()> {
    let first = samples.first().context("a clip without frames")?;
    let info = info(first)?;
    let positive = |fraction: gst::Fraction| {
        (
            fraction.numer().max(1) as u32,
            fraction.denom().max(1) as u32,
        )
    };
    let (rate, per) = positive(info.fps());
    let format =
        PixelFormat::for_clip("rgb24", &[info.format()]).context("a clip that is not RGB")?;
    let video = RawVideo {
        format,
        width: info.width(),
        height: info.height(),
        pixel_aspect: positive(info.par()),
        colour: Colour::default(),
        time_base: (per, rate),
        rate: Some((rate, per)),
        bits: 8,
    };
    let container = Container::from_path(target)?;
    let options = EncodeOptions {
        container,
        plan: Plan::new(container, Wish::default(), &video, false, 2.0)?,
        crf: CRF,
        mastering: Mastering::default(),
        first_number: 1,
    };
    let mut encoder = Encoder::start(path, &target.display().to_string(), &video, &options)?;
    let mut bytes = Vec::new();
    for (index, sample) in (0i64..).zip(samples) {
        bytes.clear();
        video.unpack(
            sample.buffer().context("a sample without a buffer")?,
            &mut bytes,
        )?;
        encoder.write(index, &bytes)?;
    }
    encoder.finish()?;
    Ok(())
}

fn info(sample: &gst::Sample) -> Result<gst_video::VideoInfo> {
    let caps = sample.caps().context("a sample without caps")?;
    Ok(gst_video::VideoInfo::from_caps(caps)?)
}

/// The picture in `sample`, which is RGB.
///
/// # Errors
///
/// If it is no picture of that format.
pub fn picture(sample: &gst::Sample) -> Result<Picture> {
    let caps = sample.caps().context("a sample without caps")?;
    let info = gst_video::VideoInfo::from_caps(caps)?;
    let buffer = sample.buffer().context("a sample without a buffer")?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)?;
    let stride = *frame.plane_stride().first().context("no plane")? as usize;
    let (width, height) = (info.width(), info.height());
    let rows = frame
        .plane_data(0)?
        .chunks(stride.max(1))
        .take(height as usize);
    let bytes: Vec<u8> = rows
        .flat_map(|row| row.iter().copied().take(3 * width as usize))
        .collect();
    Picture::from_bytes(width, height, &bytes).context("a frame that is shorter than its caps say")
}

/// Frames a second of the clip that `sample` is of, if its caps tell.
pub fn rate(sample: &gst::Sample) -> Option<f64> {
    let info = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
    let fps = info.fps();
    (fps.numer() > 0).then(|| f64::from(fps.numer()) / f64::from(fps.denom()))
}

/// `count` of `samples`, evenly over their time, as pictures of `width` columns.
///
/// # Errors
///
/// As [`picture`].
pub fn strip(samples: &[gst::Sample], count: usize, width: u32) -> Result<Vec<Picture>> {
    let last = samples.len().saturating_sub(1);
    let step = count.saturating_sub(1).max(1);
    (0..count.min(samples.len()))
        .filter_map(|index| samples.get(index * last / step))
        .map(|sample| {
            let whole = picture(sample)?;
            let height = (whole.height() * width).div_ceil(whole.width().max(1));
            whole.resized(width, height, FilterType::Lanczos3)
        })
        .collect()
}

/// Draws a caption and drops it: what is missing for a [`sheet`] is better known before clips are made, which takes minutes.
///
/// # Errors
///
/// If captions cannot be drawn.
pub fn check_captions() -> Result<()> {
    caption("A prompt", 320).map(drop)
}

/// One picture of rows of pictures, each row under its caption.
///
/// # Errors
///
/// If the captions cannot be drawn.
pub fn sheet(rows: &[(String, Vec<Picture>)]) -> Result<Picture> {
    let extent = |pictures: &[Picture]| {
        let width: u32 = pictures.iter().map(|picture| picture.width() + GAP).sum();
        let height = pictures.iter().map(Picture::height).max().unwrap_or(0);
        (width + GAP, height)
    };
    let width = rows
        .iter()
        .map(|(_, row)| extent(row).0)
        .max()
        .unwrap_or(GAP);
    let height: u32 = rows
        .iter()
        .map(|(_, row)| extent(row).1 + CAPTION + GAP)
        .sum();
    let mut sheet = Picture::filled(width, height + GAP, WHITE);
    let mut top = 0;
    for (text, pictures) in rows {
        let words = caption(text, width)?;
        sheet.paste(&words, 0, top);
        let mut left = GAP;
        for picture in pictures {
            sheet.paste(picture, left, top + CAPTION);
            left += picture.width() + GAP;
        }
        top += extent(pictures).1 + CAPTION + GAP;
    }
    Ok(sheet)
}

/// `text` in black on white.
fn caption(text: &str, width: u32) -> Result<Picture> {
    let white = make("videotestsrc")?;
    white.set_property_from_str("pattern", "white");
    white.set_property("num-buffers", 1);
    let size = make("capsfilter")?;
    size.set_property("caps", size_caps(width, CAPTION));
    let words = make("textoverlay")?;
    words.set_property("text", text);
    words.set_property("color", 0xff00_0000u32);
    words.set_property("draw-outline", false);
    words.set_property("draw-shadow", false);
    words.set_property("auto-resize", false);
    words.set_property("font-desc", "Sans 11");
    words.set_property_from_str("halignment", "left");
    words.set_property_from_str("valignment", "center");
    let samples = collect(&[white, size, words], &|_| ())?;
    picture(samples.first().context("no caption was drawn")?)
}

/// An element that gives `samples`, then ends.
fn source(samples: &[gst::Sample]) -> Result<gst::Element> {
    let caps = samples.first().and_then(|sample| sample.caps_owned());
    let source = gst_app::AppSrc::builder()
        .caps(&caps.context("a clip without frames")?)
        .format(gst::Format::Time)
        .build();
    let mut rest: Vec<gst::Buffer> = samples
        .iter()
        .rev()
        .filter_map(|sample| sample.buffer_owned())
        .collect();
    source.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .need_data(move |source, _| {
                // Refused only when the pipeline is being stopped.
                let _ = match rest.pop() {
                    Some(buffer) => source.push_buffer(buffer),
                    None => source.end_of_stream(),
                };
            })
            .build(),
    );
    Ok(source.upcast())
}

/// Everything that comes out of `elements`, as RGB.
fn collect(elements: &[gst::Element], say: &dyn Fn(&str)) -> Result<Vec<gst::Sample>> {
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .caps(
            &gst_video::VideoCapsBuilder::new()
                .format(gst_video::VideoFormat::Rgb)
                .build(),
        )
        .build();
    let mut chain = elements.to_vec();
    chain.extend([make("videoconvert")?, sink.clone().upcast()]);
    let pipeline = gst::Pipeline::new();
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    let samples = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let taken = samples.clone();
    sink.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let mut taken = taken.lock().unwrap_or_else(|e| e.into_inner());
                taken.push(sample);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    if to_the_end(&pipeline, say)? == Outcome::Interrupted {
        bail!("interrupted");
    }
    let samples = std::mem::take(&mut *samples.lock().unwrap_or_else(|e| e.into_inner()));
    Ok(samples)
}
