// SPDX-License-Identifier: MPL-2.0
//! The model that an element has, or will have.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;

use crossbeam::channel::Receiver;
use flashvideo::{CancelToken, Enhancer};

use super::run::Never;
use super::settings::ModelRequest;
use crate::common::lock;

/// The model of an element, from the first request until the element goes to NULL.
#[derive(Default)]
pub(super) struct ModelSlot(Mutex<Option<Load>>);

/// What became of loading a model.
pub(super) enum Outcome {
    Loaded(Arc<Enhancer>),
    /// It did not load; the model before it stays.
    Kept(Arc<Enhancer>),
    /// It did not load, and there is no other. What happened is on the bus already.
    Failed,
}

impl Outcome {
    /// The model to use.
    pub fn model(&self) -> Option<&Arc<Enhancer>> {
        match self {
            Self::Loaded(model) | Self::Kept(model) => Some(model),
            Self::Failed => None,
        }
    }
}

/// A model that is loaded, or is being loaded.
pub(super) struct Load {
    pub(super) request: ModelRequest,
    pub(super) cancel: CancelToken,
    /// Disconnected when the thread is done.
    pub(super) done: Receiver<Never>,
    /// Set before `done` is.
    pub(super) outcome: Arc<OnceLock<Outcome>>,
    pub(super) thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    /// Whether it is over, and not with the model that was asked for.
    pub fn failed(&self) -> bool {
        let outcome = self.outcome.get();
        outcome.is_some_and(|outcome| !matches!(outcome, Outcome::Loaded(_)))
    }

    /// The model to use, once it is there.
    pub fn model(&self) -> Option<&Arc<Enhancer>> {
        self.outcome.get()?.model()
    }

    /// Ends the thread. The token is honoured between tensors, so this takes a moment at most.
    pub fn end(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl ModelSlot {
    pub fn lock(&self) -> MutexGuard<'_, Option<Load>> {
        lock(&self.0)
    }

    /// Asks a running load to stop.
    pub fn cancel_unfinished(&self) {
        // A complete load does not look at its token any more.
        if let Some(load) = &*self.lock() {
            load.cancel.cancel();
        }
    }

    /// What was asked for last, if there is a model to use.
    pub fn request(&self) -> Option<ModelRequest> {
        let slot = self.lock();
        let load = slot.as_ref().filter(|load| load.model().is_some())?;
        Some(load.request.clone())
    }

    /// Ends a load that is not complete; a loaded model stays.
    pub fn end_unfinished(&self) {
        let unfinished = {
            let mut slot = self.lock();
            match &*slot {
                Some(load) if load.model().is_some() => None,
                _ => slot.take(),
            }
        };
        if let Some(mut load) = unfinished {
            load.end();
            // It may have had one to fall back on.
            if load.model().is_some() {
                self.lock().get_or_insert(load);
            }
        }
    }

    /// Drops the weights, or our share of them.
    pub fn unload(&self) {
        let load = self.lock().take();
        if let Some(mut load) = load {
            load.end();
        }
    }
}
