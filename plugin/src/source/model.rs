// SPDX-License-Identifier: MPL-2.0
//! The model and the clips that the properties ask for.

use std::sync::Arc;

use flashvideo::{Generator, Placement};
use gst::subclass::prelude::*;

use super::imp::FlashVideoSrc;
use super::playlist::Playlist;
use super::prompts;
use super::settings::{MIN_STEPS, Settings, whole_frames};

impl FlashVideoSrc {
    /// The model for these settings: that of the last start, or a new one. Its weights are not loaded yet. Where it cannot be
    /// had, that of the last start stays, with a warning.
    ///
    /// # Errors
    /// As [`Generator::find`], where there was none before.
    pub(super) fn find_model(&self, settings: &Settings) -> flashvideo::Result<Arc<Generator>> {
        self.model_of(settings).or_else(|error| {
            let last = self
                .model()
                .as_ref()
                .map(|(_, generator)| generator.clone());
            let Some(last) = last else {
                return Err(error);
            };
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                (
                    "{error}; the model {} stays, as it was loaded",
                    last.info().name
                )
            );
            Ok(last)
        })
    }

    fn model_of(&self, settings: &Settings) -> flashvideo::Result<Arc<Generator>> {
        let request = settings.request()?;
        if let Some((known, generator)) = &*self.model()
            && *known == request
        {
            return Ok(generator.clone());
        }
        let lora = request
            .lora
            .as_ref()
            .map(|(lora, scale)| (lora.as_str(), *scale));
        let placement = Placement::from(request.compute.runtime()?);
        let found = Arc::new(Generator::find(&request.model, lora, &placement)?);
        let old = self.model().replace((request, found.clone()));
        drop(old);
        Ok(found)
    }

    /// The settings as a list of clips, checked; `random` is the seed where none is set.
    ///
    /// # Errors
    /// What to tell the user, when the file of prompts cannot be read or the model cannot make such clips.
    pub(super) fn plan(
        &self,
        settings: &Settings,
        generator: &Generator,
        random: u64,
    ) -> Result<Playlist, gst::ErrorMessage> {
        let file = settings.prompts_file.as_deref();
        let prompts = file.map(prompts::read).transpose()?;
        if prompts.is_none()
            && let Some(problem) = prompts::problem(settings.prompt(generator.info()))
        {
            return Err(gst::error_msg!(gst::LibraryError::Settings, ("{problem}")));
        }
        let playlist = Playlist::new(settings, generator.info(), prompts, random);
        if let Some(frames) = settings.num_frames
            && frames != whole_frames(frames)
        {
            gst::element_imp_info!(
                self,
                gst::ResourceError::Settings,
                (
                    "num-frames={frames} is not one more than a multiple of 4: clips have {} frames",
                    playlist.frames()
                )
            );
        }
        self.tell_about_steps(settings);
        if let Some(first) = playlist.clip(0) {
            generator
                .check(&first)
                .map_err(|error| gst::error_msg!(gst::LibraryError::Settings, ("{error}")))?;
        }
        Ok(playlist)
    }

    /// Says which steps are taken, where these are not the ones that were asked for.
    pub(super) fn tell_about_steps(&self, settings: &Settings) {
        if settings.steps.is_some_and(|steps| steps < MIN_STEPS) {
            gst::element_imp_info!(
                self,
                gst::ResourceError::Settings,
                ("steps=1 is too few for a noise schedule: clips are made in {MIN_STEPS} steps")
            );
        }
    }
}
