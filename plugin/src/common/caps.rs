// SPDX-License-Identifier: MPL-2.0
//! The raw video of both elements' pads.

use gst_video::{VideoCapsBuilder, VideoInfo, VideoInterlaceMode};

use super::frame::FORMATS;

/// A description of raw video.
pub(crate) type Builder = VideoCapsBuilder<gst::caps::NoFeature>;

/// Raw video of any format that can be read and written, and of any interlace mode.
pub(crate) fn raw_video() -> Builder {
    VideoCapsBuilder::new().format_list(FORMATS)
}

/// Only whole frames.
pub(crate) fn progressive(builder: Builder) -> Builder {
    builder.field("interlace-mode", VideoInterlaceMode::Progressive.to_str())
}

/// Caps that are kept until the process ends, which the leaks tracer need not report.
pub(crate) fn lasting(builder: Builder) -> gst::Caps {
    let mut caps = builder.build();
    caps.make_mut().mark_may_be_leaked();
    caps
}

/// What fixed caps say about frames.
///
/// # Errors
/// A sentence, when they do not describe raw video.
pub(crate) fn parse(caps: &gst::CapsRef) -> Result<VideoInfo, String> {
    VideoInfo::from_caps(caps).map_err(|_| format!("caps {caps} do not describe raw video"))
}

/// `caps` as far as `filter` lets them pass, in the order of `filter`.
pub(crate) fn filtered(caps: gst::Caps, filter: Option<&gst::Caps>) -> gst::Caps {
    match filter {
        Some(filter) => filter.intersect_with_mode(&caps, gst::CapsIntersectMode::First),
        None => caps,
    }
}
