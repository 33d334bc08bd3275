// SPDX-License-Identifier: MPL-2.0
//! Frames in, frames out: any length in bounded memory.

mod compact;
mod plain;
mod released;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::compact::CompactSession;
use self::plain::PlainSession;
use self::released::ReleasedSession;
use crate::enhance::control::Rung;
use crate::enhance::{EnhanceOptions, Enhancer, Model};
use crate::error::{Error, Result};
use crate::media::frame::{Frame, FrameFormat};
use crate::progress::{Event, Progress};
use crate::size::Size;

/// Name of the step in progress events; its unit is a frame.
const STEP: &str = "enhance";

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

/// What one kind of model does with the frames of a stream.
///
/// Frames stay inside until they are finished; an error loses none of them.
trait Session: Send + std::fmt::Debug {
    /// Takes settings for the frames that are not yet begun.
    fn set_options(&mut self, options: &EnhanceOptions, progress: &Progress) -> Result<()>;

    /// Takes the next frame of the stream.
    fn push(&mut self, frame: Frame);

    /// The next finished frame in order; none when frames after it must be seen first, unless this is the `end`. What it
    /// gets is `rung`, if it [is one](Self::rungs).
    fn next(&mut self, end: bool, rung: Rung, progress: &Progress) -> Result<Option<Frame>>;

    /// Whether [`next`](Self::next) gives a frame.
    fn is_ready(&self, end: bool) -> bool;

    /// What frames can get one by one, beside everything.
    fn rungs(&self) -> Vec<Rung> {
        Vec::new()
    }

    /// Takes a model for [`Rung::Light`].
    ///
    /// # Errors
    /// As `set_options`; there is no such rung then.
    fn set_light(&mut self, _light: &Arc<Enhancer>, _progress: &Progress) -> Result<()> {
        Ok(())
    }

    /// Forgets all frames.
    fn reset(&mut self);

    /// Function evaluations done, and the time spent in them.
    fn evaluations(&self) -> (u64, Duration);

    /// Planned memory in bytes.
    fn memory(&self) -> u64;

    /// Frames after a frame that must be seen before it can be finished, at most.
    fn look_ahead(&self) -> usize;
}

/// Decides how much each frame gets, where there may be too little time.
pub trait Pacer<T>: Send + std::fmt::Debug {
    /// For the frame with `token`, which is the next one: a rung, and when it is broken off, after which this is asked again.
    fn decide(&mut self, token: &T) -> Pace;

    /// A frame was finished with `rung` in `took`, or its rung was broken off after that.
    fn done(&mut self, rung: Rung, took: Duration, broken_off: bool);
}

/// What a [`Pacer`] decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// What the frame gets,
    pub rung: Rung,
    /// unless that is not done by then.
    pub until: Option<Instant>,
}

impl Pace {
    /// Everything, however long it takes.
    pub const FULL: Self = Self {
        rung: Rung::Full,
        until: None,
    };
}

/// Enhances frames one after another. Each frame carries a token `T` (timestamps, metadata) that comes back with it.
///
/// N frames in are N frames out, in order. A scene cut is found by itself; frames never mix across it. An error loses
/// no frame: those finished before it come with the next call, the others are tried again.
#[derive(Debug)]
pub struct EnhanceStream<T> {
    enhancer: Arc<Enhancer>,
    format: FrameFormat,
    size: Size,
    output: Size,
    progress: Progress,
    session: Box<dyn Session>,
    pacer: Option<Box<dyn Pacer<T>>>,
    tokens: VecDeque<T>,
    finished: Vec<(Frame, T)>,
    started: bool,
    frames: u64,
    busy: Duration,
    peak_memory: u64,
}

impl<T: Send> EnhanceStream<T> {
    /// A stream for frames of `format` and `size`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for impossible sizes or settings, [`Error::Memory`] when even the smallest strips would not
    /// fit.
    pub fn new(
        enhancer: Arc<Enhancer>,
        format: FrameFormat,
        size: Size,
        options: EnhanceOptions,
        progress: Progress,
    ) -> Result<Self> {
        let output = enhancer.output_size(size, options.target)?;
        let mut session: Box<dyn Session> = if Enhancer::enlarges(size, output) {
            match enhancer.model() {
                Model::Compact(model) => Box::new(CompactSession::new(
                    enhancer.clone(),
                    model.clone(),
                    format,
                    size,
                    output,
                )),
                Model::Released(model) => Box::new(ReleasedSession::new(
                    enhancer.clone(),
                    model.clone(),
                    output,
                    &progress,
                )?),
            }
        } else {
            Box::new(PlainSession::new(output))
        };
        session.set_options(&options, &progress)?;
        let peak_memory = session.memory();
        Ok(Self {
            enhancer,
            format,
            size,
            output,
            progress,
            session,
            pacer: None,
            tokens: VecDeque::new(),
            finished: Vec::new(),
            started: false,
            frames: 0,
            busy: Duration::ZERO,
            peak_memory,
        })
    }

    /// Size of the frames that come out.
    pub fn output_size(&self) -> Size {
        self.output
    }

    /// Frames after a frame that must be pushed before it can be finished, at most. What [`Enhancer::look_ahead`] says
    /// is this or more: windows may be shorter for want of memory, and a plain resize waits for nothing.
    pub fn look_ahead(&self) -> usize {
        self.session.look_ahead()
    }

    /// Settings for the windows that start after this call; the target stays as it was.
    ///
    /// # Errors
    /// [`Error::Invalid`] for impossible settings, [`Error::Memory`] for ones that need too much; the old ones stay.
    pub fn set_options(&mut self, options: EnhanceOptions) -> Result<()> {
        self.session.set_options(&options, &self.progress)?;
        self.peak_memory = self.peak_memory.max(self.session.memory());
        Ok(())
    }

    /// What single frames can get instead of everything, cheapest first, once there is a [pacer](Self::set_pacer); nothing
    /// where frames are enhanced many at a time.
    pub fn rungs(&self) -> Vec<Rung> {
        self.session.rungs()
    }

    /// Takes a lighter model, for [`Rung::Light`].
    ///
    /// # Errors
    /// [`Error::Memory`] when it needs too much; there is no such rung then.
    pub fn set_light(&mut self, light: &Arc<Enhancer>) -> Result<()> {
        self.session.set_light(light, &self.progress)?;
        self.peak_memory = self.peak_memory.max(self.session.memory());
        Ok(())
    }

    /// From now on `pacer` decides what each frame gets.
    pub fn set_pacer(&mut self, pacer: Option<Box<dyn Pacer<T>>>) {
        self.pacer = pacer;
    }

    /// Takes a frame and returns those that are finished by it (none or more).
    ///
    /// # Errors
    /// [`Error::Invalid`] when format or size differ from the stream's (the frame is not taken),
    /// [`Error::Cancelled`] once the token is triggered.
    pub fn push(&mut self, frame: Frame, token: T) -> Result<Vec<(Frame, T)>> {
        if *frame.format() != self.format || frame.size() != self.size {
            return Err(Error::invalid(format!(
                "a frame of {} {:?} in a stream of {} {:?}",
                frame.size(),
                frame.format(),
                self.size,
                self.format
            )));
        }
        if !std::mem::replace(&mut self.started, true) {
            self.progress.emit(Event::Started {
                step: STEP,
                total: None,
            });
        }
        self.tokens.push_back(token);
        let start = Instant::now();
        let Self {
            enhancer, session, ..
        } = self;
        enhancer.runtime().install(|| session.push(frame));
        self.busy += start.elapsed();
        self.work(false)
    }

    /// Finishes all frames that are still inside; the stream is then as new.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn drain(&mut self) -> Result<Vec<(Frame, T)>> {
        let frames = self.work(true)?;
        self.session.reset();
        if std::mem::take(&mut self.started) {
            self.progress.emit(Event::Finished { step: STEP });
        }
        Ok(frames)
    }

    /// Forgets all frames that are still inside.
    pub fn reset(&mut self) {
        self.session.reset();
        self.tokens.clear();
        self.finished.clear();
    }

    /// What was done so far.
    pub fn stats(&self) -> StreamStats {
        let (evaluations, evaluating) = self.session.evaluations();
        StreamStats {
            frames: self.frames,
            busy: self.busy,
            evaluations,
            evaluating,
            peak_memory: self.peak_memory,
        }
    }

    /// Finishes what can be finished.
    fn work(&mut self, end: bool) -> Result<Vec<(Frame, T)>> {
        loop {
            self.progress.check()?;
            let start = Instant::now();
            let next = self.next(end);
            self.busy += start.elapsed();
            let Some(frame) = next? else {
                return Ok(std::mem::take(&mut self.finished));
            };
            // A session gives one frame for each that it took.
            if let Some(token) = self.tokens.pop_front() {
                self.finished.push((frame, token));
                self.frames += 1;
                self.progress.emit(Event::Advanced {
                    step: STEP,
                    done: self.frames,
                });
            }
        }
    }

    /// The next frame, with what the pacer decides for it.
    fn next(&mut self, end: bool) -> Result<Option<Frame>> {
        let Self {
            enhancer,
            session,
            progress,
            pacer,
            tokens,
            ..
        } = self;
        let ready = session.is_ready(end);
        let mut next = |rung, progress: &Progress| {
            let runtime = enhancer.runtime();
            runtime.install(|| session.next(end, rung, progress))
        };
        let Some((pacer, token)) = pacer.as_mut().zip(tokens.front()).filter(|_| ready) else {
            return next(Rung::Full, progress);
        };
        loop {
            let pace = pacer.decide(token);
            let start = Instant::now();
            let tried = match pace.until {
                Some(until) => next(pace.rung, &progress.until(until)),
                None => next(pace.rung, progress),
            };
            match tried {
                // Not the stream is cancelled but this try.
                Err(error) if error.is_cancelled() && pace.until.is_some() => {
                    progress.check()?;
                    pacer.done(pace.rung, start.elapsed(), true);
                }
                other => {
                    let frame = other?;
                    pacer.done(pace.rung, start.elapsed(), false);
                    return Ok(frame);
                }
            }
        }
    }
}
