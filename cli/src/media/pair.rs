// SPDX-License-Identifier: MPL-2.0
//! One frame enlarged twice, plainly and with `flashupscale`, side by side.

use anyhow::{Context, Result, bail};
use gst::prelude::*;
use gst_video::prelude::*;

use super::enhancer::Options;
use super::pump::{self, Next};
use crate::ffmpeg::decode::{Clip, DecodeOptions};
use crate::picture::{Picture, WHITE};

/// Columns of white between the two halves.
const GAP: u32 = 4;

/// Seconds before the wanted frame that are enhanced too.
const LEAD: f64 = 0.2;

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

/// The same frame of `clip` at or after `at` seconds: plain Lanczos, and `flashupscale` with `options`.
///
/// # Errors
///
/// If the clip cannot be decoded, enhanced, or ends before `at`.
pub fn both(clip: &Clip, at: f64, options: &Options) -> Result<(Picture, Picture)> {
    let late = || format!("'{}' ends before {at} seconds", clip.input.title);
    if clip
        .seconds(&DecodeOptions::default())
        .is_some_and(|seconds| seconds <= at)
    {
        bail!(late());
    }
    // The model sees a few earlier frames, as it would in the middle of a clip; all of them would take too long.
    let start = (at - LEAD).max(0.0);
    let part = DecodeOptions {
        start: (start > 0.0).then_some(start),
        ..DecodeOptions::default()
    };
    let decoder = clip.decode(&part)?;
    let video = decoder.video().clone();
    let (width, height) = options.enlarge.size_of(&video, (false, false))?;
    let output = video.resized(width, height);
    let mut found = None;
    let say = |line: &str| eprintln!("{line}");
    let wanted = |pts: i64| video.seconds(pts) >= at - start - 1e-6;
    pump::enhance(decoder, options, &output, &say, |pair| {
        if !wanted(pair.pts) {
            return Ok(Next::More);
        }
        found = Some(pair);
        Ok(Next::Enough)
    })?;
    let pair = found.with_context(late)?;
    let (small, large) = (video.sample(&pair.small)?, output.sample(&pair.large)?);
    Ok((lanczos(&small, &large)?, rgb(&large)?))
}

/// The whole frame twice: `small` enlarged plainly on the left, `large` on the right.
///
/// # Errors
///
/// If one of them is no picture.
pub fn halves(small: &gst::Sample, large: &gst::Sample) -> Result<Picture> {
    let (plain, ours) = (lanczos(small, large)?, rgb(large)?);
    let whole = Crop {
        width: ours.width(),
        height: ours.height(),
        left: None,
        top: None,
    };
    side_by_side(&plain, &ours, whole)
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

/// `small` at the size of `large`, by GStreamer's own scaler: three lobes of Lanczos, as ffmpeg's `lanczos` has.
fn lanczos(small: &gst::Sample, large: &gst::Sample) -> Result<Picture> {
    let caps = small.caps().context("a frame without caps")?;
    let info = sample_info(large)?;
    let description = format!(
        "appsrc name=in format=time ! videoconvert ! videoscale method=lanczos envelope=3 ! videoconvert ! \
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
