// SPDX-License-Identifier: MPL-2.0
//! `flashvideosrc`: clips made from a prompt.
//!
//! | file | subject |
//! |---|---|
//! | `imp` | the GObject: state changes, what its threads share |
//! | `properties` | the properties as GObject has them |
//! | `settings` | their values, and what they mean for a model |
//! | `base_src` | what the base class asks: start and stop, caps, seeking, the next buffer |
//! | `model` | the model and the clips that the properties ask for |
//! | `stream` | where the stream is, and its next picture |
//! | `caps` | negotiation arithmetic |
//! | `rate` | timestamps of frames |
//! | `prompts` | the file of prompts |
//! | `playlist` | which clip comes when |
//! | `queue` | clips between the worker, which makes them, and the streaming thread, which plays them |
//! | `cache` | clips that are kept |
//! | `worker` | the thread that loads the model and makes clips |
//! | `progress` | how far a clip is |
//! | `tags` | what is told about a clip |
//! | `stats` | the `stats` property |

use once_cell::sync::Lazy;

use gst::glib;
use gst::prelude::*;

mod base_src;
mod cache;
mod caps;
mod imp;
mod model;
mod playlist;
mod position;
mod progress;
mod prompts;
mod properties;
mod queue;
mod rate;
mod settings;
mod stats;
mod stream;
mod tags;
mod worker;

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "flashvideosrc",
        gst::DebugColorFlags::empty(),
        Some("FlashVideo text-to-video source"),
    )
});

glib::wrapper! {
    /// The element `flashvideosrc`.
    pub struct FlashVideoSrc(ObjectSubclass<imp::FlashVideoSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::Preset;
}

/// Registers the element. Its rank is none: it is chosen by name.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "flashvideosrc",
        gst::Rank::NONE,
        FlashVideoSrc::static_type(),
    )
}
