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

/// A model that is loaded, or is being loaded.
pub(super) struct Load {
    pub(super) request: ModelRequest,
    pub(super) cancel: CancelToken,
    /// Disconnected when the thread is done.
    pub(super) done: Receiver<Never>,
    /// Set before `done` is; `None` when loading failed, which is on the bus already.
    pub(super) outcome: Arc<OnceLock<Option<Arc<Enhancer>>>>,
    pub(super) thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    pub fn failed(&self) -> bool {
        matches!(self.outcome.get(), Some(None))
    }

    /// Ends the thread. The token is honoured between tensors, so this takes a moment at most.
    pub fn end(mut self) {
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

    /// Ends a load that is not complete; a loaded model stays.
    pub fn end_unfinished(&self) {
        let unfinished = {
            let mut slot = self.lock();
            match &*slot {
                Some(load) if matches!(load.outcome.get(), Some(Some(_))) => None,
                _ => slot.take(),
            }
        };
        if let Some(load) = unfinished {
            load.end();
        }
    }

    /// Drops the weights, or our share of them.
    pub fn unload(&self) {
        let load = self.lock().take();
        if let Some(load) = load {
            load.end();
        }
    }
}
