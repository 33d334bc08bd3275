// SPDX-License-Identifier: MPL-2.0
//! One frame enlarged twice, plainly and with `flashupscale`, side by side.

use std::path::Path;

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_video::prelude::*;

use super::elements::{caps_name, make};
use super::enhancer::Options;
use crate::picture::{Picture, WHITE};

/// Columns of white between the two halves.
const GAP: u32 = 4;

/// How much of the clip before the wanted frame is enhanced too.
const LEAD: gst::ClockTime = gst::ClockTime::from_mseconds(200);

/// A rectangle of the enlarged frame, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// First column; nothing for the middle.
    pub left: Option<u32>,
    /// First row; nothing for the middle.
    pub top: Option<u32>,
}

impl std::str::FromStr for Crop {
    type Err = String;

    /// `WIDTHxHEIGHT` or `WIDTHxHEIGHT+LEFT+TOP`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || {
            format!("'{text}' is no crop: expected WIDTHxHEIGHT or WIDTHxHEIGHT+LEFT+TOP in pixels")
        };
        let number = |s: &str| s.parse::<u32>().map_err(|_| wrong());
        let mut parts = text.split('+');
        let (width, height) = parts
            .next()
            .and_then(|size| size.split_once('x'))
            .ok_or_else(wrong)?;
        let (left, top) = (parts.next(), parts.next());
        if parts.next().is_some() || left.is_some() != top.is_some() {
            return Err(wrong());
        }
        let (width, height) = (number(width)?, number(height)?);
        if width == 0 || height == 0 {
            return Err(wrong());
        }
        Ok(Self {
            width,
            height,
            left: left.map(number).transpose()?,
            top: top.map(number).transpose()?,
        })
    }
}

/// The same frame of `input` at or after `at`: plain Lanczos, and `flashupscale` with `options`.
///
/// Both come out of one decoder through a tee, so they are the same frame for sure; they are told apart from their
/// neighbours by their timestamps.
///
/// # Errors
///
/// If the clip cannot be read, enhanced, or ends before `at`.
pub fn both(input: &Path, at: gst::ClockTime, options: &Options) -> Result<(Picture, Picture)> {
    let pipeline = gst::Pipeline::with_name("side-by-side");
    let reader = make("filesrc")?;
    reader.set_property("location", input);
    let decoder = make("decodebin")?;
    let convert = make("videoconvert")?;
    let tee = make("tee")?;
    pipeline.add_many([&reader, &decoder, &convert, &tee])?;
    gst::Element::link_many([&reader, &decoder])?;
    gst::Element::link_many([&convert, &tee])?;

    let enhance = options.element()?;
    let size = make("capsfilter")?;
    size.set_property("caps", options.output_caps());
    // The model sees a few earlier frames, as it would in the middle of a clip; all of them would take too long.
    let ours = end_of_branch(
        &pipeline,
        &tee,
        &[enhance, size],
        2,
        at.saturating_sub(LEAD),
    )?;
    // The small frames, enlarged when the size of the others is known. The enhancer holds frames back until it has
    // their neighbours, and this branch must be able to hold as many: the other one's limit is a limit for both.
    let small = end_of_branch(&pipeline, &tee, &[], 0, at)?;

    let sink = convert
        .static_pad("sink")
        .context("videoconvert has no sink pad")?
        .downgrade();
    decoder.connect_pad_added(move |decoder, pad| {
        let video = pad
            .current_caps()
            .is_some_and(|caps| caps_name(&caps).starts_with("video/"));
        if let Some(sink) = sink.upgrade().filter(|sink| video && !sink.is_linked())
            && let Err(error) = pad.link(&sink)
        {
            gst::element_error!(
                decoder,
                gst::StreamError::Format,
                ("the decoded video does not link: {error}")
            );
        }
    });

    let result = frames_at(&pipeline, &ours, &small, at);
    // Also after an error: an element may not be dropped while it runs.
    pipeline
        .set_state(gst::State::Null)
        .context("stopping the pipeline")?;
    let (ours, small) = result?;
    let plain = lanczos(&small, &ours)?;
    Ok((plain, rgb(&ours)?))
}

/// `left | right`, cut to the same rectangle, clamped to the picture.
///
/// # Errors
///
/// If the pictures differ in size.
pub fn side_by_side(left: &Picture, right: &Picture, crop: Crop) -> Result<Picture> {
    if left.size() != right.size() {
        bail!(
            "pictures of {:?} and {:?} cannot stand side by side",
            left.size(),
            right.size()
        );
    }
    let (width, height) = (crop.width.min(left.width()), crop.height.min(left.height()));
    let place = |wanted: Option<u32>, free: u32| wanted.map_or(free / 2, |place| place.min(free));
    let (x, y) = (
        place(crop.left, left.width() - width),
        place(crop.top, left.height() - height),
    );
    let mut canvas = Picture::filled(2 * width + GAP, height, WHITE);
    for (picture, offset) in [(left, 0), (right, width + GAP)] {
        canvas.paste(&picture.crop(x, y, width, height), offset, 0);
    }
    Ok(canvas)
}

/// tee ! queue ! elements... ! appsink, for frames from `start` on; `queued` is the queue's limit in frames, 0 for none.
fn end_of_branch(
    pipeline: &gst::Pipeline,
    tee: &gst::Element,
    elements: &[gst::Element],
    queued: u32,
    start: gst::ClockTime,
) -> Result<gst_app::AppSink> {
    let queue = make("queue")?;
    queue.set_property("max-size-buffers", queued);
    queue.set_property("max-size-bytes", 0u32);
    queue.set_property("max-size-time", 0u64);
    // Behind the queue: on a sink pad, GStreamer 1.22 releases a buffer that a probe has dropped a second time.
    let exit = queue.static_pad("src").context("queue has no src pad")?;
    exit.add_probe(gst::PadProbeType::BUFFER, move |_, info| match &info.data {
        Some(gst::PadProbeData::Buffer(buffer)) if buffer.pts().is_some_and(|pts| pts < start) => {
            gst::PadProbeReturn::Drop
        }
        _ => gst::PadProbeReturn::Ok,
    });
    // Neither waits for the other's first frame: that could be one the other holds back.
    let sink = gst_app::AppSink::builder()
        .sync(false)
        .async_(false)
        .max_buffers(1)
        .build();
    let chain: Vec<_> = [tee.clone(), queue]
        .into_iter()
        .chain(elements.iter().cloned())
        .chain([sink.clone().upcast()])
        .collect();
    for element in &chain[1..] {
        pipeline.add(element)?;
    }
    gst::Element::link_many(&chain)?;
    Ok(sink)
}

fn frames_at(
    pipeline: &gst::Pipeline,
    ours: &gst_app::AppSink,
    small: &gst_app::AppSink,
    at: gst::ClockTime,
) -> Result<(gst::Sample, gst::Sample)> {
    pipeline
        .set_state(gst::State::Playing)
        .context("the pipeline does not start")?;
    let bus = pipeline.bus().context("the pipeline has no bus")?;
    let large = loop {
        let sample = next(ours, &bus)?.with_context(|| format!("the clip ends before {at}"))?;
        if sample
            .buffer()
            .and_then(|b| b.pts())
            .is_some_and(|pts| pts >= at)
        {
            break sample;
        }
    };
    let pts = large.buffer().and_then(|b| b.pts());
    loop {
        let sample =
            next(small, &bus)?.context("the decoder gave fewer frames than the enhancer")?;
        if sample.buffer().and_then(|b| b.pts()) == pts {
            return Ok((large, sample));
        }
    }
}

/// The next frame, or nothing at the end of the stream.
fn next(sink: &gst_app::AppSink, bus: &gst::Bus) -> Result<Option<gst::Sample>> {
    loop {
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
            return Ok(Some(sample));
        }
        if sink.is_eos() {
            return Ok(None);
        }
        if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error])
            && let gst::MessageView::Error(error) = message.view()
        {
            bail!("{}", error.error());
        }
    }
}

/// `small` at the size of `large`, by GStreamer's own scaler: three lobes of Lanczos, as ffmpeg's `lanczos` has.
fn lanczos(small: &gst::Sample, large: &gst::Sample) -> Result<Picture> {
    let caps = small.caps().context("a frame without caps")?;
    let info = sample_info(large)?;
    let description = format!(
        "appsrc name=in format=time ! videoscale method=lanczos envelope=3 ! videoconvert ! \
         video/x-raw,format=RGB,width={},height={} ! appsink name=out sync=false",
        info.width(),
        info.height()
    );
    let pipeline = gst::parse::launch(&description)?;
    let bin = pipeline
        .downcast_ref::<gst::Pipeline>()
        .context("the description is no pipeline")?;
    let source = bin
        .by_name("in")
        .and_downcast::<gst_app::AppSrc>()
        .context("no appsrc")?;
    let sink = bin
        .by_name("out")
        .and_downcast::<gst_app::AppSink>()
        .context("no appsink")?;
    source.set_caps(Some(&caps.to_owned()));
    bin.set_state(gst::State::Playing)
        .context("the scaler does not start")?;
    let scaled = source
        .push_sample(small)
        .map_err(anyhow::Error::from)
        .and_then(|_| Ok(source.end_of_stream()?))
        .and_then(|_| sink.pull_sample().context("the scaler gave no picture"));
    bin.set_state(gst::State::Null)
        .context("stopping the scaler")?;
    rgb(&scaled?)
}

fn sample_info(sample: &gst::Sample) -> Result<gst_video::VideoInfo> {
    gst_video::VideoInfo::from_caps(sample.caps().context("a frame without caps")?)
        .context("a frame that is no video")
}

/// The frame as packed RGB, through GStreamer's converter, which knows ranges and matrices.
fn rgb(sample: &gst::Sample) -> Result<Picture> {
    let caps = gst::Caps::builder("video/x-raw")
        .field("format", "RGB")
        .build();
    let sample = gst_video::convert_sample(sample, &caps, Some(gst::ClockTime::from_seconds(30)))
        .context("converting a frame to RGB")?;
    let info = sample_info(&sample)?;
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(
        sample.buffer().context("no frame")?,
        &info,
    )
    .context("reading a frame")?;
    let row_bytes = 3 * info.width() as usize;
    let stride = usize::try_from(frame.plane_stride()[0]).context("a frame stored upside down")?;
    let data = frame.plane_data(0).context("a frame without pixels")?;
    let mut packed = Vec::with_capacity(row_bytes * info.height() as usize);
    for row in data.chunks(stride).take(info.height() as usize) {
        packed.extend_from_slice(
            row.get(..row_bytes)
                .context("a row shorter than its picture")?,
        );
    }
    Picture::from_bytes(info.width(), info.height(), &packed)
        .context("a frame smaller than its size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_read_and_wrong_ones_refused() {
        let middle = Crop {
            width: 640,
            height: 480,
            left: None,
            top: None,
        };
        assert_eq!("640x480".parse(), Ok(middle));
        assert_eq!(
            "640x480+8+0".parse(),
            Ok(Crop {
                left: Some(8),
                top: Some(0),
                ..middle
            })
        );
        for wrong in [
            "",
            "640",
            "0x5",
            "640x480+8",
            "640x480+8+0+1",
            "ax4",
            "4x-4",
        ] {
            assert!(wrong.parse::<Crop>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn halves_show_the_same_rectangle() {
        let picture = |last: u8| {
            let pixels = (0..200u8).flat_map(|index| [index % 20, index / 20, last]);
            Picture::from_bytes(20, 10, &pixels.collect::<Vec<_>>()).unwrap()
        };
        let (left, right) = (picture(0), picture(1));
        let middle = side_by_side(&left, &right, "6x4".parse().unwrap()).unwrap();
        assert_eq!(middle.size(), (6 + GAP + 6, 4));
        assert_eq!(middle.pixel(0, 0), [7, 3, 0]);
        assert_eq!(middle.pixel(6, 0), WHITE);
        assert_eq!(middle.pixel(6 + GAP, 0), [7, 3, 1]);
        // Beyond the edge is moved back inside; larger than the picture is the picture.
        let corner = side_by_side(&left, &right, "6x4+900+900".parse().unwrap()).unwrap();
        assert_eq!(corner.pixel(0, 0), [14, 6, 0]);
        let whole = side_by_side(&left, &right, "900x900".parse().unwrap()).unwrap();
        assert_eq!(whole.size(), (20 + GAP + 20, 10));
        assert!(
            side_by_side(&left, &Picture::filled(3, 3, WHITE), "1x1".parse().unwrap()).is_err()
        );
    }
}
