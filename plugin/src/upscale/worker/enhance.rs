// SPDX-License-Identifier: MPL-2.0
//! The worker and its model: settings, frames in, frames out.

use std::sync::Arc;

use flashvideo::{EnhanceOptions, EnhanceStream, Enhancer, Error, Frame, plain_resize};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::CAT;
use super::super::imp::FlashUpscale;
use super::super::latency::latency;
use super::super::metadata::Metadata;
use super::super::run::Run;
use super::super::settings::Settings;
use super::{Finished, Worker};
use crate::common::frame::frame_size;
use crate::common::messages::Messages;

/// Why a frame has no successor.
pub(super) enum Failure {
    /// What happened is known already.
    Flow(gst::FlowError),
    /// To be told.
    Runtime(Error),
}

impl From<gst::FlowError> for Failure {
    fn from(flow: gst::FlowError) -> Self {
        Self::Flow(flow)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Runtime(error)
    }
}

/// Frames on their way through a model.
pub(super) struct ModelStream {
    model: Arc<Enhancer>,
    stream: EnhanceStream<Metadata>,
    /// What the stream works with.
    in_force: EnhanceOptions,
    /// What it was asked for last: the same, or what it has refused.
    asked: EnhanceOptions,
}

impl ModelStream {
    fn push(
        &mut self,
        imp: &FlashUpscale,
        frame: Frame,
        metadata: Metadata,
    ) -> Result<Finished, Error> {
        let finished = self.stream.push(frame, metadata)?;
        self.update_stats(imp);
        Ok(finished)
    }

    /// Lets all frames out.
    pub fn drain(&mut self, imp: &FlashUpscale) -> Result<Finished, Error> {
        let finished = self.stream.drain()?;
        self.update_stats(imp);
        Ok(finished)
    }

    /// Forgets all frames.
    pub fn reset(&mut self) {
        self.stream.reset();
    }

    /// Works with `options` from now on. What is not possible does not end the stream: it goes on as before, and says so
    /// once.
    fn set_options(&mut self, imp: &FlashUpscale, options: EnhanceOptions) {
        if self.asked == options {
            return;
        }
        self.asked = options.clone();
        match self.stream.set_options(options.clone()) {
            Ok(()) => self.in_force = options,
            Err(error) => gst::element_imp_warning!(
                imp,
                gst::ResourceError::Settings,
                ("the old settings stay: {error}")
            ),
        }
    }

    /// Frames behind a frame that it waits for.
    fn look_ahead(&self) -> usize {
        self.stream.look_ahead()
    }

    fn update_stats(&self, imp: &FlashUpscale) {
        let steps = self.in_force.steps;
        let steps = steps.unwrap_or_else(|| self.model.default_steps());
        let changed = imp.stats().update_stream(self.stream.stats(), steps);
        if changed {
            imp.obj().notify("stats");
        }
    }
}

impl Worker {
    /// Bypass: a plain resize.
    pub(super) fn plain(
        &mut self,
        imp: &FlashUpscale,
        frame: Frame,
        metadata: Metadata,
    ) -> Result<Finished, Failure> {
        let negotiated = self
            .negotiated
            .as_ref()
            .ok_or(gst::FlowError::NotNegotiated)?;
        self.taken += 1;
        let resized = plain_resize(&frame, negotiated.output_size)?;
        self.update_latency(imp);
        Ok(vec![(resized, metadata)])
    }

    pub(super) fn enhance(
        &mut self,
        imp: &FlashUpscale,
        run: &Run,
        settings: &Settings,
        frame: Frame,
        metadata: Metadata,
    ) -> Result<Finished, Failure> {
        self.prepare_stream(imp, run, settings)?;
        let Some(stream) = &mut self.stream else {
            return Err(Failure::Flow(gst::FlowError::Flushing));
        };
        self.taken += 1;
        let finished = stream.push(imp, frame, metadata)?;
        self.update_latency(imp);
        Ok(finished)
    }

    /// Makes sure there is a stream with the current settings.
    fn prepare_stream(
        &mut self,
        imp: &FlashUpscale,
        run: &Run,
        settings: &Settings,
    ) -> Result<(), Failure> {
        let negotiated = self
            .negotiated
            .as_ref()
            .ok_or(gst::FlowError::NotNegotiated)?;
        let options = settings.options(negotiated.output_size, self.title.as_deref());
        match &mut self.stream {
            Some(stream) => stream.set_options(imp, options),
            None => {
                let model = imp.wait_for_model(run)?;
                let stream = EnhanceStream::new(
                    model.clone(),
                    negotiated.format,
                    frame_size(&negotiated.input_info),
                    options.clone(),
                    imp.listener(run.cancel().clone()),
                )?;
                imp.stats().begin_stream(model.name());
                self.stream = Some(ModelStream {
                    model,
                    stream,
                    in_force: options.clone(),
                    asked: options,
                });
                self.update_latency(imp);
            }
        }
        self.tell_about_prompt(imp);
        self.tell_about_size(imp);
        Ok(())
    }

    /// One message for a whole stream: compact models have learnt to enlarge, and what they add is gone when their picture is
    /// reduced to the size it came in.
    fn tell_about_size(&mut self, imp: &FlashUpscale) {
        if let (Some(stream), Some(negotiated)) = (&self.stream, &self.negotiated)
            && negotiated.output_size == frame_size(&negotiated.input_info)
            && !stream.model.reads_text()
            && !std::mem::replace(&mut self.told_about_size, true)
        {
            gst::element_imp_info!(
                imp,
                gst::ResourceError::Settings,
                (
                    "the output is as large as the input: the model {} only enlarges and does next to nothing here; \
                     set `scale` above 1, or a larger size downstream",
                    stream.model.name()
                )
            );
        }
    }

    /// One line for a whole stream, not one for each frame.
    fn tell_about_prompt(&mut self, imp: &FlashUpscale) {
        if let Some(stream) = &self.stream
            && !stream.in_force.prompt.is_empty()
            && !stream.model.reads_text()
            && !std::mem::replace(&mut self.told_about_prompt, true)
        {
            gst::info!(
                CAT,
                imp = imp,
                "model {} does not read text: the prompt has no effect",
                stream.model.name()
            );
        }
    }

    /// Tells the pipeline when its latency changes: with the model, with its windows, with the frame rate.
    pub(super) fn update_latency(&self, imp: &FlashUpscale) {
        let Some(negotiated) = &self.negotiated else {
            return;
        };
        // A plain resize waits for nothing.
        let look_ahead = self.stream.as_ref().map_or(0, ModelStream::look_ahead);
        let latency = latency(look_ahead, negotiated.input_info.fps());
        let old = imp.state().latency.replace(latency);
        if old != Some(latency) {
            gst::debug!(CAT, imp = imp, "own latency is now {latency:?}");
            imp.post_latency();
        }
    }
}
