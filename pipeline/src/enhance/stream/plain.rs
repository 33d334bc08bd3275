// SPDX-License-Identifier: MPL-2.0
//! Frames resized without a model.

use std::collections::VecDeque;
use std::time::Duration;

use super::Session;
use crate::enhance::EnhanceOptions;
use crate::enhance::control::Rung;
use crate::error::Result;
use crate::media::frame::Frame;
use crate::media::resize::resized;
use crate::progress::Progress;
use crate::size::Size;

/// A stream whose target leaves nothing for a model to do.
#[derive(Debug)]
pub(super) struct PlainSession {
    output: Size,
    frames: VecDeque<Frame>,
}

impl PlainSession {
    pub fn new(output: Size) -> Self {
        Self {
            output,
            frames: VecDeque::new(),
        }
    }
}

impl Session for PlainSession {
    fn set_options(&mut self, options: &EnhanceOptions, _: &Progress) -> Result<()> {
        options.check()
    }

    fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame);
    }

    fn is_ready(&self, _: bool) -> bool {
        !self.frames.is_empty()
    }

    fn next(&mut self, _: bool, _: Rung, progress: &Progress) -> Result<Option<Frame>> {
        let Some(frame) = self.frames.front() else {
            return Ok(None);
        };
        let frame = resized(frame, self.output, progress.cancel_token())?;
        self.frames.pop_front();
        Ok(Some(frame))
    }

    fn reset(&mut self) {
        self.frames.clear();
    }

    fn evaluations(&self) -> (u64, Duration) {
        (0, Duration::ZERO)
    }

    fn memory(&self) -> u64 {
        0
    }

    fn look_ahead(&self) -> usize {
        0
    }
}
