// SPDX-License-Identifier: MPL-2.0
//! The element between two harness pads, and pictures for it.

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

pub use crate::common::{Fixture, PATIENCE, bytes, init};

pub const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);

/// An element with these properties; the small model unless said otherwise.
pub fn element(properties: &[(&str, &str)]) -> gst::Element {
    crate::common::make(
        "flashupscale",
        &[&[("preset", "live")][..], properties].concat(),
    )
}

impl Fixture {
    /// In PLAYING, without caps.
    pub fn new(properties: &[(&str, &str)]) -> Self {
        let mut fixture = Self::of(element(properties));
        fixture.harness.play();
        fixture
    }

    /// In PLAYING, with I420 frames of this size to come.
    pub fn with_size(width: u32, height: u32, properties: &[(&str, &str)]) -> Self {
        let mut fixture = Self::new(properties);
        fixture
            .harness
            .set_src_caps(caps(VideoFormat::I420, width, height));
        fixture
    }

    pub fn eos(&mut self) {
        assert!(self.harness.push_event(gst::event::Eos::new()));
    }

    /// Waits for EOS and returns everything that came before.
    pub fn finish(&mut self) -> Vec<gst::Buffer> {
        self.eos();
        self.events_to_eos();
        self.buffers()
    }

    pub fn error(&self) -> (glib::Error, String) {
        match self.message(gst::MessageType::Error).view() {
            gst::MessageView::Error(error) => (error.error(), error.error().to_string()),
            _ => unreachable!("filtered"),
        }
    }

    pub fn output_caps(&self) -> gst::Caps {
        self.element
            .static_pad("src")
            .unwrap()
            .current_caps()
            .unwrap()
    }
}

pub fn caps(format: VideoFormat, width: u32, height: u32) -> gst::Caps {
    init();
    VideoInfo::builder(format, width, height)
        .fps((25, 1))
        .build()
        .unwrap()
        .to_caps()
        .unwrap()
}

/// A picture with gradients and edges, frame number `index` of a stream of 25 per second.
pub fn picture(format: VideoFormat, width: u32, height: u32, index: u64) -> gst::Buffer {
    init();
    let info = VideoInfo::builder(format, width, height).build().unwrap();
    let mut bytes = vec![0u8; info.size()];
    let bits10 = info.comp_depth(0) > 8;
    for (i, byte) in bytes.iter_mut().enumerate() {
        // The high byte of low-aligned 10-bit samples has two bits.
        *byte = if bits10 && i % 2 == 1 && format == VideoFormat::I42010le {
            (i / 16 % 3) as u8
        } else {
            (i * 3 + i / 16 * 29 + index as usize * 5) as u8
        };
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    {
        let buffer = buffer.get_mut().unwrap();
        buffer.set_pts(FRAME * index);
        buffer.set_duration(FRAME);
        buffer.set_offset(index);
        buffer.set_offset_end(index + 1);
    }
    buffer
}

pub fn i420(width: u32, height: u32, index: u64) -> gst::Buffer {
    picture(VideoFormat::I420, width, height, index)
}
