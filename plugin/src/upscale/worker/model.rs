// SPDX-License-Identifier: MPL-2.0
//! The worker and its model: streams, settings, and how long a frame takes.

use flashvideo::{EnhanceOptions, EnhanceStream, Error, Frame, Size, plain_resize};
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::super::CAT;
use super::super::imp::FlashUpscale;
use super::super::run::{QUEUE_LENGTH, Run};
use super::super::settings::Settings;
use super::super::ticket::Ticket;
use super::{Finished, Worker};

/// Frame duration assumed for latency when caps do not tell.
const UNKNOWN_FRAME_DURATION: gst::ClockTime = gst::ClockTime::from_mseconds(40);

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

impl Worker {
    /// Bypass: a plain resize.
    pub(super) fn plain(
        &mut self,
        imp: &FlashUpscale,
        frame: Frame,
        ticket: Ticket,
    ) -> Result<Finished, Failure> {
        let negotiated = self
            .negotiated
            .as_ref()
            .ok_or(gst::FlowError::NotNegotiated)?;
        self.taken += 1;
        let resized = plain_resize(&frame, negotiated.output_size)?;
        self.look_ahead = 0;
        self.update_latency(imp);
        Ok(vec![(resized, ticket)])
    }

    pub(super) fn enhance(
        &mut self,
        imp: &FlashUpscale,
        run: &Run,
        settings: &Settings,
        frame: Frame,
        ticket: Ticket,
    ) -> Result<Finished, Failure> {
        self.prepare_stream(imp, run, settings)?;
        let Some(stream) = &mut self.stream else {
            return Err(Failure::Flow(gst::FlowError::Flushing));
        };
        self.taken += 1;
        let finished = stream.push(frame, ticket)?;
        let stats = stream.stats();
        imp.stats().update_stream(stats, self.steps());
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
        if self.options.as_ref() == Some(&options) {
            return Ok(());
        }
        if let Some(stream) = &mut self.stream {
            // What is not possible now does not end the stream; it goes on as before.
            if let Err(error) = stream.set_options(options.clone()) {
                gst::element_imp_warning!(
                    imp,
                    gst::ResourceError::Settings,
                    ("the old settings stay: {error}")
                );
            }
        } else {
            self.begin_stream(imp, run, settings, &options)?;
        }
        self.tell_about_prompt(imp, &options);
        self.options = Some(options);
        Ok(())
    }

    fn begin_stream(
        &mut self,
        imp: &FlashUpscale,
        run: &Run,
        settings: &Settings,
        options: &EnhanceOptions,
    ) -> Result<(), Failure> {
        let model = imp.wait_for_model(&settings.request()?, run)?;
        let negotiated = self
            .negotiated
            .as_ref()
            .ok_or(gst::FlowError::NotNegotiated)?;
        let info = &negotiated.input_info;
        self.stream = Some(EnhanceStream::new(
            model.clone(),
            negotiated.format,
            Size::new(info.width() as usize, info.height() as usize),
            options.clone(),
            imp.progress(run.cancel().clone()),
        )?);
        imp.stats().begin_stream(model.name());
        self.look_ahead = model.look_ahead();
        self.model = Some(model);
        self.update_latency(imp);
        Ok(())
    }

    /// One line for a whole stream, not one for each frame.
    fn tell_about_prompt(&mut self, imp: &FlashUpscale, options: &EnhanceOptions) {
        if let Some(model) = &self.model
            && !options.prompt.is_empty()
            && !model.reads_text()
            && !std::mem::replace(&mut self.told_about_prompt, true)
        {
            gst::info!(
                CAT,
                imp = imp,
                "model {} does not read text: the prompt has no effect",
                model.name()
            );
        }
    }

    /// Function evaluations per window with the current options.
    pub(super) fn steps(&self) -> usize {
        let asked = self.options.as_ref().and_then(|options| options.steps);
        asked.unwrap_or_else(|| self.model.as_ref().map_or(0, |model| model.default_steps()))
    }

    /// A frame waits for those it looks ahead to, and has the time of one frame to be computed. As many more can wait
    /// as the channel holds.
    pub(super) fn update_latency(&self, imp: &FlashUpscale) {
        let Some(negotiated) = &self.negotiated else {
            return;
        };
        let fps = negotiated.input_info.fps();
        let frame = (fps.numer() > 0)
            .then(|| gst::ClockTime::SECOND.mul_div_round(fps.denom() as u64, fps.numer() as u64))
            .flatten()
            .unwrap_or(UNKNOWN_FRAME_DURATION);
        let min = frame * (self.look_ahead as u64 + 1);
        let latency = Some((min, min + frame * QUEUE_LENGTH as u64));
        let changed = {
            let mut state = imp.state();
            std::mem::replace(&mut state.latency, latency) != latency
        };
        if changed {
            gst::debug!(CAT, imp = imp, "own latency is now {min}");
            imp.post_latency();
        }
    }
}
