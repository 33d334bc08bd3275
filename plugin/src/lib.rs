// SPDX-License-Identifier: MPL-2.0
//! GStreamer elements of FlashVideo.
