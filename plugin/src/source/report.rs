// SPDX-License-Identifier: MPL-2.0
//! Messages on the bus, and tags. None of these may be called with a lock held: applications answer from their
//! handlers.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flashvideo::{CancelToken, Error, Event, GenerateOptions, GeneratorInfo, Progress};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::imp::FlashVideoSrc;

/// Part of a clip's time that its sampling takes; decoding takes the rest.
const SAMPLING: f64 = 0.7;

/// How far a clip is.
struct Course {
    begin: Instant,
    totals: [(&'static str, u64); 2],
    percent: u32,
}

impl Course {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            totals: [("sample", 0), ("decode", 0)],
            percent: 0,
        }
    }

    /// Percent and remaining seconds, when `event` makes more percent.
    fn advance(&mut self, event: &Event) -> Option<(u32, f64)> {
        match *event {
            Event::Started {
                step,
                total: Some(total),
            } => {
                for known in self.totals.iter_mut().filter(|(name, _)| *name == step) {
                    known.1 = total;
                }
                None
            }
            Event::Advanced { step, done } => {
                let index = self.totals.iter().position(|(name, _)| *name == step)?;
                let part = done as f64 / self.totals.get(index)?.1.max(1) as f64;
                let share = match index {
                    0 => SAMPLING * part,
                    _ => SAMPLING + (1.0 - SAMPLING) * part,
                };
                let percent = ((share * 100.0) as u32).min(100);
                if percent <= self.percent {
                    return None;
                }
                self.percent = percent;
                let elapsed = self.begin.elapsed().as_secs_f64();
                Some((percent, elapsed * (1.0 - share) / share))
            }
            _ => None,
        }
    }
}

impl FlashVideoSrc {
    /// Posts what went wrong and what to do about it. A cancellation is no error.
    pub(super) fn post_failure(&self, error: &Error) {
        let Some(message) = crate::failure::message(error) else {
            return;
        };
        gst::error!(CAT, imp = self, "{error}");
        self.post_error_message(message);
    }

    /// Runs `work` between Progress messages of the code `code` about `what`.
    pub(super) fn report(
        &self,
        code: &'static str,
        what: &str,
        cancel: CancelToken,
        work: impl FnOnce(&Progress) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let post = |kind, text: &str| self.post_progress(kind, code, text, None);
        gst::info!(CAT, imp = self, "{code}: {what}");
        post(gst::ProgressType::Start, what);
        let weak = self.obj().downgrade();
        let course = Mutex::new(Course::new());
        let listener = move |event| {
            let Some(element) = weak.upgrade() else {
                return;
            };
            if let Event::Warning(text) = &event {
                gst::element_warning!(element, gst::ResourceError::Settings, ("{text}"));
            }
            let advance = course
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .advance(&event);
            if let Some((percent, seconds)) = advance {
                let text = format!("{percent} %, about {seconds:.0} s left");
                let kind = gst::ProgressType::Continue;
                let details = Some((percent, seconds));
                element.imp().post_progress(kind, code, &text, details);
            }
        };
        let result = work(&Progress::new(cancel, listener));
        match &result {
            Ok(()) => post(gst::ProgressType::Complete, &format!("{what}: complete")),
            Err(error) if error.is_cancelled() => {
                post(gst::ProgressType::Canceled, &format!("{what}: cancelled"));
            }
            Err(error) => post(gst::ProgressType::Error, &format!("{what}: {error}")),
        }
        result
    }

    /// Posts how far a long step is; `details` are percent and remaining seconds.
    fn post_progress(
        &self,
        kind: gst::ProgressType,
        code: &str,
        text: &str,
        details: Option<(u32, f64)>,
    ) {
        let mut message = gst::message::Progress::builder(kind, code, text).src(&*self.obj());
        if let Some((percent, seconds)) = details {
            message = message
                .other_field("percent", percent)
                .other_field("remaining", seconds);
        }
        // Refused only while the bus is flushing, when nobody listens anyway.
        let _ = self.obj().post_message(message.build());
    }

    /// The model has never seen a word of `prompt`.
    pub(super) fn warn_about_words(&self, prompt: &str, info: &GeneratorInfo) {
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            (
                "the model {} knows no word of \"{prompt}\": it shows {}. For any prompt, load the released model: \
                 run `flashvideo fetch` and set model= to its folder",
                info.name,
                info.world
            )
        );
    }

    /// Sends the tags of a clip down the stream, in front of its first frame.
    pub(super) fn send_tags(&self, options: &GenerateOptions, model: &str) {
        let mut tags = gst::TagList::new();
        let comment = format!("seed {}, model {model}", options.seed);
        {
            let tags = tags.make_mut();
            tags.add::<gst::tags::Title>(&options.prompt.as_str(), gst::TagMergeMode::Replace);
            tags.add::<gst::tags::Comment>(&comment.as_str(), gst::TagMergeMode::Replace);
            tags.set_scope(gst::TagScope::Stream);
        }
        // The base class pushes it after caps and segment. Through the element itself this would wait for the lock of state
        // changes, and those wait for the streaming thread.
        if !self.parent_send_event(gst::event::Tag::new(tags)) {
            gst::debug!(CAT, imp = self, "the tags of a clip were not taken");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_rise_over_both_steps() {
        let mut course = Course::new();
        let started = |step, total| Event::Started {
            step,
            total: Some(total),
        };
        let advanced = |step, done| Event::Advanced { step, done };
        assert!(course.advance(&started("sample", 4)).is_none());
        assert_eq!(course.advance(&advanced("sample", 2)).unwrap().0, 35);
        assert!(course.advance(&advanced("sample", 2)).is_none());
        assert_eq!(course.advance(&advanced("sample", 4)).unwrap().0, 70);
        assert!(course.advance(&started("decode", 2)).is_none());
        assert_eq!(course.advance(&advanced("decode", 1)).unwrap().0, 85);
        let (percent, remaining) = course.advance(&advanced("decode", 2)).unwrap();
        assert_eq!((percent, remaining), (100, 0.0));
        assert!(course.advance(&advanced("load", 9)).is_none());
    }
}
