// SPDX-License-Identifier: MPL-2.0
//! Frames in a window: `appsrc ! videoconvert ! autovideosink`.

use anyhow::{Result, bail};
use gst::prelude::*;

use super::elements::make;
use super::run::describe;
use crate::ffmpeg::raw::{RawFrame, RawVideo};
use crate::interrupt;

/// A window that plays what it is given.
#[derive(Debug)]
pub struct Window {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    video: RawVideo,
}

impl Window {
    /// For frames of `video`.
    ///
    /// # Errors
    /// If there is no display.
    pub fn open(video: &RawVideo) -> Result<Self> {
        // Some sinks do not survive the lack of one.
        let display = ["DISPLAY", "WAYLAND_DISPLAY"]
            .iter()
            .any(|name| std::env::var_os(name).is_some());
        if !display && !cfg!(target_os = "macos") {
            bail!(
                "no window opens: there is no display here (DISPLAY and WAYLAND_DISPLAY are not set)"
            );
        }
        let source = gst_app::AppSrc::builder()
            .caps(&video.caps()?)
            .format(gst::Format::Time)
            .block(true)
            .max_buffers(4)
            .max_bytes(0)
            .build();
        let chain = [
            source.clone().upcast(),
            make("videoconvert")?,
            make("autovideosink")?,
        ];
        let pipeline = gst::Pipeline::with_name("window");
        pipeline.add_many(&chain)?;
        gst::Element::link_many(&chain)?;
        let window = Self {
            pipeline,
            source,
            video: video.clone(),
        };
        if window.pipeline.set_state(gst::State::Playing).is_err() {
            window.check()?;
            bail!("no window opens: is there a display?");
        }
        Ok(window)
    }

    /// Shows a frame when its time has come.
    ///
    /// # Errors
    /// If the window was closed.
    pub fn show(&self, frame: RawFrame) -> Result<()> {
        self.check()?;
        let buffer = self.video.buffer(frame)?;
        if self.source.push_buffer(buffer).is_err() {
            self.check()?;
        }
        Ok(())
    }

    /// Plays to the end.
    ///
    /// # Errors
    /// If the window was closed.
    pub fn finish(&self) -> Result<()> {
        // Refused where it has ended by itself.
        let _ = self.source.end_of_stream();
        while !interrupt::wanted() {
            let ends = [gst::MessageType::Eos, gst::MessageType::Error];
            let Some(message) = self
                .pipeline
                .bus()
                .and_then(|bus| bus.timed_pop_filtered(gst::ClockTime::from_mseconds(100), &ends))
            else {
                continue;
            };
            match message.view() {
                gst::MessageView::Error(_) => bail!(describe(&message, &[])),
                _ => break,
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let error = self
            .pipeline
            .bus()
            .and_then(|bus| bus.pop_filtered(&[gst::MessageType::Error]));
        match error {
            Some(message) => bail!(describe(&message, &[])),
            None => Ok(()),
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
