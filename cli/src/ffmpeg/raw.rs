// SPDX-License-Identifier: MPL-2.0
//! One decoded frame and what all frames of a clip share.

use anyhow::{Context, Result};
use gst_video::prelude::*;
use gst_video::{VideoFrameFlags, VideoFrameRef, VideoInfo, VideoMeta};

use super::colour::Colour;
use super::pixel::{Kind, PixelFormat};

/// What all frames of a decoded clip share.
#[derive(Clone, Debug, PartialEq)]
pub struct RawVideo {
    /// Their pixels.
    pub format: PixelFormat,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Width and height of a pixel.
    pub pixel_aspect: (u32, u32),
    /// What their codes mean.
    pub colour: Colour,
    /// Seconds of a tick of the timestamps, as a fraction.
    pub time_base: (u32, u32),
    /// Frames in a second, where that is even.
    pub rate: Option<(u32, u32)>,
    /// Bits of a sample that say something; the format may have room for more.
    pub bits: u8,
}

/// One frame: samples row by row without gaps, plane after plane, as ffmpeg keeps them.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// Ticks of the time base since the clip's begin.
    pub pts: i64,
    /// The samples.
    pub data: Vec<u8>,
}

/// Where each plane begins, its bytes a row and its rows.
pub type Plane = (usize, usize, usize);

impl RawVideo {
    /// Caps of the frames.
    ///
    /// # Errors
    /// If there are no such pictures in GStreamer.
    pub fn caps(&self) -> Result<gst::Caps> {
        let (rate, per) = self.rate.unwrap_or((0, 1));
        let fraction = |(numerator, denominator): (u32, u32)| {
            gst::Fraction::new(numerator as i32, denominator as i32)
        };
        let is_rgb = self.format.kind == Kind::Rgb;
        let mut caps = gst_video::VideoCapsBuilder::new()
            .format(self.format.video_format())
            .width(self.width as i32)
            .height(self.height as i32)
            .framerate(fraction((rate, per)))
            .pixel_aspect_ratio(fraction(self.pixel_aspect))
            .field("interlace-mode", "progressive")
            .field("colorimetry", self.colour.colorimetry(is_rgb));
        if let Kind::Yuv(across, down) = self.format.kind
            && let Some(site) = self.colour.chroma_site((across, down))
        {
            caps = caps.field("chroma-site", site);
        }
        Ok(caps.build())
    }

    /// The picture as GStreamer knows it.
    fn info(&self) -> Result<VideoInfo> {
        VideoInfo::builder(self.format.video_format(), self.width, self.height)
            .build()
            .with_context(|| {
                format!(
                    "pictures of {}x{} in {}",
                    self.width, self.height, self.format.gst
                )
            })
    }

    /// The planes as ffmpeg stores them: rows without gaps.
    ///
    /// # Errors
    /// As [`caps`](Self::caps).
    pub fn planes(&self) -> Result<Vec<Plane>> {
        let info = self.info()?;
        let mut begin = 0;
        let planes = (0..info.n_planes()).map(|plane| {
            let components =
                (0..info.n_components() as u8).filter(|c| info.comp_plane(*c) == plane);
            let (mut row, mut rows) = (0, 0);
            for component in components {
                let width = info.comp_width(component) as usize;
                let step = info.comp_pstride(component).max(1) as usize;
                // A pair of pixels of packed 4:2:2 is whole even where the picture ends between them.
                row = row.max((width * step).next_multiple_of(if self.is_packed_pair() {
                    4
                } else {
                    1
                }));
                rows = rows.max(info.comp_height(component) as usize);
            }
            let plane = (begin, row, rows);
            begin += row * rows;
            plane
        });
        Ok(planes.collect())
    }

    fn is_packed_pair(&self) -> bool {
        matches!(self.format.name, "yuyv422" | "uyvy422")
    }

    /// Bytes of a frame.
    ///
    /// # Errors
    /// As [`caps`](Self::caps).
    pub fn bytes(&self) -> Result<usize> {
        Ok(self
            .planes()?
            .last()
            .map_or(0, |(begin, row, rows)| begin + row * rows))
    }

    /// A buffer of the frame, which is not copied.
    ///
    /// # Errors
    /// If it has another size than the format says.
    pub fn buffer(&self, frame: RawFrame) -> Result<gst::Buffer> {
        let planes = self.planes()?;
        anyhow::ensure!(
            frame.data.len() == self.bytes()?,
            "a frame of {} bytes where {}x{} pixels of {} have {}",
            frame.data.len(),
            self.width,
            self.height,
            self.format.name,
            self.bytes()?
        );
        let offsets: Vec<usize> = planes.iter().map(|plane| plane.0).collect();
        let strides: Vec<i32> = planes.iter().map(|plane| plane.1 as i32).collect();
        let mut buffer = gst::Buffer::from_mut_slice(frame.data);
        let writable = buffer.get_mut().context("a new buffer is shared")?;
        writable.set_pts(self.clock_time(frame.pts));
        VideoMeta::add_full(
            writable,
            VideoFrameFlags::empty(),
            self.format.video_format(),
            self.width,
            self.height,
            &offsets,
            &strides,
        )
        .context("describing a frame")?;
        Ok(buffer)
    }

    /// Ticks in seconds.
    pub fn seconds(&self, ticks: i64) -> f64 {
        let (numerator, denominator) = self.time_base;
        ticks as f64 * f64::from(numerator) / f64::from(denominator.max(1))
    }

    /// Seconds from one frame to the next, where the rate is even.
    pub fn frame_seconds(&self) -> Option<f64> {
        let (frames, seconds) = self.rate?;
        Some(f64::from(seconds) / f64::from(frames))
    }

    /// A buffer of these pictures with their caps.
    ///
    /// # Errors
    /// As [`caps`](Self::caps).
    pub fn sample(&self, buffer: &gst::Buffer) -> Result<gst::Sample> {
        Ok(gst::Sample::builder()
            .buffer(buffer)
            .caps(&self.caps()?)
            .build())
    }

    /// Ticks in nanoseconds; those before the begin are at the begin.
    fn clock_time(&self, ticks: i64) -> gst::ClockTime {
        let (numerator, denominator) = self.time_base;
        let nanoseconds = i128::from(ticks) * i128::from(numerator) * 1_000_000_000
            / i128::from(denominator.max(1));
        gst::ClockTime::from_nseconds(u64::try_from(nanoseconds).unwrap_or(0))
    }

    /// The picture of a buffer that the enhancer gave, in ffmpeg's layout, appended to `out`.
    ///
    /// # Errors
    /// If the buffer does not hold such a picture.
    pub fn unpack(&self, buffer: &gst::BufferRef, out: &mut Vec<u8>) -> Result<()> {
        let info = self.info()?;
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, &info)
            .ok()
            .context("a frame that is smaller than its size")?;
        for (index, (_, row, rows)) in self.planes()?.into_iter().enumerate() {
            let stride =
                usize::try_from(*frame.plane_stride().get(index).context("a missing plane")?)?;
            let data = frame.plane_data(index as u32).context("a missing plane")?;
            for line in data.chunks(stride.max(1)).take(rows) {
                out.extend_from_slice(line.get(..row).context("a row shorter than its picture")?);
            }
        }
        Ok(())
    }

    /// Of the same clip at another size: a pixel's shape follows, so that the picture keeps its own.
    pub fn resized(&self, width: u32, height: u32) -> Self {
        let across = u64::from(self.pixel_aspect.0) * u64::from(self.width) * u64::from(height);
        let down = u64::from(self.pixel_aspect.1) * u64::from(self.height) * u64::from(width);
        // A size is rounded to whole or even pixels: within a percent, a pixel was meant to keep its shape.
        let own = f64::from(self.pixel_aspect.0) / f64::from(self.pixel_aspect.1);
        let same = (across as f64 / down as f64 / own - 1.0).abs() < 0.01;
        Self {
            width,
            height,
            pixel_aspect: if same {
                self.pixel_aspect
            } else {
                simple_ratio(across, down)
            },
            ..self.clone()
        }
    }
}

/// A ratio in its lowest terms; what rounding to whole pixels made of a simple one is that simple one.
fn simple_ratio(across: u64, down: u64) -> (u32, u32) {
    let exact = across as f64 / down.max(1) as f64;
    if (exact - 1.0).abs() < 0.01 {
        return (1, 1);
    }
    let (mut a, mut b) = (across, down.max(1));
    while b != 0 {
        (a, b) = (b, a % b);
    }
    let (mut across, mut down) = (across / a.max(1), down / a.max(1));
    while across > 0xffff || down > 0xffff {
        (across, down) = (across.div_ceil(2), down.div_ceil(2));
    }
    (across.max(1) as u32, down.max(1) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(gst: &str, width: u32, height: u32, pixel_aspect: (u32, u32)) -> RawVideo {
        gst::init().unwrap();
        let all = [gst_video::VideoFormat::from_string(gst)];
        let name = match gst {
            "I420" => "yuv420p",
            "YUY2" => "yuyv422",
            other => panic!("{other}"),
        };
        RawVideo {
            format: PixelFormat::for_clip(name, &all).unwrap(),
            width,
            height,
            pixel_aspect,
            colour: Colour::default(),
            time_base: (1, 1000),
            rate: Some((25, 1)),
            bits: 8,
        }
    }

    #[test]
    fn frames_have_no_gaps_and_come_back_as_they_were() {
        for (format, bytes) in [("I420", 5 * 3 + 2 * 3 * 2), ("YUY2", 12 * 3)] {
            let video = video(format, 5, 3, (1, 1));
            assert_eq!(video.bytes().unwrap(), bytes);
            let data: Vec<u8> = (0..bytes as u8).collect();
            let buffer = video
                .buffer(RawFrame {
                    pts: 40,
                    data: data.clone(),
                })
                .unwrap();
            assert_eq!(buffer.pts(), Some(gst::ClockTime::from_mseconds(40)));
            let mut back = Vec::new();
            video.unpack(&buffer, &mut back).unwrap();
            assert_eq!(back, data);
            assert!(
                video
                    .buffer(RawFrame {
                        pts: 0,
                        data: vec![0; bytes - 1]
                    })
                    .is_err()
            );
        }
    }

    #[test]
    fn the_shape_of_a_picture_is_kept() {
        let dvd = video("I420", 180, 144, (64, 45));
        assert_eq!(dvd.resized(1024, 576).pixel_aspect, (1, 1));
        assert_eq!(dvd.resized(360, 288).pixel_aspect, (64, 45));
        assert_eq!(
            video("I420", 171, 95, (1, 1))
                .resized(256, 142)
                .pixel_aspect,
            (1, 1)
        );
        assert_eq!(
            video("I420", 160, 90, (1, 1))
                .resized(640, 180)
                .pixel_aspect,
            (1, 2)
        );
    }
}
