// SPDX-License-Identifier: MPL-2.0
//! Where finished frames are written: downstream's buffer pool if it has a usable one, else our own.

use flashvideo::Frame;
use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoAlignment, VideoInfo};

use super::metadata::Metadata;
use crate::common::frame;

/// A configured, active pool for one output format.
///
/// Our own pool has no upper limit: downstream holds frames as long as it needs (encoders look ahead, queues have
/// minimum levels), and a limit would be a deadlock where back pressure already bounds the memory.
pub(super) struct Output {
    pool: gst::BufferPool,
    info: VideoInfo,
}

/// What downstream answered to the ALLOCATION query.
struct Allocation {
    video_meta: bool,
    alignment: VideoAlignment,
    allocator: Option<gst::Allocator>,
    params: gst::AllocationParams,
}

impl Output {
    /// Asks downstream of `pad` how it wants buffers of `caps`.
    ///
    /// # Errors
    /// When not even our own pool can be activated: there is no memory.
    pub fn decide(
        pad: &gst::Pad,
        caps: &gst::Caps,
        info: VideoInfo,
    ) -> Result<Self, glib::BoolError> {
        let mut query = gst::query::Allocation::new(Some(caps), true);
        // Without an answer the query is empty and all defaults apply.
        let _ = pad.peer_query(&mut query);
        let meta = query.find_allocation_meta::<gst_video::VideoMeta>();
        let alignment = meta
            .and_then(|index| query.allocation_metas().nth(index as usize))
            .and_then(|(_, params)| params.map(alignment))
            .unwrap_or_default();
        let (allocator, params) = query.allocation_params().next().unwrap_or_default();
        let allocation = Allocation {
            video_meta: meta.is_some(),
            alignment,
            allocator,
            params,
        };
        for (pool, size, min, max) in query.allocation_pools() {
            if let Some(pool) = pool
                && allocation
                    .activate(&pool, caps, size.max(info.size() as u32), min, max)
                    .is_ok()
            {
                return Ok(Self { pool, info });
            }
        }
        let pool = gst_video::VideoBufferPool::new().upcast::<gst::BufferPool>();
        allocation.activate(&pool, caps, info.size() as u32, 0, 0)?;
        Ok(Self { pool, info })
    }

    /// The pool, to be set flushing while a run is being stopped.
    pub fn pool(&self) -> &gst::BufferPool {
        &self.pool
    }

    /// `picture` in a buffer with the timestamps, flags and metas of `metadata`.
    ///
    /// # Errors
    /// The flow to return, and what to tell the user if there is something to tell.
    pub fn finish(
        &self,
        picture: &Frame,
        metadata: &Metadata,
        input_info: &VideoInfo,
    ) -> Result<gst::Buffer, (gst::FlowError, Option<gst::ErrorMessage>)> {
        let failed = |text: String| {
            let message = gst::error_msg!(gst::ResourceError::Write, ("{text}"));
            (gst::FlowError::Error, Some(message))
        };
        let mut buffer = self.pool.acquire_buffer(None).map_err(|flow| {
            // Flushing is no failure.
            let message = (flow == gst::FlowError::Error).then(|| {
                gst::error_msg!(
                    gst::ResourceError::NoSpaceLeft,
                    (
                        "no buffer for a frame of {}x{}; choose a smaller output size",
                        self.info.width(),
                        self.info.height()
                    )
                )
            });
            (flow, message)
        })?;
        let writable = buffer.make_mut();
        metadata
            .apply(writable, input_info, &self.info)
            .map_err(|e| failed(e.to_string()))?;
        frame::write(picture, writable, &self.info).map_err(failed)?;
        Ok(buffer)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Fails only when the pool is inactive already.
        let _ = self.pool.set_active(false);
    }
}

impl Allocation {
    fn activate(
        &self,
        pool: &gst::BufferPool,
        caps: &gst::Caps,
        size: u32,
        min: u32,
        max: u32,
    ) -> Result<(), glib::BoolError> {
        let mut config = pool.config();
        config.set_params(Some(caps), size, min, max);
        config.set_allocator(self.allocator.as_ref(), Some(&self.params));
        if self.video_meta && pool.has_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META.as_str()) {
            config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_META.as_str());
            if pool.has_option(gst_video::BUFFER_POOL_OPTION_VIDEO_ALIGNMENT.as_str()) {
                config.add_option(gst_video::BUFFER_POOL_OPTION_VIDEO_ALIGNMENT.as_str());
                config.set_video_alignment(&self.alignment);
            }
        }
        if pool.set_config(config).is_err() {
            // The pool has changed what it cannot do; take that if it still fits.
            let config = pool.config();
            config.validate_params(Some(caps), size, min, max)?;
            pool.set_config(config)?;
        }
        pool.set_active(true)
    }
}

/// The alignment in the parameters of downstream's video meta.
fn alignment(params: &gst::StructureRef) -> VideoAlignment {
    let field = |name: &str| params.get::<u32>(name).unwrap_or(0);
    VideoAlignment::new(
        field("padding-top"),
        field("padding-bottom"),
        field("padding-left"),
        field("padding-right"),
        &[
            field("stride-align0"),
            field("stride-align1"),
            field("stride-align2"),
            field("stride-align3"),
        ],
    )
}
