// SPDX-License-Identifier: MPL-2.0
//! Messages on the bus. None of these may be called with a lock held: applications answer from their handlers.

use flashvideo::{Error, Event, Progress};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::imp::FlashUpscale;

impl FlashUpscale {
    /// Posts what went wrong and what to do about it. A cancellation is no error.
    pub(super) fn post_failure(&self, error: &Error) {
        let Some(message) = crate::failure::message(error) else {
            return;
        };
        gst::error!(CAT, imp = self, "{error}");
        self.post_error_message(message);
    }

    /// Posts how far a long step is.
    pub(super) fn post_progress(&self, kind: gst::ProgressType, code: &str, text: &str) {
        let message = gst::message::Progress::builder(kind, code, text)
            .src(&*self.obj())
            .build();
        // Refused only while the bus is flushing, when nobody listens anyway.
        let _ = self.obj().post_message(message);
    }

    /// Asks the pipeline to distribute the latency anew.
    pub(super) fn post_latency(&self) {
        let message = gst::message::Latency::builder().src(&*self.obj()).build();
        let _ = self.obj().post_message(message);
    }

    /// A listener that makes the runtime's warnings the element's.
    pub(super) fn progress(&self, cancel: flashvideo::CancelToken) -> Progress {
        let weak = self.obj().downgrade();
        Progress::new(cancel, move |event| {
            let Some(element) = weak.upgrade() else {
                return;
            };
            match event {
                Event::Warning(text) => {
                    gst::element_warning!(element, gst::ResourceError::Settings, ("{text}"));
                }
                other => gst::trace!(CAT, obj = element, "{other:?}"),
            }
        })
    }
}
