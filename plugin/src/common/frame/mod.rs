// SPDX-License-Identifier: MPL-2.0
//! Buffers to frames of the runtime and back: a picture is copied once on its way in and once on its way out.

mod component;
mod format;
#[cfg(test)]
mod tests;

use flashvideo::{Frame, FrameFormat};
use gst_video::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};

use self::component::Component;
pub(crate) use self::format::{FORMATS, frame_format, frame_size};

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
    Frame::new(format, frame_size(info), planes).map_err(|e| e.to_string())
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
    if let Some(padding) = Component::padding(info, picture.plane_stride())? {
        // It reads as opaque.
        let data = picture
            .plane_data_mut(padding.plane)
            .map_err(|_| mismatch())?;
        padding.fill(data, u8::MAX).ok_or_else(mismatch)?;
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
