// SPDX-License-Identifier: MPL-2.0
//! Loading the model beside the streaming threads, so that neither a state change nor the first frame blocks on it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;

use crossbeam::channel::{Receiver, bounded};
use crossbeam::select;
use flashvideo::{CancelToken, Enhancer, Event};
use gst::subclass::prelude::*;

use super::imp::FlashUpscale;
use super::run::{Never, Run};
use super::settings::ModelRequest;
use crate::common::lock;
use crate::common::messages::{Messages, Step};

/// The model of an element, from the first request until the element goes to NULL.
#[derive(Default)]
pub(super) struct ModelSlot(Mutex<Option<Load>>);

struct Load {
    request: ModelRequest,
    cancel: CancelToken,
    /// Disconnected when the thread is done.
    done: Receiver<Never>,
    /// Set before `done` is; `None` when loading failed, which is on the bus already.
    outcome: Arc<OnceLock<Option<Arc<Enhancer>>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    fn failed(&self) -> bool {
        matches!(self.outcome.get(), Some(None))
    }

    /// Ends the thread. The token is honoured between tensors, so this takes a moment at most.
    fn end(mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl ModelSlot {
    fn lock(&self) -> MutexGuard<'_, Option<Load>> {
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

impl FlashUpscale {
    /// Starts loading `request`, unless that is what is loaded or being loaded.
    ///
    /// `retry` tries a failed load again.
    pub(super) fn start_loading(
        &self,
        request: &ModelRequest,
        retry: bool,
    ) -> Result<(), gst::ErrorMessage> {
        let replaced = {
            let mut slot = self.model.lock();
            if let Some(load) = &*slot
                && load.request == *request
                && !(retry && load.failed())
            {
                return Ok(());
            }
            let load = self.spawn_load(request.clone())?;
            slot.replace(load)
        };
        if let Some(replaced) = replaced {
            replaced.end();
        }
        Ok(())
    }

    fn spawn_load(&self, request: ModelRequest) -> Result<Load, gst::ErrorMessage> {
        let (done_tx, done) = bounded::<Never>(0);
        let cancel = CancelToken::new();
        let outcome = Arc::new(OnceLock::new());
        let thread = thread::Builder::new()
            .name("flashupscale:load".to_owned())
            .spawn({
                let (request, cancel, outcome) = (request.clone(), cancel.clone(), outcome.clone());
                let weak = self.obj().downgrade();
                move || {
                    // Last to be dropped: whoever waits for it may rely on everything else being gone.
                    let _done = done_tx;
                    let Some(element) = weak.upgrade() else {
                        return;
                    };
                    let model = element
                        .imp()
                        .catch_panic(|| None, |imp| imp.load_model(&request, &cancel));
                    let _ = outcome.set(model);
                }
            });
        let thread = thread.map_err(|e| {
            gst::error_msg!(
                gst::ResourceError::Failed,
                ("cannot start a thread for loading: {e}")
            )
        })?;
        Ok(Load {
            request,
            cancel,
            done,
            outcome,
            thread: Some(thread),
        })
    }

    /// Runs on the loader's thread; failures are posted here.
    fn load_model(&self, request: &ModelRequest, cancel: &CancelToken) -> Option<Arc<Enhancer>> {
        let ModelRequest { model, compute } = request;
        let step = Step {
            code: "load-model",
            what: &format!("Loading model {model} on {}", compute.device),
        };
        let share = |_: &Event| None;
        let loaded = self.reported(step, cancel.clone(), share, |progress| {
            let model = Enhancer::load(model, &compute.runtime()?, progress)?;
            // A model that nobody waits for any more is not kept.
            progress.check()?;
            Ok(model)
        });
        loaded.map_err(|error| self.post_failure(&error)).ok()
    }

    /// The model for `request`; waits for it until `run` is stopped.
    ///
    /// # Errors
    /// The flow to return. What happened is on the bus already.
    pub(super) fn wait_for_model(
        &self,
        request: &ModelRequest,
        run: &Run,
    ) -> Result<Arc<Enhancer>, gst::FlowError> {
        if let Err(message) = self.start_loading(request, false) {
            self.post_error_message(message);
            return Err(gst::FlowError::Error);
        }
        let (done, outcome) = match &*self.model.lock() {
            Some(load) => (load.done.clone(), load.outcome.clone()),
            None => return Err(gst::FlowError::Flushing),
        };
        if outcome.get().is_none() {
            select! {
                recv(done) -> _ => {}
                recv(run.stopped()) -> _ => return Err(gst::FlowError::Flushing),
            }
        }
        match outcome.get() {
            Some(Some(model)) => Ok(model.clone()),
            _ => Err(gst::FlowError::Error),
        }
    }
}
