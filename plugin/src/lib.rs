// SPDX-License-Identifier: MPL-2.0
//! GStreamer elements of FlashVideo.
//!
//! `flashvideosrc` makes clips from a prompt, `flashupscale` enlarges and sharpens a video by flow matching. The arithmetic is in the crate `flashvideo`; this
//! crate knows pads, caps, events and threads, and never a tensor.
//!
//! | folder | subject |
//! |---|---|
//! | `source` | the element `flashvideosrc` |
//! | `upscale` | the element `flashupscale` |
//! | `common` | what both need: properties, messages, buffers to frames |

// The documentation of GStreamer is made of comments in front of what they describe, or of nothing.
#![allow(unused_doc_comments)]

/**
 * SECTION:plugin-flashvideo
 *
 * Text to video and video enhancement by flow matching.
 *
 * Since: 0.1.0
 */
mod common;
mod source;
mod upscale;

pub use common::NumberType;
pub use source::FlashVideoSrc;
pub use upscale::{FlashUpscale, Preset};

/// Registers the elements. Nothing else happens when the plugin is loaded: no weights, no threads, no devices.
fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    common::mark_as_plugin_api();
    source::register(plugin)?;
    upscale::register(plugin)
}

#[allow(missing_docs)] // written by the macro
mod definition {
    use super::plugin_init;

    gst::plugin_define!(
        flashvideo,
        env!("CARGO_PKG_DESCRIPTION"),
        plugin_init,
        concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
        "MPL",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_REPOSITORY"),
        env!("BUILD_REL_DATE")
    );
}

pub use definition::plugin_register_static;
