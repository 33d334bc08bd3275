// SPDX-License-Identifier: MPL-2.0
//! The worker and the pads' caps.

use flashvideo::{FrameFormat, Size};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;

use super::super::imp::FlashUpscale;
use super::super::output::Output;
use super::super::run::{Run, is_lasting};
use super::super::{CAT, caps};
use super::Worker;
use crate::common::frame::{frame_format, frame_size};

/// What caps say about both sides.
pub(super) struct Negotiated {
    pub input_caps: gst::Caps,
    pub input_info: VideoInfo,
    pub format: FrameFormat,
    pub output_size: Size,
    pub output: Output,
}

impl Worker {
    /// Agrees with downstream on caps and buffers. The model is empty when this is called.
    pub(super) fn negotiate(&mut self, imp: &FlashUpscale, run: &Run) {
        if self.flow.is_err_and(is_lasting) {
            return;
        }
        self.complained = false;
        if let Err(flow) = self.try_negotiate(imp) {
            self.negotiated = None;
            self.drop_stream(imp);
            self.set_flow(imp, run, flow);
        } else if self.flow != Err(gst::FlowError::Eos) {
            // New caps have mended it.
            self.restore_flow(imp, run);
        }
    }

    fn try_negotiate(&mut self, imp: &FlashUpscale) -> Result<(), gst::FlowError> {
        let input_caps = self
            .input_caps
            .clone()
            .ok_or(gst::FlowError::NotNegotiated)?;
        let input_info =
            caps::parse_input(&input_caps).map_err(|_| gst::FlowError::NotNegotiated)?;
        let downstream = imp.srcpad.peer_query_caps(None);
        let scale = imp.settings().scale;
        let output_caps = caps::choose_output(&input_caps, &downstream, scale).map_err(|text| {
            gst::element_imp_error!(imp, gst::CoreError::Negotiation, ("{text}"));
            self.complained = true;
            gst::FlowError::NotNegotiated
        })?;
        let output_info =
            VideoInfo::from_caps(&output_caps).map_err(|_| gst::FlowError::NotNegotiated)?;
        let output_size = frame_size(&output_info);
        let format = frame_format(&input_info);

        let same_stream = self.negotiated.as_ref().is_some_and(|old| {
            old.format == format
                && frame_size(&old.input_info) == frame_size(&input_info)
                && old.output_size == output_size
        });
        if !same_stream {
            self.drop_stream(imp);
        }
        if imp.srcpad.current_caps().as_ref() != Some(&output_caps) {
            gst::info!(CAT, imp = imp, "{input_caps} becomes {output_caps}");
            if !imp.srcpad.push_event(gst::event::Caps::new(&output_caps)) {
                return Err(gst::FlowError::NotNegotiated);
            }
        }
        // The old pool is inactive before downstream is asked for the new one, which may be the same.
        self.negotiated = None;
        imp.state().pool = None;
        let output = Output::decide(&imp.srcpad, &output_caps, output_info).map_err(|error| {
            gst::element_imp_error!(
                imp,
                gst::ResourceError::NoSpaceLeft,
                ("no buffers of {output_size}: {error}; choose a smaller output size")
            );
            gst::FlowError::Error
        })?;
        {
            let mut state = imp.state();
            state.pool = Some(output.pool().clone());
            state.sizes = Some((frame_size(&input_info), output_size));
        }
        self.negotiated = Some(Negotiated {
            input_caps,
            input_info,
            format,
            output_size,
            output,
        });
        if self.stream.is_some() {
            self.update_latency(imp);
        }
        Ok(())
    }
}
