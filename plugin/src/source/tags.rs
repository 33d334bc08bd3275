// SPDX-License-Identifier: MPL-2.0
//! What is told about a clip: tags downstream, a warning about a prompt of unknown words.

use flashvideo::{GenerateOptions, GeneratorInfo};
use gst::subclass::prelude::*;

use super::CAT;
use super::imp::FlashVideoSrc;

impl FlashVideoSrc {
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
