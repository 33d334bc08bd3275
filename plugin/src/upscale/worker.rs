// SPDX-License-Identifier: MPL-2.0
//! The source pad's task: takes items from the channel in order, runs the model, pushes.
//!
//! The worker owns everything that belongs to the stream; nothing of it is shared, so nothing is locked while the
//! model computes.

use std::collections::VecDeque;

use crossbeam::channel::Receiver;
use flashvideo::{EnhanceOptions, EnhanceStream, Error, Frame, FrameFormat, Size, plain_resize};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoInfo;

use super::imp::FlashUpscale;
use super::output::Output;
use super::run::{Item, QUEUE_LENGTH, Run};
use super::settings::Settings;
use super::ticket::Ticket;
use super::{CAT, caps, convert};

/// Frame duration assumed for latency when caps do not tell.
const UNKNOWN_FRAME_DURATION: gst::ClockTime = gst::ClockTime::from_mseconds(40);

pub(super) struct Worker {
    runs: Receiver<Run>,
    run: Option<Run>,
    /// What downstream answered last; frames are dropped while it is an error, events still pass.
    flow: Result<gst::FlowSuccess, gst::FlowError>,
    /// Of the next frame.
    input_caps: Option<gst::Caps>,
    negotiated: Option<Negotiated>,
    stream: Option<EnhanceStream<Ticket>>,
    options: Option<EnhanceOptions>,
    /// Frames that the current way of working has to see beyond a frame.
    look_ahead: usize,
    /// Function evaluations when nobody asks for a number of them.
    default_steps: usize,
    segment: Option<gst::Segment>,
    /// Title of the stream from upstream's tags.
    title: Option<String>,
    told_about_prompt: bool,
    /// Frames of this run that went into the model, and that came out.
    taken: u64,
    given: u64,
    /// Events to be pushed once so many frames have come out.
    waiting: VecDeque<(u64, gst::Event)>,
}

/// What caps say about both sides.
struct Negotiated {
    input_caps: gst::Caps,
    input_info: VideoInfo,
    format: FrameFormat,
    output_size: Size,
    output: Output,
}

impl Worker {
    pub fn new(runs: Receiver<Run>) -> Self {
        Self {
            runs,
            run: None,
            flow: Ok(gst::FlowSuccess::Ok),
            input_caps: None,
            negotiated: None,
            stream: None,
            options: None,
            look_ahead: 0,
            default_steps: 0,
            segment: None,
            title: None,
            told_about_prompt: false,
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
        self.options = None;
    }

    /// Remembers a failed flow, and tells upstream with its next buffer.
    fn set_flow(&mut self, imp: &FlashUpscale, run: &Run, flow: gst::FlowError) {
        self.flow = Err(flow);
        let nobody_asks = {
            let mut state = imp.state();
            // Once the run is stopped the flow belongs to its successor.
            if run.is_stopped() {
                return;
            }
            state.flow = Err(flow);
            state.eos
        };
        gst::debug!(CAT, imp = imp, "flow is now {flow:?}");
        if nobody_asks
            && matches!(
                flow,
                gst::FlowError::NotLinked | gst::FlowError::NotNegotiated
            )
        {
            gst::element_imp_error!(
                imp,
                gst::StreamError::Failed,
                ["streaming stopped, reason {flow}"]
            );
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
        if self.flow.is_err() {
            return;
        }
        let stale = self.negotiated.as_ref().map(|n| &n.input_caps) != self.input_caps.as_ref();
        if imp.srcpad.check_reconfigure() || stale {
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
                ["a buffer arrived before caps"]
            );
            self.set_flow(imp, run, gst::FlowError::NotNegotiated);
            return;
        };
        let frame = convert::read(&buffer, &negotiated.input_info, negotiated.format);
        let (frame, ticket) = match (frame, Ticket::of(&buffer)) {
            (Ok(frame), Ok(ticket)) => (frame, ticket),
            (Err(text), _) => return self.refuse_buffer(imp, run, &text),
            (_, Err(error)) => return self.refuse_buffer(imp, run, &error.to_string()),
        };
        // Upstream's pool gets the picture back before the long part.
        drop(buffer);
        imp.stats().frame_started();
        let finished = if settings.bypass {
            self.drop_stream(imp);
            self.plain(imp, frame, ticket)
        } else {
            self.enhance(imp, run, &settings, frame, ticket)
        };
        match finished {
            Ok(finished) => self.push(imp, run, finished),
            Err(Failure::Flow(flow)) => self.set_flow(imp, run, flow),
            Err(Failure::Runtime(error)) => self.fail(imp, run, &error),
        }
    }

    fn refuse_buffer(&mut self, imp: &FlashUpscale, run: &Run, text: &str) {
        gst::element_imp_error!(imp, gst::StreamError::Format, ["{text}"]);
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

    /// Bypass: a plain resize.
    fn plain(
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

    fn enhance(
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
        if let Some(stream) = &mut self.stream {
            if self.options.as_ref() != Some(&options) {
                stream.set_options(options.clone())?;
                self.options = Some(options);
            }
            return Ok(());
        }
        let model = imp.wait_for_model(&settings.request()?, run)?;
        if !options.prompt.is_empty() && !model.reads_text() && !self.told_about_prompt {
            self.told_about_prompt = true;
            gst::info!(
                CAT,
                imp = imp,
                "model {} does not read text: the prompt has no effect",
                model.name()
            );
        }
        let info = &negotiated.input_info;
        self.look_ahead = model.look_ahead();
        self.default_steps = model.default_steps();
        imp.stats().begin_stream(model.name());
        self.stream = Some(EnhanceStream::new(
            model,
            negotiated.format,
            Size::new(info.width() as usize, info.height() as usize),
            options.clone(),
            imp.progress(run.cancel().clone()),
        )?);
        self.options = Some(options);
        self.update_latency(imp);
        Ok(())
    }

    /// Function evaluations per window with the current options.
    fn steps(&self) -> usize {
        match &self.options {
            Some(options) if options.steps > 0 => options.steps,
            _ => self.default_steps,
        }
    }

    /// A frame waits for those it looks ahead to, and has the time of one frame to be computed. As many more can wait
    /// as the channel holds.
    fn update_latency(&self, imp: &FlashUpscale) {
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

    /// Lets all frames out of the model.
    fn drain(&mut self, imp: &FlashUpscale, run: &Run) {
        if self.given < self.taken
            && let Some(stream) = &mut self.stream
        {
            if self.flow.is_ok() {
                match stream.drain() {
                    Ok(finished) => {
                        let stats = stream.stats();
                        imp.stats().update_stream(stats, self.steps());
                        self.push(imp, run, finished);
                    }
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
        for (frame, ticket) in finished {
            self.given += 1;
            if self.flow.is_ok()
                && let Some(negotiated) = &self.negotiated
            {
                match negotiated
                    .output
                    .finish(&frame, &ticket, &negotiated.input_info)
                {
                    Ok(buffer) => {
                        gst::trace!(CAT, imp = imp, "pushing {buffer:?}");
                        imp.stats().frame_finished();
                        if let Err(flow) = imp.srcpad.push(buffer) {
                            self.set_flow(imp, run, flow);
                        }
                    }
                    Err((flow, text)) => {
                        if let Some(text) = text {
                            gst::element_imp_error!(imp, gst::ResourceError::Write, ["{text}"]);
                        }
                        self.set_flow(imp, run, flow);
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

    /// Agrees with downstream on caps and buffers. The model is empty when this is called.
    fn negotiate(&mut self, imp: &FlashUpscale, run: &Run) {
        if matches!(self.flow, Err(flow) if flow != gst::FlowError::NotNegotiated) {
            return;
        }
        if let Err(flow) = self.try_negotiate(imp) {
            self.negotiated = None;
            self.drop_stream(imp);
            self.set_flow(imp, run, flow);
        } else if self.flow.is_err() {
            // New caps have mended it.
            self.flow = Ok(gst::FlowSuccess::Ok);
            let mut state = imp.state();
            if !run.is_stopped() {
                state.flow = self.flow;
            }
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
            gst::element_imp_error!(imp, gst::CoreError::Negotiation, ["{text}"]);
            gst::FlowError::NotNegotiated
        })?;
        let output_info =
            VideoInfo::from_caps(&output_caps).map_err(|_| gst::FlowError::NotNegotiated)?;
        let size = |info: &VideoInfo| Size::new(info.width() as usize, info.height() as usize);
        let output_size = size(&output_info);
        let format = convert::frame_format(&input_info);

        let same_stream = self.negotiated.as_ref().is_some_and(|old| {
            old.format == format
                && size(&old.input_info) == size(&input_info)
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
                ["no buffers of {output_size}: {error}; choose a smaller output size"]
            );
            gst::FlowError::Error
        })?;
        {
            let mut state = imp.state();
            state.pool = Some(output.pool().clone());
            state.sizes = Some((size(&input_info), output_size));
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

/// Frames that came out, in order.
type Finished = Vec<(Frame, Ticket)>;

/// Why a frame has no successor.
enum Failure {
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
