// SPDX-License-Identifier: MPL-2.0
//! The next picture of the stream.

use flashvideo::media::pictures::fit;
use gst::subclass::prelude::*;
use gst_base::prelude::*;

use super::imp::FlashVideoSrc;
use super::position::{Output, Picture};
use super::queue::{Answer, ClipQueue};
use crate::common::messages::Messages;

impl FlashVideoSrc {
    /// The next picture; waits for it, unless the stream is live and there is one to repeat.
    ///
    /// # Errors
    /// The flow to return. What happened is on the bus already.
    pub(super) fn next_picture(
        &self,
        queue: &ClipQueue,
        output: &Output,
    ) -> Result<Picture, gst::FlowError> {
        let (next, last) = {
            let position = self.position();
            (position.next, position.last.clone())
        };
        let frames = queue.frames().max(1) as u64;
        let (clip, index) = (next / frames, (next % frames) as usize);
        let wait = last.is_none() || !self.obj().is_live();
        match queue.frame(clip, index, wait) {
            Answer::Frame(frame) => {
                let frame = fit(&frame, output.size, &output.format).map_err(|error| {
                    self.post_failure(&error);
                    gst::FlowError::Error
                })?;
                self.announce(queue, clip);
                Ok(Picture {
                    frame,
                    repeated: false,
                })
            }
            Answer::NotYet => {
                let frame = last.ok_or(gst::FlowError::Error)?;
                Ok(Picture {
                    frame,
                    repeated: true,
                })
            }
            Answer::End => Err(gst::FlowError::Eos),
            Answer::Stopped => Err(gst::FlowError::Flushing),
            Answer::Failed(error) => {
                if let Some(error) = error {
                    self.post_failure(&error);
                }
                Err(gst::FlowError::Error)
            }
        }
    }

    /// Tells what clip `clip` shows, before its first frame.
    fn announce(&self, queue: &ClipQueue, clip: u64) {
        if self.position().tagged.replace(clip) == Some(clip) {
            return;
        }
        if let (Some(options), Some(generator)) = (queue.clip(clip), self.generator()) {
            self.stats().clip_begun(&options);
            self.obj().notify("stats");
            self.send_tags(&options, &generator.info().name);
        }
    }
}
