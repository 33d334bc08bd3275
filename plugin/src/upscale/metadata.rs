// SPDX-License-Identifier: MPL-2.0
//! What travels with a frame through the model: timestamps, offsets, flags and metas of its input buffer.

use gst::meta::{MetaAPI, MetaTransformCopy, tags};
use gst_video::VideoInfo;
use gst_video::video_meta::{VideoMetaTransformScale, tags as video_tags};

/// A buffer without memory, so that a bounded upstream pool gets its picture back while the frame is in the model.
#[derive(Debug)]
pub(super) struct Metadata(gst::Buffer);

impl Metadata {
    /// Remembers everything of `buffer` but the picture.
    pub fn of(buffer: &gst::BufferRef) -> Result<Self, glib::BoolError> {
        let mut kept = gst::Buffer::new();
        buffer.copy_into(
            kept.make_mut(),
            gst::BufferCopyFlags::FLAGS
                | gst::BufferCopyFlags::TIMESTAMPS
                | gst::BufferCopyFlags::META,
            ..,
        )?;
        Ok(Self(kept))
    }

    /// When the frame is to be seen, in its segment.
    pub fn pts(&self) -> Option<gst::ClockTime> {
        self.0.pts()
    }

    /// Gives `output` what the input buffer had. Metas that carry positions in the picture are scaled with it; metas
    /// that describe memory stay with the memory they describe.
    pub fn apply(
        &self,
        output: &mut gst::BufferRef,
        input_info: &VideoInfo,
        output_info: &VideoInfo,
    ) -> Result<(), glib::BoolError> {
        self.0.copy_into(
            output,
            gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS,
            ..,
        )?;
        let scale = VideoMetaTransformScale::new(input_info, output_info);
        for meta in self.0.iter_meta::<gst::Meta>() {
            if meta.api() == gst_video::VideoMeta::meta_api()
                || meta.has_tag::<tags::Memory>()
                || meta.has_tag::<tags::MemoryReference>()
            {
                continue;
            }
            if meta.has_tag::<video_tags::Size>() && meta.transform(output, &scale).is_ok() {
                continue;
            }
            // A meta that does not want to be copied refuses; that is its right.
            let _ = meta.transform(output, &MetaTransformCopy::new(..));
        }
        Ok(())
    }
}
