// SPDX-License-Identifier: MPL-2.0
//! Loading the model beside the streaming threads, so that neither a state change nor the first frame blocks on it.

use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam::channel::bounded;
use crossbeam::select;
use flashvideo::{CancelToken, Enhancer, Error, Event};
use gst::subclass::prelude::*;

use super::imp::FlashUpscale;
use super::model_slot::{Load, Outcome};
use super::run::{Never, Run};
use super::settings::ModelRequest;
use crate::common::messages::{Messages, Step};

impl FlashUpscale {
    /// Starts loading `request`, unless that is what is loaded or being loaded. Should it not load, the model before it stays.
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
            let kept = slot.as_ref().and_then(|load| load.model().cloned());
            let load = self.spawn_load(request.clone(), kept)?;
            slot.replace(load)
        };
        if let Some(mut replaced) = replaced {
            replaced.end();
        }
        Ok(())
    }

    fn spawn_load(
        &self,
        request: ModelRequest,
        kept: Option<Arc<Enhancer>>,
    ) -> Result<Load, gst::ErrorMessage> {
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
                    let loaded = element.imp().catch_panic(
                        || Outcome::Failed,
                        |imp| imp.load_model(&request, &cancel, kept),
                    );
                    let _ = outcome.set(loaded);
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
    fn load_model(
        &self,
        request: &ModelRequest,
        cancel: &CancelToken,
        kept: Option<Arc<Enhancer>>,
    ) -> Outcome {
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
        match (loaded, kept) {
            (Ok(model), _) => Outcome::Loaded(model),
            (Err(error), Some(kept)) => {
                self.keep_model(kept.name(), &error);
                Outcome::Kept(kept)
            }
            (Err(error), None) => {
                self.post_failure(&error);
                Outcome::Failed
            }
        }
    }

    /// Warns that the model `kept` stays because another cannot be had. A cancellation is no reason to warn.
    pub(super) fn keep_model(&self, kept: &str, error: &Error) {
        if !error.is_cancelled() {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("{error}; the model {kept} stays, as it was loaded")
            );
        }
    }

    /// The model of the stream; waits for it until `run` is stopped.
    ///
    /// # Errors
    /// The flow to return. What happened is on the bus already.
    pub(super) fn wait_for_model(&self, run: &Run) -> Result<Arc<Enhancer>, gst::FlowError> {
        let request = self.request().ok_or(gst::FlowError::Flushing)?;
        if let Err(message) = self.start_loading(&request, false) {
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
        let model = outcome.get().and_then(Outcome::model).cloned();
        model.ok_or(gst::FlowError::Error)
    }
}
