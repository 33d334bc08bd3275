// SPDX-License-Identifier: MPL-2.0
//! `flashupscale`: one video in, the same video larger and sharper out.
//!
//! | file | subject |
//! |---|---|
//! | `imp` | the GObject: pads, state changes, what its threads share |
//! | `properties` | the properties as GObject has them |
//! | `settings` | their values, and what the presets stand for |
//! | `caps` | negotiation arithmetic |
//! | `latency` | what a live pipeline has to wait for |
//! | `pace` | how much each frame gets where there is too little time |
//! | `run` | the bounded channel between the two pads and how it is stopped |
//! | `sinkpad`, `srcpad` | what other elements ask of the pads |
//! | `worker` | the source pad's task: everything serialized, in order |
//! | `worker/negotiation` | its caps and buffer pool |
//! | `worker/enhance` | its model: settings, frames in, frames out |
//! | `output` | buffer pools and finished buffers |
//! | `metadata` | timestamps, flags and metas that travel with a frame |
//! | `loader` | loading the model beside the streaming threads |
//! | `stats` | the `stats` property |

use once_cell::sync::Lazy;

use gst::glib;
use gst::prelude::*;

mod caps;
mod imp;
mod latency;
mod loader;
mod metadata;
mod model_slot;
mod output;
mod pace;
mod properties;
mod run;
mod settings;
mod sinkpad;
mod srcpad;
mod stats;
mod worker;

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "flashupscale",
        gst::DebugColorFlags::empty(),
        Some("FlashVideo upscaler"),
    )
});

/**
 * GstFlashUpscalePreset:
 * @live: the small model, one evaluation, no noise
 * @balanced: the default model, one evaluation, no noise
 * @quality: the default model with its own choice of evaluations and noise
 *
 * What to spend on each frame. Explicit properties win over what a preset says.
 *
 * Since: 0.1.0
 */
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

glib::wrapper! {
    /// The element `flashupscale`.
    pub struct FlashUpscale(ObjectSubclass<imp::FlashUpscale>)
        @extends gst::Element, gst::Object,
        @implements gst::Preset;
}

/// Registers the element. Its rank is none: enlarging is never what autoplugging should do by itself.
pub(crate) fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        Preset::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        pace::Adaptive::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }

    gst::Element::register(
        Some(plugin),
        "flashupscale",
        gst::Rank::NONE,
        FlashUpscale::static_type(),
    )
}
