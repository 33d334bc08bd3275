// SPDX-License-Identifier: MPL-2.0
//! Clips from a prompt, kept as samples, so that they can be looked at, enhanced and written without being made again.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_video::prelude::*;

use super::container::{CRF, h264_encoder};
use super::elements::make;
use super::run::to_the_end;
use crate::picture::{FilterType, Picture, WHITE};

/// White around and between the pictures of a sheet.
const GAP: u32 = 6;
/// Height of a caption.
const CAPTION: u32 = 28;

/// What `flashvideosrc` is to make.
#[derive(Debug, Clone, clap::Args)]
pub struct Source {
    /// Which model: builtin, the path of a model in one file, or the folder of a released one
    #[arg(long, default_value = "builtin")]
    pub model: String,

    /// Frames of a clip; 0 for the model's own number
    #[arg(long, default_value_t = 0)]
    pub frames: u32,

    /// Sampling steps; 0 for the model's own number
    #[arg(long, default_value_t = 0)]
    pub steps: u32,
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
) -> Result<Vec<Vec<gst::Sample>>> {
    let element = make("flashvideosrc")?;
    element.set_property("model", &source.model);
    element.set_property("num-frames", source.frames);
    element.set_property("steps", source.steps);
    element.set_property("prompt", prompt);
    element.set_property("seed", seed);
    element.set_property("num-clips", clips);
    let samples = collect(&[element])?;
    let frames = samples.len() / clips.max(1) as usize;
    if frames == 0 || samples.len() % frames != 0 {
        bail!("{} frames came out for {clips} clips", samples.len());
    }
    Ok(samples.chunks(frames).map(<[_]>::to_vec).collect())
}

/// `samples` through `flashupscale` with these properties, `width` x `height` large.
///
/// # Errors
///
/// What the pipeline says.
pub fn enhance(
    samples: &[gst::Sample],
    model: &str,
    (width, height): (i32, i32),
) -> Result<Vec<gst::Sample>> {
    let enhancer = make("flashupscale")?;
    enhancer.set_property("model", model);
    let size = make("capsfilter")?;
    size.set_property("caps", size_caps(width, height));
    collect(&[source(samples)?, enhancer, size])
}

/// Writes `samples` to an MP4 file.
///
/// # Errors
///
/// What the pipeline says.
pub fn write(samples: &[gst::Sample], path: &Path) -> Result<()> {
    let chain = [
        source(samples)?,
        make("videoconvert")?,
        h264_encoder(CRF)?,
        make("h264parse")?,
        make("mp4mux")?,
        make("filesink")?,
    ];
    if let Some(sink) = chain.last() {
        sink.set_property("location", path);
    }
    let pipeline = gst::Pipeline::new();
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    to_the_end(&pipeline, |line| eprintln!("{line}"))?;
    Ok(())
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
    size.set_property("caps", size_caps(width as i32, CAPTION as i32));
    let words = make("textoverlay")?;
    words.set_property("text", text);
    words.set_property("color", 0xff00_0000u32);
    words.set_property("draw-outline", false);
    words.set_property("draw-shadow", false);
    words.set_property("auto-resize", false);
    words.set_property("font-desc", "Sans 11");
    words.set_property_from_str("halignment", "left");
    words.set_property_from_str("valignment", "center");
    let samples = collect(&[white, size, words])?;
    picture(samples.first().context("no caption was drawn")?)
}

fn size_caps(width: i32, height: i32) -> gst::Caps {
    gst::Caps::builder("video/x-raw")
        .field("width", width)
        .field("height", height)
        .build()
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
fn collect(elements: &[gst::Element]) -> Result<Vec<gst::Sample>> {
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
    to_the_end(&pipeline, |line| eprintln!("{line}"))?;
    let samples = std::mem::take(&mut *samples.lock().unwrap_or_else(|e| e.into_inner()));
    Ok(samples)
}
