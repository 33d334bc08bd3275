//! Frames in, frames out: any length in bounded memory.

use std::sync::Arc;
use std::time::Duration;

use crate::clip::{Frame, FrameFormat, Size};
use crate::error::Result;
use crate::progress::Progress;
use crate::stage2::{EnhanceOptions, Enhancer};

/// What a stream has done so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamStats {
    /// Frames finished.
    pub frames: u64,
    /// Time spent in the model and around it.
    pub busy: Duration,
    /// Function evaluations done.
    pub evaluations: u64,
    /// Time spent in function evaluations.
    pub evaluating: Duration,
    /// Largest planned memory in bytes, beside the weights.
    pub peak_memory: u64,
}

/// Enhances frames one after another. Each frame carries a token `T` (timestamps, metadata) that comes back with it.
///
/// N frames in are N frames out, in order. A scene cut is found by itself; frames never mix across it.
#[derive(Debug)]
pub struct EnhanceStream<T> {
    _token: std::marker::PhantomData<T>,
}

impl<T: Send> EnhanceStream<T> {
    /// A stream for frames of `format` and `size`.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for impossible sizes or settings, [`Error::Memory`](crate::Error::Memory)
    /// when even the smallest tiles would not fit.
    pub fn new(
        _enhancer: Arc<Enhancer>,
        _format: FrameFormat,
        _size: Size,
        _options: EnhanceOptions,
        _progress: Progress,
    ) -> Result<Self> {
        todo!()
    }

    /// Size of the frames that come out.
    pub fn output_size(&self) -> Size {
        todo!()
    }

    /// Settings for the windows that start after this call; the target stays as it was.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for impossible settings; the old ones stay.
    pub fn set_options(&mut self, _options: EnhanceOptions) -> Result<()> {
        todo!()
    }

    /// Takes a frame and returns those that are finished by it (none or more).
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) when format or size differ from the stream's,
    /// [`Error::Cancelled`](crate::Error::Cancelled) once the token is triggered.
    pub fn push(&mut self, _frame: Frame, _token: T) -> Result<Vec<(Frame, T)>> {
        todo!()
    }

    /// Finishes all frames that are still inside; the stream is then as new.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn drain(&mut self) -> Result<Vec<(Frame, T)>> {
        todo!()
    }

    /// Forgets all frames that are still inside.
    pub fn reset(&mut self) {
        todo!()
    }

    /// What was done so far.
    pub fn stats(&self) -> StreamStats {
        todo!()
    }
}

/// Enlarges one frame without a model: an antialiased Lanczos resize with the frame's own chroma siting.
///
/// # Errors
/// [`Error::Invalid`](crate::Error::Invalid) for an empty size.
pub fn plain_resize(_frame: &Frame, _size: Size) -> Result<Frame> {
    todo!()
}
