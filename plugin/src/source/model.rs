// SPDX-License-Identifier: MPL-2.0
//! The model and the clips that the properties ask for.

use std::sync::Arc;

use flashvideo::{Generator, Placement};
use gst::subclass::prelude::*;

use super::imp::FlashVideoSrc;
use super::playlist::Playlist;
use super::prompts;
use super::settings::{Settings, whole_frames};

impl FlashVideoSrc {
    /// The model for these settings: that of the last start, or a new one. Its weights are not loaded yet.
    ///
    /// # Errors
    /// As [`Generator::find`].
    pub(super) fn find_model(&self, settings: &Settings) -> flashvideo::Result<Arc<Generator>> {
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
        if let Some(first) = playlist.clip(0) {
            generator
                .check(&first)
                .map_err(|error| gst::error_msg!(gst::LibraryError::Settings, ("{error}")))?;
        }
        Ok(playlist)
    }
}
