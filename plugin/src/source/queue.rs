// SPDX-License-Identifier: MPL-2.0
//! Clips between the worker, which makes them, and the streaming thread, which plays them: the one that plays comes
//! first, then the one after it.
//!
//! Everything shared is behind one lock, which is held only to look or to note, never while something is computed,
//! pushed or posted. Whoever waits, waits for `changed`. Stopping sets a flag, cancels the job and wakes everyone; the
//! job ends at its next look at its token, which the runtime takes every few milliseconds.

use std::sync::{Condvar, Mutex, MutexGuard};

use flashvideo::{CancelToken, Error, Frame, GenerateOptions, GeneratorInfo, Size};

use super::cache::Cache;
use super::playlist::Playlist;
use super::settings::Settings;
use crate::common;

/// What the streaming thread gets.
#[derive(Debug)]
pub(super) enum Answer {
    Frame(Frame),
    /// It is being made.
    NotYet,
    /// There is no such clip.
    End,
    /// Nobody is to wait now.
    Stopped,
    /// Once with what happened, then without.
    Failed(Option<Error>),
}

/// What the worker does.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Task {
    Load,
    Make(GenerateOptions),
}

#[derive(Debug)]
struct Job {
    task: Task,
    cancel: CancelToken,
}

/// What does not work. It is not tried again before the next start, or before other settings.
#[derive(Debug)]
struct Failure {
    task: Task,
    error: Option<Error>,
}

#[derive(Debug)]
struct Inner {
    playlist: Playlist,
    cache: Cache,
    /// The clip that is wanted now.
    playing: Option<u64>,
    /// The clip of the last frame that was given out.
    begun: Option<u64>,
    job: Option<Job>,
    loaded: bool,
    stopped: bool,
    /// Nothing comes any more, whatever the playlist says.
    ended: bool,
    quit: bool,
    failure: Option<Failure>,
}

impl Inner {
    /// The clips that should be there: the playing one, then the next.
    fn wanted(&self) -> Vec<GenerateOptions> {
        let playing = self.playing.into_iter();
        playing
            .flat_map(|clip| [clip, clip + 1])
            .filter_map(|clip| self.playlist.clip(clip))
            .collect()
    }

    /// What is to be done first.
    fn task(&self) -> Option<Task> {
        let task = if self.loaded {
            let mut wanted = self.wanted().into_iter();
            Task::Make(wanted.find(|clip| !self.cache.has(clip))?)
        } else {
            Task::Load
        };
        let fails = |failure: &Failure| failure.task == task;
        (!self.failure.as_ref().is_some_and(fails)).then_some(task)
    }

    /// Ends a job that something else is more urgent than.
    fn review(&mut self) {
        if let Some(job) = &self.job
            && self.loaded
            && self.task().is_some_and(|task| task != job.task)
        {
            job.cancel.cancel();
        } else if let Some(Job {
            task: Task::Make(options),
            cancel,
        }) = &self.job
            && !self.wanted().contains(options)
        {
            cancel.cancel();
        }
    }

    fn failed(&mut self, wanted: &GenerateOptions) -> Option<Option<Error>> {
        let failure = self.failure.as_mut()?;
        match &failure.task {
            Task::Make(options) if options != wanted => None,
            _ => Some(failure.error.take()),
        }
    }
}

/// Between the streaming thread and the worker.
#[derive(Debug)]
pub(super) struct ClipQueue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl ClipQueue {
    pub fn new(playlist: Playlist) -> Self {
        Self {
            inner: Mutex::new(Inner {
                playlist,
                cache: Cache::default(),
                playing: None,
                begun: None,
                job: None,
                loaded: false,
                stopped: false,
                ended: false,
                quit: false,
                failure: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        common::lock(&self.inner)
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        common::wait(&self.changed, inner)
    }

    /// Frames of a clip.
    pub fn frames(&self) -> usize {
        self.lock().playlist.frames()
    }

    /// All frames, if there is an end.
    pub fn total(&self) -> Option<u64> {
        self.lock().playlist.total()
    }

    /// What clip `clip` shows.
    pub fn clip(&self, clip: u64) -> Option<GenerateOptions> {
        self.lock().playlist.clip(clip)
    }

    /// Number and bytes of the clips that are kept.
    pub fn kept(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.cache.clips(), inner.cache.bytes())
    }

    /// Frame `index` of clip `clip`; waits for it, unless told not to.
    pub fn frame(&self, clip: u64, index: usize, wait: bool) -> Answer {
        let mut inner = self.lock();
        if inner.playing != Some(clip) {
            inner.playing = Some(clip);
            inner.review();
            self.changed.notify_all();
        }
        loop {
            if inner.stopped {
                return Answer::Stopped;
            }
            let Some(options) = inner.playlist.clip(clip).filter(|_| !inner.ended) else {
                return Answer::End;
            };
            let found = inner.cache.get(&options);
            if let Some(frame) = found.and_then(|clip| clip.frames.get(index)).cloned() {
                inner.begun = Some(clip);
                return Answer::Frame(frame);
            }
            if let Some(error) = inner.failed(&options) {
                return Answer::Failed(error);
            }
            if !wait {
                return Answer::NotYet;
            }
            inner = self.wait(inner);
        }
    }

    /// Ends the stream before its next frame, or lets it go on after a seek.
    pub fn set_ended(&self, ended: bool) {
        self.lock().ended = ended;
        self.changed.notify_all();
    }

    /// The clips that have not begun follow `settings`.
    pub fn change(&self, settings: &Settings, info: &GeneratorInfo, random: u64) {
        let mut inner = self.lock();
        let first = inner.begun.map_or(0, |clip| clip + 1);
        inner.playlist.change(first, settings, info, random);
        inner.review();
        self.changed.notify_all();
    }

    /// Clips are made in this size from now on.
    pub fn set_size(&self, size: Size) {
        let mut inner = self.lock();
        inner.playlist.set_size(size);
        inner.review();
        self.changed.notify_all();
    }

    /// Ends the job and all waiting, until [`resume`](Self::resume).
    pub fn stop(&self) {
        let mut inner = self.lock();
        inner.stopped = true;
        if let Some(job) = &inner.job {
            job.cancel.cancel();
        }
        self.changed.notify_all();
    }

    /// Goes on after [`stop`](Self::stop).
    pub fn resume(&self) {
        self.lock().stopped = false;
        self.changed.notify_all();
    }

    /// Ends the worker.
    pub fn quit(&self) {
        self.lock().quit = true;
        self.stop();
    }

    /// Waits for the next task; `None` when the thread is to end.
    pub fn begin(&self) -> Option<(Task, CancelToken)> {
        let mut inner = self.lock();
        loop {
            if inner.quit {
                return None;
            }
            if !inner.stopped
                && let Some(task) = inner.task()
            {
                let cancel = CancelToken::new();
                if let Task::Make(options) = &task {
                    let wanted = inner.wanted();
                    inner.cache.begin(options, &wanted);
                }
                inner.job = Some(Job {
                    task: task.clone(),
                    cancel: cancel.clone(),
                });
                return Some((task, cancel));
            }
            inner = self.wait(inner);
        }
    }

    /// The next frame of the clip of `options` is made.
    pub fn push(&self, options: &GenerateOptions, frame: Frame) {
        self.lock().cache.push(options, frame);
        self.changed.notify_all();
    }

    /// The task has come to an end.
    pub fn finish(&self, task: Task, result: Result<(), Error>) {
        let mut inner = self.lock();
        inner.job = None;
        match (&task, &result) {
            (Task::Load, Ok(())) => inner.loaded = true,
            (Task::Make(options), Ok(())) => inner.cache.complete(options),
            (Task::Load, Err(_)) => {}
            (Task::Make(options), Err(_)) => inner.cache.remove(options),
        }
        if let Err(error) = result
            && !error.is_cancelled()
        {
            inner.failure = Some(Failure {
                task,
                error: Some(error),
            });
        }
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flashvideo::{FrameFormat, Samples};

    use super::super::settings::Clips;
    use super::*;

    fn queue(clips: Clips) -> ClipQueue {
        let info = super::super::playlist::tests::info();
        let settings = Settings {
            num_clips: clips,
            ..Settings::default()
        };
        ClipQueue::new(Playlist::new(&settings, &info, None, 7))
    }

    fn picture() -> Frame {
        let planes = vec![Samples::zeros(8, 4); 3];
        Frame::new(FrameFormat::rgb(), Size::new(2, 2), planes).unwrap()
    }

    fn make(queue: &ClipQueue) -> GenerateOptions {
        let (task, _) = queue.begin().unwrap();
        let Task::Make(options) = task else {
            panic!("{task:?}")
        };
        for _ in 0..options.frames {
            queue.push(&options, picture());
        }
        queue.finish(Task::Make(options.clone()), Ok(()));
        options
    }

    #[test]
    fn the_next_clip_is_made_while_one_plays() {
        let queue = queue(Clips::Exactly(3));
        assert!(matches!(queue.frame(0, 0, false), Answer::NotYet));
        let (task, _) = queue.begin().unwrap();
        assert_eq!(task, Task::Load);
        queue.finish(task, Ok(()));
        let first = make(&queue);
        assert!(matches!(queue.frame(0, 8, true), Answer::Frame(_)));
        assert_eq!(make(&queue).seed, first.seed + 1);
        assert!(queue.lock().task().is_none(), "only one clip ahead");
        assert!(matches!(queue.frame(3, 0, true), Answer::End));
        assert_eq!(queue.kept().0, 2);
    }

    #[test]
    fn changed_settings_end_the_job_for_what_is_not_wanted_any_more() {
        let queue = queue(Clips::Endless);
        queue.lock().loaded = true;
        assert!(matches!(queue.frame(0, 0, false), Answer::NotYet));
        make(&queue);
        assert!(matches!(queue.frame(0, 0, true), Answer::Frame(_)));
        let (task, cancel) = queue.begin().unwrap();
        let settings = Settings {
            prompt: Some("another".to_owned()),
            num_clips: Clips::Endless,
            ..Settings::default()
        };
        let info = super::super::playlist::tests::info();
        queue.change(&settings, &info, 7);
        assert!(cancel.is_cancelled());
        queue.finish(task, Err(Error::Cancelled));
        assert_eq!(make(&queue).prompt, "another");
        // The clip that plays stays as it is.
        assert!(matches!(queue.frame(0, 1, true), Answer::Frame(_)));
    }

    #[test]
    fn a_failure_is_told_once_and_not_repeated() {
        let queue = queue(Clips::Exactly(1));
        assert!(matches!(queue.frame(0, 0, false), Answer::NotYet));
        let (task, _) = queue.begin().unwrap();
        queue.finish(task, Err(Error::invalid("no")));
        assert!(matches!(queue.frame(0, 0, true), Answer::Failed(Some(_))));
        assert!(matches!(queue.frame(0, 0, true), Answer::Failed(None)));
        assert!(queue.lock().task().is_none());
    }

    #[test]
    fn stopping_wakes_who_waits() {
        let queue = Arc::new(queue(Clips::Exactly(1)));
        let waiting = {
            let queue = queue.clone();
            std::thread::spawn(move || queue.frame(0, 0, true))
        };
        let (task, cancel) = queue.begin().unwrap();
        queue.stop();
        assert!(cancel.is_cancelled());
        assert!(matches!(waiting.join().unwrap(), Answer::Stopped));
        queue.finish(task, Err(Error::Cancelled));
        queue.resume();
        assert!(queue.begin().is_some(), "it is tried again");
        queue.quit();
        assert!(queue.begin().is_none());
    }
}
