// SPDX-License-Identifier: MPL-2.0
//! The thread that makes clips: the one that plays, then the one after it.
//!
//! Everything shared is behind one lock, which is held only to look or to note, never while something is computed,
//! pushed or posted. Whoever waits, waits for `changed`. Stopping sets a flag, cancels the job and wakes everyone; the
//! job ends at its next look at its token, which the runtime takes every few milliseconds.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use flashvideo::{CancelToken, Error, Frame, GenerateOptions, Generator, GeneratorInfo, Size};
use gst::glib;
use gst::subclass::prelude::*;

use super::cache::Cache;
use super::imp::FlashVideoSrc;
use super::playlist::Playlist;
use super::settings::Settings;

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

#[derive(Clone, Debug, PartialEq)]
enum Task {
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

/// Between the streaming thread and the one that makes clips.
#[derive(Debug)]
pub(super) struct Studio {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Studio {
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
                quit: false,
                failure: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // All changes are single assignments, so a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.changed
            .wait(inner)
            .unwrap_or_else(PoisonError::into_inner)
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
            let Some(options) = inner.playlist.clip(clip) else {
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

    /// Ends the thread.
    pub fn quit(&self) {
        self.lock().quit = true;
        self.stop();
    }

    /// Waits for the next task; `None` when the thread is to end.
    fn begin(&self) -> Option<(Task, CancelToken)> {
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

    fn push(&self, options: &GenerateOptions, frame: Frame) {
        self.lock().cache.push(options, frame);
        self.changed.notify_all();
    }

    fn finish(&self, task: Task, result: Result<(), Error>) {
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

/// The thread: works for `element` until it is told to quit.
pub(super) fn work(
    studio: &Arc<Studio>,
    generator: &Generator,
    element: &glib::WeakRef<super::FlashVideoSrc>,
) {
    let mut warned = None;
    while let Some((task, cancel)) = studio.begin() {
        let result = match element.upgrade() {
            Some(element) => element.imp().catch_panic(
                || Err(Error::invalid("the model's thread panicked")),
                |imp| imp.carry_out(&task, studio, generator, cancel, &mut warned),
            ),
            None => Err(Error::Cancelled),
        };
        studio.finish(task, result);
    }
}

impl FlashVideoSrc {
    fn carry_out(
        &self,
        task: &Task,
        studio: &Studio,
        generator: &Generator,
        cancel: CancelToken,
        warned: &mut Option<String>,
    ) -> Result<(), Error> {
        match task {
            Task::Load => {
                let name = &generator.info().name;
                self.report("load-model", &format!("model {name}"), cancel, |progress| {
                    generator.preload(progress)
                })
            }
            Task::Make(options) => {
                if !generator.info().knows(&options.prompt)
                    && warned.as_ref() != Some(&options.prompt)
                {
                    *warned = Some(options.prompt.clone());
                    self.warn_about_words(&options.prompt, generator.info());
                }
                let what = format!("clip \"{}\", seed {}", options.prompt, options.seed);
                let begin = Instant::now();
                self.report("generate", &what, cancel, |progress| {
                    generator.pictures(options, progress, |frame| {
                        studio.push(options, frame);
                        Ok(())
                    })
                })?;
                self.stats().clip_made(begin.elapsed());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flashvideo::{FrameFormat, Samples};

    fn studio(clips: u32) -> Studio {
        let info = super::super::playlist::tests::info();
        let settings = Settings {
            num_clips: Some(clips),
            ..Settings::default()
        };
        Studio::new(Playlist::new(&settings, &info, None, 7))
    }

    fn picture() -> Frame {
        let planes = vec![Samples::zeros(8, 4); 3];
        Frame::new(FrameFormat::rgb(), Size::new(2, 2), planes).unwrap()
    }

    fn make(studio: &Studio) -> GenerateOptions {
        let (task, _) = studio.begin().unwrap();
        let Task::Make(options) = task else {
            panic!("{task:?}")
        };
        for _ in 0..options.frames {
            studio.push(&options, picture());
        }
        studio.finish(Task::Make(options.clone()), Ok(()));
        options
    }

    #[test]
    fn the_next_clip_is_made_while_one_plays() {
        let studio = studio(3);
        assert!(matches!(studio.frame(0, 0, false), Answer::NotYet));
        let (task, _) = studio.begin().unwrap();
        assert_eq!(task, Task::Load);
        studio.finish(task, Ok(()));
        let first = make(&studio);
        assert!(matches!(studio.frame(0, 8, true), Answer::Frame(_)));
        assert_eq!(make(&studio).seed, first.seed + 1);
        assert!(studio.lock().task().is_none(), "only one clip ahead");
        assert!(matches!(studio.frame(3, 0, true), Answer::End));
        assert_eq!(studio.kept().0, 2);
    }

    #[test]
    fn changed_settings_end_the_job_for_what_is_not_wanted_any_more() {
        let studio = studio(0);
        studio.lock().loaded = true;
        assert!(matches!(studio.frame(0, 0, false), Answer::NotYet));
        make(&studio);
        assert!(matches!(studio.frame(0, 0, true), Answer::Frame(_)));
        let (task, cancel) = studio.begin().unwrap();
        let settings = Settings {
            prompt: Some("another".to_owned()),
            num_clips: Some(0),
            ..Settings::default()
        };
        let info = super::super::playlist::tests::info();
        studio.change(&settings, &info, 7);
        assert!(cancel.is_cancelled());
        studio.finish(task, Err(Error::Cancelled));
        assert_eq!(make(&studio).prompt, "another");
        // The clip that plays stays as it is.
        assert!(matches!(studio.frame(0, 1, true), Answer::Frame(_)));
    }

    #[test]
    fn a_failure_is_told_once_and_not_repeated() {
        let studio = studio(1);
        assert!(matches!(studio.frame(0, 0, false), Answer::NotYet));
        let (task, _) = studio.begin().unwrap();
        studio.finish(task, Err(Error::invalid("no")));
        assert!(matches!(studio.frame(0, 0, true), Answer::Failed(Some(_))));
        assert!(matches!(studio.frame(0, 0, true), Answer::Failed(None)));
        assert!(studio.lock().task().is_none());
    }

    #[test]
    fn stopping_wakes_who_waits() {
        let studio = Arc::new(studio(1));
        let waiting = {
            let studio = studio.clone();
            std::thread::spawn(move || studio.frame(0, 0, true))
        };
        let (task, cancel) = studio.begin().unwrap();
        studio.stop();
        assert!(cancel.is_cancelled());
        assert!(matches!(waiting.join().unwrap(), Answer::Stopped));
        studio.finish(task, Err(Error::Cancelled));
        studio.resume();
        assert!(studio.begin().is_some(), "it is tried again");
        studio.quit();
        assert!(studio.begin().is_none());
    }
}
