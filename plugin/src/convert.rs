// SPDX-License-Identifier: MPL-2.0
//! Planes of a GStreamer buffer to planes of a runtime frame and back: strides, interleaving, 10-bit packing.

use flashvideo::{Frame, FrameFormat, Planes, Samples, Siting, Size};
use gst_video::prelude::*;
use gst_video::{VideoChromaSite, VideoColorRange, VideoFormat, VideoFrameRef, VideoInfo};

/// All formats that can be read and written, best first.
pub(crate) const FORMATS: [VideoFormat; 18] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Yv12,
    VideoFormat::Y42b,
    VideoFormat::Y444,
    VideoFormat::I42010le,
    VideoFormat::P01010le,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Gray8,
];

/// Meaning of the samples in frames of `info`: planes, depth, and range, matrix and siting of the caps.
pub(crate) fn frame_format(info: &VideoInfo) -> FrameFormat {
    let format = info.format_info();
    let log2_sub = |subs: &[u32]| subs.get(1).map_or(0, |&sub| sub as u8);
    let planes = if format.is_gray() {
        Planes::Gray
    } else if format.is_rgb() {
        Planes::Rgb
    } else {
        Planes::Yuv {
            sub_x: log2_sub(format.w_sub()),
            sub_y: log2_sub(format.h_sub()),
        }
    };
    let colorimetry = info.colorimetry();
    let full_range = match colorimetry.range() {
        VideoColorRange::Range0_255 => true,
        VideoColorRange::Range16_235 => false,
        _ => format.is_rgb(),
    };
    // For R, G, B and for "unknown" there is no matrix; BT.709 then weighs the luma that the model sees.
    let matrix = colorimetry
        .matrix()
        .kr_kb()
        .ok()
        .filter(|&(kr, kb)| kr > 0.0 && kb > 0.0)
        .unwrap_or((0.2126, 0.0722));
    FrameFormat {
        planes,
        alpha: format.has_alpha(),
        depth: info.comp_depth(0) as u8,
        full_range,
        matrix,
        siting: siting(info.chroma_site()),
    }
}

/// Unknown siting is taken as MPEG-2, which is what nearly all streams that do not tell have.
fn siting(site: VideoChromaSite) -> (Siting, Siting) {
    let axis = |cosited: VideoChromaSite| {
        if site.contains(cosited) {
            Siting::Cosited
        } else {
            Siting::Centre
        }
    };
    // UNKNOWN is 0, NONE (centred on both axes) has a bit of its own.
    if site.is_empty() {
        (Siting::Cosited, Siting::Centre)
    } else {
        (
            axis(VideoChromaSite::H_COSITED),
            axis(VideoChromaSite::V_COSITED),
        )
    }
}

/// Where the samples of one component lie in its plane.
struct Component {
    plane: u32,
    /// Bytes before the first sample of a row.
    offset: usize,
    /// Bytes from a sample to the next one.
    step: usize,
    /// Bytes from a row to the next one.
    stride: usize,
    size: Size,
    /// Unused low bits of a 16-bit sample.
    shift: u32,
}

impl Component {
    /// Component `index` of a mapped picture with these strides.
    fn new(info: &VideoInfo, strides: &[i32], index: u8) -> Result<Self, String> {
        let format = info.format_info();
        let plane = info.comp_plane(index);
        let stride = strides
            .get(plane as usize)
            .and_then(|&stride| usize::try_from(stride).ok())
            .filter(|&stride| stride > 0)
            .ok_or_else(|| format!("plane {plane} has no forward stride"))?;
        let step = usize::try_from(info.comp_pstride(index)).unwrap_or(0);
        if step == 0 {
            return Err(format!(
                "format {} has no fixed pixel stride",
                info.format()
            ));
        }
        // GStreamer 1.22 counts the offset of interleaved 16-bit samples in samples, later versions in bytes.
        let offset = info.comp_poffset(index) as usize;
        let offset = if info.comp_depth(index) > 8 && offset % 2 == 1 {
            2 * offset
        } else {
            offset
        };
        Ok(Self {
            plane,
            offset,
            step,
            stride,
            size: Size::new(
                info.comp_width(index) as usize,
                info.comp_height(index) as usize,
            ),
            shift: format.shift().get(usize::from(index)).copied().unwrap_or(0),
        })
    }

    fn read(&self, data: &[u8], depth: u8) -> Option<Samples> {
        let pixels = self.size.pixels();
        let rows = data.chunks(self.stride).take(self.size.height);
        if depth == 8 {
            let mut samples = Vec::with_capacity(pixels);
            for row in rows {
                let row = row.get(self.offset..)?;
                let width = self.size.width;
                match self.step {
                    1 => samples.extend_from_slice(row.get(..width)?),
                    2 => samples.extend(row.chunks(2).take(width).map(|pixel| pixel[0])),
                    3 => samples.extend(row.chunks(3).take(width).map(|pixel| pixel[0])),
                    4 => samples.extend(row.chunks(4).take(width).map(|pixel| pixel[0])),
                    step => samples.extend(row.iter().step_by(step).take(width)),
                }
            }
            (samples.len() == pixels).then_some(Samples::U8(samples))
        } else {
            let mut samples = Vec::with_capacity(pixels);
            for row in rows {
                let row = row.get(self.offset..)?;
                let values = row.chunks(self.step).take(self.size.width);
                samples.extend(values.filter_map(|pixel| match *pixel {
                    [low, high, ..] => Some(u16::from_le_bytes([low, high]) >> self.shift),
                    _ => None,
                }));
            }
            (samples.len() == pixels).then_some(Samples::U16(samples))
        }
    }

    fn write(&self, data: &mut [u8], samples: &Samples) -> Option<()> {
        if samples.len() != self.size.pixels() || data.len() < self.needed() {
            return None;
        }
        let rows = data.chunks_mut(self.stride).take(self.size.height);
        let width = self.size.width;
        match samples {
            Samples::U8(samples) => {
                for (row, values) in rows.zip(samples.chunks(width)) {
                    let row = row.get_mut(self.offset..)?;
                    match self.step {
                        1 => row.get_mut(..width)?.copy_from_slice(values),
                        2 => interleave::<2>(row, values),
                        3 => interleave::<3>(row, values),
                        4 => interleave::<4>(row, values),
                        step => {
                            for (pixel, value) in row.chunks_mut(step).zip(values) {
                                pixel[0] = *value;
                            }
                        }
                    }
                }
            }
            Samples::U16(samples) => {
                for (row, values) in rows.zip(samples.chunks(width)) {
                    let row = row.get_mut(self.offset..)?;
                    for (pixel, value) in row.chunks_mut(self.step).zip(values) {
                        pixel
                            .get_mut(..2)?
                            .copy_from_slice(&(value << self.shift).to_le_bytes());
                    }
                }
            }
        }
        Some(())
    }

    /// Bytes that the plane must have for this component.
    fn needed(&self) -> usize {
        (self.size.height - 1) * self.stride + self.offset + (self.size.width - 1) * self.step + 1
    }
}

/// Writes `values` to every `STEP`th byte of `row`.
fn interleave<const STEP: usize>(row: &mut [u8], values: &[u8]) {
    for (pixel, value) in row.chunks_mut(STEP).zip(values) {
        pixel[0] = *value;
    }
}

/// The picture in `buffer`.
///
/// # Errors
/// When the buffer does not hold the picture that the caps promise.
pub(crate) fn read(
    buffer: &gst::BufferRef,
    info: &VideoInfo,
    format: FrameFormat,
) -> Result<Frame, String> {
    let mismatch = || {
        format!(
            "a buffer of {} bytes does not hold a {}x{} picture of format {}",
            buffer.size(),
            info.width(),
            info.height(),
            info.format()
        )
    };
    let picture = VideoFrameRef::from_buffer_ref_readable(buffer, info).map_err(|_| mismatch())?;
    if (picture.width(), picture.height(), picture.format())
        != (info.width(), info.height(), info.format())
    {
        return Err(format!(
            "the buffer's video meta says {}x{} {}, the caps say {}x{} {}",
            picture.width(),
            picture.height(),
            picture.format(),
            info.width(),
            info.height(),
            info.format()
        ));
    }
    let planes = (0..format.plane_count() as u8)
        .map(|index| {
            let component = Component::new(info, picture.plane_stride(), index)?;
            let data = picture
                .plane_data(component.plane)
                .map_err(|_| mismatch())?;
            component.read(data, format.depth).ok_or_else(mismatch)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let size = Size::new(info.width() as usize, info.height() as usize);
    Frame::new(format, size, planes).map_err(|e| e.to_string())
}

/// Puts `frame` into `buffer`, whose layout is that of `info` or of its own video meta.
///
/// # Errors
/// When the buffer cannot take it.
pub(crate) fn write(
    frame: &Frame,
    buffer: &mut gst::BufferRef,
    info: &VideoInfo,
) -> Result<(), String> {
    let bytes = buffer.size();
    let mismatch = || {
        format!(
            "a {} frame does not fit a buffer of {bytes} bytes",
            frame.size()
        )
    };
    let mut picture =
        VideoFrameRef::from_buffer_ref_writable(buffer, info).map_err(|_| mismatch())?;
    let format = info.format_info();
    let pads_pixels = format.is_rgb() && !format.has_alpha() && info.comp_pstride(0) == 4;
    if pads_pixels {
        // The fourth byte of RGBx and its kin reads as opaque.
        picture
            .plane_data_mut(0)
            .map_err(|_| mismatch())?
            .fill(0xff);
    }
    for (index, samples) in frame.planes().iter().enumerate() {
        let component = Component::new(info, picture.plane_stride(), index as u8)?;
        let data = picture
            .plane_data_mut(component.plane)
            .map_err(|_| mismatch())?;
        component.write(data, samples).ok_or_else(mismatch)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
