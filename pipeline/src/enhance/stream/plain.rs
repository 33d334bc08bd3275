//! Frames resized without a model.

use std::collections::VecDeque;
use std::time::Duration;

use super::Session;
use crate::cpu::resize::{ResizeBuffers, resize_frame_plane};
use crate::enhance::EnhanceOptions;
use crate::error::Result;
use crate::media::frame::Frame;
use crate::progress::{CancelToken, Progress};
use crate::size::Size;

/// Resizes one frame without a model: an antialiased Lanczos resize with the frame's own chroma siting.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for an empty size.
pub fn plain_resize(frame: &Frame, size: Size) -> Result<Frame> {
    resized(frame, size, &CancelToken::new())
}

fn resized(frame: &Frame, size: Size, cancel: &CancelToken) -> Result<Frame> {
    if frame.size() == size {
        return Ok(frame.clone());
    }
    let mut buffers = ResizeBuffers::default();
    let planes: Result<_> = (0..frame.planes().len())
        .map(|index| resize_frame_plane(frame, index, size, &mut buffers, cancel))
        .collect();
    Frame::new(*frame.format(), size, planes?)
}

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

    fn next(&mut self, _: bool, progress: &Progress) -> Result<Option<Frame>> {
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
