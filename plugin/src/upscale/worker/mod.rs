// SPDX-License-Identifier: MPL-2.0
//! The source pad's task: takes items from the channel in order, runs the model, pushes.
//!
//! The worker owns everything that belongs to the stream; nothing of it is shared, so nothing is locked while the
//! model computes.

mod enhance;
mod negotiation;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crossbeam::channel::Receiver;
use flashvideo::{Error, Frame};
use gst::prelude::*;
use gst::subclass::prelude::*;

use self::enhance::{Failure, ModelStream};
use self::negotiation::Negotiated;
use super::CAT;
use super::imp::FlashUpscale;
use super::metadata::Metadata;
use super::run::{Item, Run};
use crate::common::frame;
use crate::common::messages::Messages;

pub(super) struct Worker {
    runs: Receiver<Run>,
    run: Option<Run>,
    /// What downstream answered last; frames are dropped while it is an error, events still pass.
    flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// What upstream is to be told is an error.
    failed: bool,
    /// What keeps downstream's caps and ours apart is on the bus.
    complained: bool,
    /// Of the next frame.
    input_caps: Option<gst::Caps>,
    negotiated: Option<Negotiated>,
    stream: Option<ModelStream>,
    segment: Option<gst::Segment>,
    /// Title of the stream from upstream's tags.
    title: Option<String>,
    told_about_prompt: bool,
    told_about_size: bool,
    /// Frames of this run that went into the model, and that came out.
    taken: u64,
    given: u64,
    /// Events to be pushed once so many frames have come out.
    waiting: VecDeque<(u64, gst::Event)>,
}

impl Worker {
    pub fn new(runs: Receiver<Run>) -> Self {
        Self {
            runs,
            run: None,
            flow: Ok(gst::FlowSuccess::Ok),
            failed: false,
            complained: false,
            input_caps: None,
            negotiated: None,
            stream: None,
            segment: None,
            title: None,
            told_about_prompt: false,
            told_about_size: false,
            taken: 0,
            given: 0,
            waiting: VecDeque::new(),
        }
    }

    /// One item, or the change to another run. Blocks while there is nothing to do.
    pub fn iterate(&mut self, imp: &FlashUpscale) {
        let run = match self.run.take() {
            Some(run) => run,
            None => match self.runs.recv() {
                Ok(run) => {
                    self.enter(imp, &run);
                    run
                }
                Err(_) => {
                    // The pad is being deactivated.
                    let _ = imp.srcpad.pause_task();
                    return;
                }
            },
        };
        match run.next() {
            Some(Item::Buffer(buffer)) => self.handle_buffer(imp, &run, buffer),
            Some(Item::Event(event)) => self.handle_event(imp, &run, event),
            Some(Item::Query(mut query, reply)) => {
                self.drain(imp, &run);
                if imp.srcpad.peer_query(query.make_mut()) {
                    let _ = reply.send(query);
                }
            }
            None => {}
        }
        if run.is_stopped() {
            self.leave(imp);
        } else {
            self.run = Some(run);
        }
    }

    /// Begins a run: nothing of the one before is left but the negotiated caps.
    fn enter(&mut self, imp: &FlashUpscale, run: &Run) {
        imp.state().worker_thread = Some(std::thread::current().id());
        self.leave(imp);
        self.flow = Ok(gst::FlowSuccess::Ok);
        self.failed = false;
        self.complained = false;
        self.segment = None;
        self.input_caps = run.caps.clone();
    }

    fn leave(&mut self, imp: &FlashUpscale) {
        self.drop_stream(imp);
        self.waiting.clear();
        self.taken = 0;
        self.given = 0;
    }

    fn drop_stream(&mut self, imp: &FlashUpscale) {
        if self.stream.take().is_some() {
            imp.stats().end_stream();
        }
    }

    /// Remembers a failed flow, and tells upstream with its next buffer.
    fn set_flow(&mut self, imp: &FlashUpscale, run: &Run, flow: gst::FlowError) {
        self.flow = Err(flow);
        let known = self.complained && flow == gst::FlowError::NotNegotiated;
        let nobody_asks = {
            let mut state = imp.state();
            // Once the run is stopped the flow belongs to its successor.
            if run.is_stopped() {
                return;
            }
            state.flow = Err(flow);
            state.flow_is_known = known;
            self.failed = true;
            state.eos && !known
        };
        gst::debug!(CAT, imp = imp, "flow is now {flow:?}");
        if nobody_asks {
            imp.post_flow(flow);
        }
    }

    /// Frames are taken again, and upstream may know.
    fn restore_flow(&mut self, imp: &FlashUpscale, run: &Run) {
        self.flow = Ok(gst::FlowSuccess::Ok);
        if std::mem::take(&mut self.failed) {
            let mut state = imp.state();
            if !run.is_stopped() {
                state.flow = Ok(gst::FlowSuccess::Ok);
            }
        }
    }

    /// Whether the next frame is worth an evaluation, after what downstream said of those before it; `reconfigure` tells that
    /// something has changed there.
    fn may_try(&self, imp: &FlashUpscale, reconfigure: bool) -> bool {
        match self.flow {
            Ok(_) => true,
            Err(gst::FlowError::NotLinked) => imp.srcpad.is_linked(),
            Err(gst::FlowError::Flushing) => true,
            // Without a change the same would be said again.
            Err(gst::FlowError::NotNegotiated) => reconfigure || !self.complained,
            Err(gst::FlowError::Eos) => reconfigure,
            Err(_) => false,
        }
    }

    /// Ends the stream with an error of the runtime.
    fn fail(&mut self, imp: &FlashUpscale, run: &Run, error: &Error) {
        self.drop_stream(imp);
        self.given = self.taken;
        self.push_waiting_events(imp);
        if run.is_stopped() || error.is_cancelled() {
            self.flow = Err(gst::FlowError::Flushing);
            return;
        }
        self.set_flow(imp, run, gst::FlowError::Error);
        imp.post_failure(error);
    }

    fn handle_event(&mut self, imp: &FlashUpscale, run: &Run, event: gst::Event) {
        gst::log!(CAT, imp = imp, "event's turn: {event:?}");
        match event.view() {
            gst::EventView::StreamStart(_) => {
                self.drain(imp, run);
                self.title = None;
                self.segment = None;
                self.forgive_eos();
            }
            gst::EventView::Caps(caps) => {
                if self.input_caps.as_deref() != Some(caps.caps()) || self.negotiated.is_none() {
                    self.drain(imp, run);
                    self.input_caps = Some(caps.caps_owned());
                    // The flag would only make the next frame negotiate again.
                    imp.srcpad.check_reconfigure();
                    self.negotiate(imp, run);
                }
                return;
            }
            gst::EventView::Segment(segment) => {
                if self
                    .segment
                    .as_ref()
                    .is_none_or(|old| changes(old, segment.segment()))
                {
                    self.drain(imp, run);
                }
                self.segment = Some(segment.segment().clone());
                self.forgive_eos();
                // A flush may have taken the caps away that were to come before it.
                if self.input_caps.is_some() && self.is_stale() {
                    self.negotiate(imp, run);
                }
            }
            gst::EventView::Gap(_) | gst::EventView::SegmentDone(_) | gst::EventView::Eos(_) => {
                self.drain(imp, run);
            }
            gst::EventView::Tag(tag) => {
                if let Some(title) = tag.tag().get::<gst::tags::Title>() {
                    self.title = Some(title.get().to_owned());
                }
            }
            _ => {}
        }
        if self.given == self.taken {
            imp.srcpad.push_event(event);
        } else {
            self.waiting.push_back((self.taken, event));
        }
    }

    /// Data may follow an EOS of downstream after a new segment.
    fn forgive_eos(&mut self) {
        if self.flow == Err(gst::FlowError::Eos) {
            self.flow = Ok(gst::FlowSuccess::Ok);
        }
    }

    fn handle_buffer(&mut self, imp: &FlashUpscale, run: &Run, buffer: gst::Buffer) {
        let reconfigure = imp.srcpad.check_reconfigure();
        if !self.may_try(imp, reconfigure) {
            return;
        }
        self.flow = Ok(gst::FlowSuccess::Ok);
        #[cfg(test)]
        assert!(buffer.offset() != tests::POISON, "a poisoned frame");
        if reconfigure || self.is_stale() {
            self.drain(imp, run);
            self.negotiate(imp, run);
        }
        if buffer.flags().contains(gst::BufferFlags::DISCONT) {
            self.drain(imp, run);
        }
        self.sync_controlled_properties(imp, &buffer);
        let settings = imp.settings();
        if settings.bypass {
            self.drain(imp, run);
        }
        if self.flow.is_err() {
            return;
        }
        let Some(negotiated) = &self.negotiated else {
            gst::element_imp_error!(
                imp,
                gst::CoreError::Negotiation,
                ("a buffer arrived before caps")
            );
            self.set_flow(imp, run, gst::FlowError::NotNegotiated);
            return;
        };
        let frame = frame::read(&buffer, &negotiated.input_info, negotiated.format);
        let (frame, metadata) = match (frame, Metadata::of(&buffer)) {
            (Ok(frame), Ok(metadata)) => (frame, metadata),
            (Err(text), _) => return self.refuse_buffer(imp, run, &text),
            (_, Err(error)) => return self.refuse_buffer(imp, run, &error.to_string()),
        };
        // Upstream's pool gets the picture back before the long part.
        drop(buffer);
        imp.stats().frame_started();
        let finished = if settings.bypass {
            self.drop_stream(imp);
            self.plain(imp, frame, metadata)
        } else {
            self.enhance(imp, run, &settings, frame, metadata)
        };
        match finished {
            Ok(finished) => self.push(imp, run, finished),
            Err(Failure::Flow(flow)) => self.set_flow(imp, run, flow),
            Err(Failure::Runtime(error)) => self.fail(imp, run, &error),
        }
    }

    /// Whether the next frame's caps are others than those agreed upon.
    fn is_stale(&self) -> bool {
        self.negotiated.as_ref().map(|n| &n.input_caps) != self.input_caps.as_ref()
    }

    fn refuse_buffer(&mut self, imp: &FlashUpscale, run: &Run, text: &str) {
        gst::element_imp_error!(imp, gst::StreamError::Format, ("{text}"));
        self.set_flow(imp, run, gst::FlowError::Error);
    }

    /// Properties that follow a controller take the value of this frame's time.
    fn sync_controlled_properties(&self, imp: &FlashUpscale, buffer: &gst::BufferRef) {
        let element = imp.obj();
        if element.has_active_control_bindings()
            && let Some(segment) = self
                .segment
                .as_ref()
                .and_then(|s| s.downcast_ref::<gst::ClockTime>())
            && let Some(time) = segment.to_stream_time(buffer.pts())
            && let Err(error) = element.sync_values(time)
        {
            gst::warning!(
                CAT,
                imp = imp,
                "controlled properties keep their values: {error}"
            );
        }
    }

    /// Lets all frames out of the model.
    fn drain(&mut self, imp: &FlashUpscale, run: &Run) {
        if self.given < self.taken
            && let Some(stream) = &mut self.stream
        {
            if self.flow.is_ok() {
                match stream.drain(imp) {
                    Ok(finished) => self.push(imp, run, finished),
                    Err(error) => self.fail(imp, run, &error),
                }
            } else {
                stream.reset();
            }
        }
        self.given = self.taken;
        self.push_waiting_events(imp);
    }

    /// Pushes finished frames, each followed by the events that came after it.
    fn push(&mut self, imp: &FlashUpscale, run: &Run, finished: Finished) {
        for (frame, metadata) in finished {
            if run.is_stopped() {
                // Perhaps by ourselves: a push can come back as a flush.
                return;
            }
            self.given += 1;
            if self.flow.is_ok()
                && let Some(negotiated) = &self.negotiated
            {
                match negotiated
                    .output
                    .finish(&frame, &metadata, &negotiated.input_info)
                {
                    Ok(buffer) => {
                        gst::trace!(CAT, imp = imp, "pushing {buffer:?}");
                        imp.stats().frame_finished();
                        match imp.srcpad.push(buffer) {
                            Ok(_) if self.failed => self.restore_flow(imp, run),
                            Ok(_) => {}
                            Err(flow) => self.set_flow(imp, run, flow),
                        }
                    }
                    Err((flow, message)) => {
                        self.set_flow(imp, run, flow);
                        if let Some(message) = message {
                            imp.post_error_message(message);
                        }
                    }
                }
            }
            self.push_waiting_events(imp);
        }
    }

    fn push_waiting_events(&mut self, imp: &FlashUpscale) {
        while let Some((after, event)) = self.waiting.pop_front() {
            if after > self.given {
                self.waiting.push_front((after, event));
                return;
            }
            imp.srcpad.push_event(event);
        }
    }
}

/// Frames that came out, in order.
type Finished = Vec<(Frame, Metadata)>;

/// Whether `new` differs from `old` in more than the position.
fn changes(old: &gst::Segment, new: &gst::Segment) -> bool {
    match (
        old.downcast_ref::<gst::ClockTime>(),
        new.downcast_ref::<gst::ClockTime>(),
    ) {
        (Some(old), Some(new)) => {
            let mut moved = new.clone();
            moved.set_position(old.position());
            moved != *old
        }
        _ => old != new,
    }
}
