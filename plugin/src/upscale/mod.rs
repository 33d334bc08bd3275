// SPDX-License-Identifier: MPL-2.0
//! `flashupscale`: one video in, the same video larger and sharper out.
//!
//! | file | subject |
//! |---|---|
//! | `imp` | the GObject: properties, pads, state changes |
//! | `settings` | values of the properties and what the presets stand for |
//! | `caps` | negotiation arithmetic |
//! | `run` | the bounded channel between the two pads and how it is stopped |
//! | `sinkpad`, `srcpad` | what other elements ask of the pads |
//! | `worker` | the source pad's task: everything serialized, in order |
//! | `output` | buffer pools and finished buffers |
//! | `ticket` | timestamps, flags and metas that travel with a frame |
//! | `loader` | loading the model beside the streaming threads |
//! | `report` | messages on the bus |
//! | `stats` | the `stats` property |

use gst::glib;
use gst::prelude::*;
use once_cell::sync::Lazy;

mod caps;
mod imp;
mod loader;
mod output;
mod report;
mod run;
mod settings;
mod sinkpad;
mod srcpad;
mod stats;
mod ticket;
mod worker;

pub(crate) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "flashupscale",
        gst::DebugColorFlags::empty(),
        Some("FlashVideo upscaler"),
    )
});

/// What to spend on each frame. Explicit properties win over what a preset says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstFlashUpscalePreset")]
pub enum Preset {
    /// The small model, one evaluation, no noise: for cameras and calls.
    #[enum_value(name = "Small model, one evaluation", nick = "live")]
    Live,
    /// The default model, one evaluation, no noise: least error for its cost.
    #[enum_value(name = "Default model, one evaluation", nick = "balanced")]
    Balanced,
    /// The default model with its own choice of evaluations and noise.
    #[default]
    #[enum_value(name = "Default model, its own best settings", nick = "quality")]
    Quality,
}

/// Number type of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, glib::Enum)]
#[enum_type(name = "GstFlashUpscaleNumberType")]
pub enum UpscaleNumberType {
    /// What suits model and device: int8 for `builtin:live` on processors with AVX-512 VNNI, bf16 on GPUs and, for compact
    /// models, on processors with instructions for it; else f32.
    #[default]
    #[enum_value(name = "What suits model and device", nick = "auto")]
    Auto,
    /// 32-bit floating point.
    #[enum_value(name = "32-bit floating point", nick = "f32")]
    F32,
    /// 16 bits with the range of f32; f32 on processors without instructions for it.
    #[enum_value(name = "16-bit brain floating point", nick = "bf16")]
    Bf16,
    /// 8-bit integers for evaluations at the start of a flow without noise, for compact models with calibrated ranges;
    /// bf16 or f32 for everything else and on processors without AVX-512 VNNI.
    #[enum_value(name = "8-bit integers where calibrated", nick = "int8")]
    Int8,
}

impl From<UpscaleNumberType> for flashvideo::NumberType {
    fn from(number: UpscaleNumberType) -> Self {
        match number {
            UpscaleNumberType::Auto => Self::Auto,
            UpscaleNumberType::F32 => Self::F32,
            UpscaleNumberType::Bf16 => Self::Bf16,
            UpscaleNumberType::Int8 => Self::Int8,
        }
    }
}

glib::wrapper! {
    /// The element `flashupscale`.
    pub struct FlashUpscale(ObjectSubclass<imp::FlashUpscale>)
        @extends gst::Element, gst::Object,
        @implements gst::Preset;
}

/// Registers the element. Its rank is none: enlarging is never what autoplugging should do by itself.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    for api in [Preset::static_type(), UpscaleNumberType::static_type()] {
        api.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }

    gst::Element::register(
        Some(plugin),
        "flashupscale",
        gst::Rank::NONE,
        FlashUpscale::static_type(),
    )
}
