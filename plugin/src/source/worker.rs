// SPDX-License-Identifier: MPL-2.0
//! The thread that loads the model and makes clips.

use std::time::Instant;

use flashvideo::{CancelToken, Error, Event, Generator};
use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::FlashVideoSrc;
use super::progress::ClipProgress;
use super::queue::{ClipQueue, Task};
use crate::common::messages::{Messages, Step};

/// The thread: works for `element` until it is told to quit.
pub(super) fn work(
    queue: &ClipQueue,
    generator: &Generator,
    element: &glib::WeakRef<super::FlashVideoSrc>,
) {
    let mut warned = None;
    while let Some((task, cancel)) = queue.begin() {
        let result = match element.upgrade() {
            Some(element) => element.imp().catch_panic(
                || Err(Error::invalid("the model's thread panicked")),
                |imp| imp.carry_out(&task, queue, generator, cancel, &mut warned),
            ),
            None => Err(Error::Cancelled),
        };
        queue.finish(task, result);
    }
}

impl FlashVideoSrc {
    fn carry_out(
        &self,
        task: &Task,
        queue: &ClipQueue,
        generator: &Generator,
        cancel: CancelToken,
        warned: &mut Option<String>,
    ) -> Result<(), Error> {
        match task {
            Task::Load => {
                let step = Step {
                    code: "load-model",
                    what: &format!("Loading model {}", generator.info().name),
                };
                let share = |_: &Event| None;
                self.reported(step, cancel, share, |progress| generator.preload(progress))
            }
            Task::Make(options) => {
                if !generator.info().knows(&options.prompt)
                    && warned.as_ref() != Some(&options.prompt)
                {
                    *warned = Some(options.prompt.clone());
                    self.warn_about_words(&options.prompt, generator.info());
                }
                let step = Step {
                    code: "generate",
                    what: &format!("clip \"{}\", seed {}", options.prompt, options.seed),
                };
                let mut clip = ClipProgress::new();
                let share = move |event: &Event| clip.share(event);
                let begin = Instant::now();
                self.reported(step, cancel, share, |progress| {
                    generator.pictures(options, progress, |frame| {
                        queue.push(options, frame);
                        Ok(())
                    })
                })?;
                self.stats().clip_made(begin.elapsed());
                self.obj().notify("stats");
                Ok(())
            }
        }
    }
}
