// SPDX-License-Identifier: MPL-2.0
//! The sink pad: everything serialized goes into the channel, everything else is answered at once.

use flashvideo::Size;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::caps;
use super::imp::FlashUpscale;
use super::run::{Item, QUEUE_LENGTH, RunInput, is_lasting, new_run};

impl FlashUpscale {
    /// The channel of the current run.
    fn input(&self) -> Result<RunInput, gst::FlowError> {
        let state = self.state();
        state
            .run
            .as_ref()
            .map(|run| run.input())
            .ok_or(gst::FlowError::Flushing)
    }

    pub(super) fn sink_chain(
        &self,
        pad: &gst::Pad,
        buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        gst::trace!(CAT, obj = pad, "queueing {buffer:?}");
        {
            let state = self.state();
            if state.refused.is_some() {
                return Err(gst::FlowError::Eos);
            }
            if let Err(flow) = state.flow
                && is_lasting(flow)
            {
                return Err(flow);
            }
        }
        // What passes is told to upstream, and the frame goes on: by the time of its turn it may have passed.
        let sent = self.input()?.send(Item::Buffer(buffer));
        let flow = {
            let mut state = self.state();
            state.flow_is_known = true;
            state.flow
        };
        // The worker's verdict tells more than the closed channel.
        flow?;
        sent?;
        flow
    }

    pub(super) fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, obj = pad, "handling {event:?}");
        match event.view() {
            gst::EventView::FlushStart(_) => return self.flush_start(event),
            gst::EventView::FlushStop(_) => return self.flush_stop(event),
            gst::EventView::Caps(caps_event) => {
                if let Err(text) = caps::parse_input(caps_event.caps()) {
                    return self.refuse(caps_event.caps_owned(), &text);
                }
                let mended = self.state().refused.take().is_some();
                if mended && let Some(segment) = pad.sticky_event::<gst::event::Segment>(0) {
                    return self.enqueue(event) && self.enqueue(segment.into());
                }
            }
            gst::EventView::StreamStart(_) | gst::EventView::Segment(_) => {
                let mut state = self.state();
                state.eos = false;
                if state.flow == Err(gst::FlowError::Eos) {
                    state.flow = Ok(gst::FlowSuccess::Ok);
                }
                // Not before the caps that belong to it. The pad keeps it until there are some that can be taken.
                if state.refused.is_some() && event.type_() == gst::EventType::Segment {
                    return true;
                }
            }
            gst::EventView::Eos(_) => {
                let unknown = {
                    let mut state = self.state();
                    state.eos = true;
                    state.flow.err().filter(|_| !state.flow_is_known)
                };
                if let Some(flow) = unknown {
                    self.post_flow(flow);
                }
            }
            _ => {}
        }
        if !event.is_serialized() {
            return gst::Pad::event_default(pad, Some(&*self.obj()), event);
        }
        self.enqueue(event)
    }

    /// Sends a serialized event to the worker.
    fn enqueue(&self, event: gst::Event) -> bool {
        match self.input() {
            Ok(input) => input.send(Item::Event(event)).is_ok(),
            Err(_) => false,
        }
    }

    /// Says that nobody takes the frames: upstream, which would say so, does not ask any more.
    pub(super) fn post_flow(&self, flow: gst::FlowError) {
        if matches!(
            flow,
            gst::FlowError::NotLinked | gst::FlowError::NotNegotiated
        ) {
            gst::element_imp_error!(
                self,
                gst::StreamError::Failed,
                ("internal data stream error"),
                ["streaming stopped, reason {flow}"]
            );
        }
    }

    /// Takes `caps` that no frame can be taken of, and says so, once.
    ///
    /// The event counts as taken, and the stream ends: an element that gets an error back posts one of its own, up to the
    /// source, and sends the event again with each buffer. All of these would bury the one that says what to do.
    fn refuse(&self, caps: gst::Caps, text: &str) -> bool {
        let again = {
            let mut state = self.state();
            let again = state.refused.as_ref() == Some(&caps);
            state.refused = Some(caps);
            again
        };
        if !again {
            gst::element_imp_error!(self, gst::CoreError::Negotiation, ("{text}"));
        }
        true
    }

    /// Stops the run: the inference is cancelled, everyone who waits is woken, downstream knows at once.
    fn flush_start(&self, event: gst::Event) -> bool {
        let pool = self.stop_run();
        if let Some(pool) = pool {
            pool.set_flushing(true);
        }
        self.srcpad.push_event(event)
    }

    /// Begins a new run once the worker has left the old one. The stream lock is held by the caller, so nothing
    /// arrives meanwhile.
    fn flush_stop(&self, event: gst::Event) -> bool {
        // Without a FLUSH_START in front of it the old run still goes on.
        let pool = self.stop_run();
        if let Some(pool) = &pool {
            pool.set_flushing(true);
        }
        let (leaving, is_worker) = {
            let mut state = self.state();
            let is_worker = state.worker_thread == Some(std::thread::current().id());
            (state.leaving.take(), is_worker)
        };
        // A seek from within our own push comes back on the worker's thread: it cannot wait for itself, and what it
        // does next is to look at the run and leave it.
        if let Some(leaving) = leaving
            && !is_worker
        {
            leaving.wait();
        }
        if let Some(pool) = pool {
            pool.set_flushing(false);
        }
        let pushed = self.srcpad.push_event(event);
        self.restore_sticky_events();
        self.start_run();
        pushed
    }

    /// Sticky events that were dropped in the channel would be missed downstream. Caps are negotiated again by the
    /// worker, segment and EOS belong to the time before the flush.
    fn restore_sticky_events(&self) {
        let mut events = Vec::new();
        self.sinkpad.sticky_events_foreach(|event| {
            events.push(event.clone());
            std::ops::ControlFlow::Continue(gst::EventForeachAction::Keep)
        });
        for event in events {
            if !matches!(
                event.type_(),
                gst::EventType::Caps | gst::EventType::Segment | gst::EventType::Eos
            ) {
                let _ = self.srcpad.store_sticky_event(&event);
            }
        }
    }

    /// Hands a new run to the worker, if there is one.
    pub(super) fn start_run(&self) {
        let caps = self.sinkpad.current_caps();
        let mut state = self.state();
        let (control, run) = new_run(caps.filter(|_| state.refused.is_none()));
        let Some(worker) = state.worker.clone() else {
            return;
        };
        state.flow = Ok(gst::FlowSuccess::Ok);
        state.eos = false;
        state.run = Some(control);
        state.leaving = None;
        // Unbounded, so this does not block; the worker takes its receiver with it only on deactivation.
        let _ = worker.send(run);
    }

    /// Stops the current run without waiting. Returns the pool that the worker may be waiting in.
    pub(super) fn stop_run(&self) -> Option<gst::BufferPool> {
        let mut state = self.state();
        state.flow = Err(gst::FlowError::Flushing);
        if let Some(run) = state.run.take() {
            state.leaving = Some(run.stop());
        }
        state.pool.clone()
    }

    pub(super) fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        gst::trace!(CAT, obj = pad, "handling {query:?}");
        let serialized = query.is_serialized();
        match query.view_mut() {
            gst::QueryViewMut::Caps(q) => {
                let downstream = self.srcpad.peer_query_caps(None);
                let offer = caps::sink_offer(Some(&downstream), q.filter_owned().as_ref());
                gst::log!(CAT, obj = pad, "offering {offer}");
                q.set_result(&offer);
                true
            }
            gst::QueryViewMut::AcceptCaps(q) => {
                let accepted = caps::accepts(&q.caps_owned());
                q.set_result(accepted);
                true
            }
            gst::QueryViewMut::Allocation(q) => self.propose_allocation(q),
            _ if serialized => self.ask_worker(query),
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    /// Any strides will do; a few buffers wait in the channel.
    fn propose_allocation(&self, query: &mut gst::query::Allocation) -> bool {
        let (caps, need_pool) = query.get_owned();
        let Some(info) = caps.and_then(|caps| gst_video::VideoInfo::from_caps(&caps).ok()) else {
            return false;
        };
        if need_pool {
            query.add_allocation_pool(
                None::<&gst::BufferPool>,
                info.size() as u32,
                QUEUE_LENGTH as u32 + 1,
                0,
            );
        }
        query.add_allocation_meta::<gst_video::VideoMeta>(None);
        true
    }

    /// Lets a serialized query pass downstream behind the frames before it.
    fn ask_worker(&self, query: &mut gst::QueryRef) -> bool {
        let Some(answer) = self.input().ok().and_then(|input| input.ask(query.copy())) else {
            return false;
        };
        if let Some(answer) = answer.structure() {
            let structure = query.structure_mut();
            for (name, value) in answer.iter() {
                structure.set_value(name, value.clone());
            }
        }
        true
    }

    /// Input and output size, once both are known.
    pub(super) fn sizes(&self) -> Option<(Size, Size)> {
        self.state().sizes
    }
}
