// SPDX-License-Identifier: MPL-2.0
//! `flashvideosrc`: clips made from a prompt.
//!
//! | file | subject |
//! |---|---|
//! | `imp` | the GObject: properties, state changes |
//! | `src` | what the base class asks: negotiation, seeking, frames |
//! | `settings` | values of the properties, and what they mean for a model |
//! | `prompts` | the file of prompts |
//! | `playlist` | which clip comes when |
//! | `cache` | clips that are kept |
//! | `studio` | the thread that makes clips, and how it is stopped |
//! | `caps` | negotiation arithmetic |
//! | `clock` | timestamps of frames |
//! | `report` | messages on the bus and tags |
//! | `stats` | the `stats` property |

use gst::glib;
use gst::prelude::*;
use once_cell::sync::Lazy;

mod cache;
mod caps;
mod clock;
mod imp;
mod playlist;
mod prompts;
mod report;
mod settings;
mod src;
mod stats;
mod studio;

pub(crate) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "flashvideosrc",
        gst::DebugColorFlags::empty(),
        Some("FlashVideo text-to-video source"),
    )
});

/// Number type of the model's weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstFlashVideoNumberType")]
pub enum NumberType {
    /// What suits the device: f32 on the processor, bf16 on GPUs.
    #[default]
    #[enum_value(name = "What suits the device", nick = "auto")]
    Auto,
    /// 32-bit floating point.
    #[enum_value(name = "32-bit floating point", nick = "f32")]
    F32,
    /// 16 bits with the range of f32.
    #[enum_value(name = "16-bit brain floating point", nick = "bf16")]
    Bf16,
    /// IEEE half precision.
    #[enum_value(name = "16-bit floating point", nick = "f16")]
    F16,
}

glib::wrapper! {
    /// The element `flashvideosrc`.
    pub struct FlashVideoSrc(ObjectSubclass<imp::FlashVideoSrc>)
        @extends gst_base::PushSrc, gst_base::BaseSrc, gst::Element, gst::Object,
        @implements gst::Preset;
}

/// Registers the element. Its rank is none: it is chosen by name.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    NumberType::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());

    gst::Element::register(
        Some(plugin),
        "flashvideosrc",
        gst::Rank::NONE,
        FlashVideoSrc::static_type(),
    )
}
