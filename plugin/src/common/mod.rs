// SPDX-License-Identifier: MPL-2.0
//! What both elements need.
//!
//! | file | subject |
//! |---|---|
//! | `property` | values of GObject properties: numbers that stand for "unset" outside, `Option` inside |
//! | `compute` | the properties `device`, `dtype` and `threads`, and the runtime they ask for |
//! | `number_type` | the GObject enum of `dtype` |
//! | `caps` | the raw video of both elements' pads |
//! | `frame` | buffers to frames of the runtime and back |
//! | `error` | what an error of the runtime is called on the bus |
//! | `messages` | errors, warnings, latency and progress on the bus |
//! | `course` | percent and remaining time of a long step |
//! | `lock` | locks that outlive a panic elsewhere |

pub(crate) mod caps;
pub(crate) mod compute;
mod course;
mod error;
pub(crate) mod frame;
mod lock;
pub(crate) mod messages;
mod number_type;
pub(crate) mod property;

pub(crate) use error::error_message;
pub(crate) use lock::{lock, wait};
pub use number_type::NumberType;

/// Puts the types of this folder into the plugin's documentation.
#[cfg(feature = "doc")]
pub(crate) fn mark_as_plugin_api() {
    use gst::prelude::*;

    NumberType::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
}
