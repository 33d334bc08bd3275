// SPDX-License-Identifier: MPL-2.0
//! Messages on the bus. None of these may be called with a lock held: applications answer from their handlers.

use std::sync::Mutex;

use flashvideo::{CancelToken, Error, Event, Progress};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::course::{Advance, Course};
use super::{error_message, lock};

/// A long step as applications know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// Code of its Progress messages.
    pub code: &'static str,
    /// What is done, for people.
    pub what: &'a str,
}

/// What an element posts on its bus.
pub(crate) trait Messages: ElementImpl {
    /// Where the element logs to.
    fn category() -> gst::DebugCategory;

    /// Posts what went wrong and what to do about it. A cancellation is no error.
    fn post_failure(&self, error: &Error) {
        let Some(message) = error_message(error) else {
            return;
        };
        gst::error!(Self::category(), imp = self, "{error}");
        self.post_error_message(message);
    }

    /// Asks the pipeline to distribute the latency anew.
    fn post_latency(&self) {
        let element = element(self);
        let message = gst::message::Latency::builder().src(&element).build();
        let _ = element.post_message(message);
    }

    /// A listener that makes the runtime's warnings the element's.
    fn listener(&self, cancel: CancelToken) -> Progress {
        let (weak, category) = (element(self).downgrade(), Self::category());
        Progress::new(cancel, move |event| {
            if let Some(element) = weak.upgrade() {
                tell(&element, category, &event);
            }
        })
    }

    /// Runs `work` between Progress messages: that it starts, each percent as far as `share` knows from an event which part
    /// in 0..=1 is done, and how it ended.
    ///
    /// # Errors
    /// Those of `work`. The last Progress message tells of them; no error message is posted.
    fn reported<R>(
        &self,
        step: Step<'_>,
        cancel: CancelToken,
        share: impl FnMut(&Event) -> Option<f64> + Send + 'static,
        work: impl FnOnce(&Progress) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (element, category) = (element(self), Self::category());
        let Step { code, what } = step;
        gst::info!(category, obj = element, "{code}: {what}");
        let post = |kind, text: &str| post_progress(&element, kind, (code, text), None);
        post(gst::ProgressType::Start, what);
        let (weak, course) = (element.downgrade(), Mutex::new((Course::new(), share)));
        let progress = Progress::new(cancel, move |event| {
            let Some(element) = weak.upgrade() else {
                return;
            };
            tell(&element, category, &event);
            let advance = {
                let (course, share) = &mut *lock(&course);
                share(&event).and_then(|share| course.advance(share))
            };
            if let Some(advance) = advance {
                let Advance { percent, remaining } = advance;
                let text = format!("{percent} %, about {remaining:.0} s left");
                let kind = gst::ProgressType::Continue;
                post_progress(&element, kind, (code, &text), Some(advance));
            }
        });
        let result = work(&progress);
        match &result {
            Ok(_) => post(gst::ProgressType::Complete, &format!("{what}: complete")),
            Err(error) if error.is_cancelled() => {
                post(gst::ProgressType::Canceled, &format!("{what}: cancelled"));
            }
            Err(error) => post(gst::ProgressType::Error, &format!("{what}: {error}")),
        }
        result
    }
}

fn element<T: ElementImpl>(imp: &T) -> gst::Element {
    imp.obj().clone().upcast()
}

/// Makes a warning of the runtime the element's; everything else is for the log.
fn tell(element: &gst::Element, category: gst::DebugCategory, event: &Event) {
    match event {
        Event::Warning(text) => {
            gst::element_warning!(element, gst::ResourceError::Settings, ("{text}"));
        }
        other => gst::trace!(category, obj = element, "{other:?}"),
    }
}

/// Posts how far the long step of this code is.
fn post_progress(
    element: &gst::Element,
    kind: gst::ProgressType,
    (code, text): (&str, &str),
    advance: Option<Advance>,
) {
    let mut message = gst::message::Progress::builder(kind, code, text).src(element);
    if let Some(Advance { percent, remaining }) = advance {
        message = message
            .other_field("percent", percent)
            .other_field("remaining", remaining);
    }
    // Refused only while the bus is flushing, when nobody listens anyway.
    let _ = element.post_message(message.build());
}
