// SPDX-License-Identifier: MPL-2.0
//! The source pad: queries and events from downstream, and the task's life.

use std::sync::{Arc, Mutex};

use crossbeam::channel::unbounded;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::CAT;
use super::caps;
use super::imp::FlashUpscale;
use super::worker::Worker;
use crate::common::lock;

impl FlashUpscale {
    pub(super) fn src_activatemode(
        &self,
        pad: &gst::Pad,
        mode: gst::PadMode,
        active: bool,
    ) -> Result<(), gst::LoggableError> {
        if mode != gst::PadMode::Push {
            return Err(gst::loggable_error!(CAT, "only push mode is supported"));
        }
        if active {
            let (runs_tx, runs) = unbounded();
            let worker = Arc::new(Mutex::new(Some(Worker::new(runs))));
            {
                let mut state = self.state();
                state.worker = Some(runs_tx);
                let worker = worker.clone();
                // Messages hold the task, and what it calls, until somebody reads them. Its runs, pool and model end here.
                state.end_worker = Some(Box::new(move || {
                    if let Ok(mut worker) = worker.try_lock() {
                        drop(worker.take());
                    }
                }));
            }
            self.start_run();
            let weak = self.obj().downgrade();
            pad.start_task(move || {
                // Nobody else takes this lock before the task is over.
                let mut worker = lock(&worker);
                if let (Some(element), Some(worker)) = (weak.upgrade(), worker.as_mut()) {
                    element.imp().catch_panic(
                        || element.imp().worker_panicked(),
                        |imp| worker.iterate(imp),
                    );
                }
            })
            .map_err(|e| gst::loggable_error!(CAT, "cannot start the source pad's task: {e}"))
        } else {
            // Without a mailbox the worker ends; without a run it does not wait for anything else.
            self.state().worker = None;
            if let Some(pool) = self.stop_run() {
                pool.set_flushing(true);
            }
            let stopped = pad.stop_task();
            let end_worker = self.state().end_worker.take();
            if let Some(end_worker) = end_worker {
                end_worker();
            }
            self.state().forget_stream();
            stopped.map_err(|e| gst::loggable_error!(CAT, "cannot stop the source pad's task: {e}"))
        }
    }

    /// The panic is on the bus; the run it happened in is over and there will be no other.
    fn worker_panicked(&self) {
        let pool = self.stop_run();
        {
            let mut state = self.state();
            state.worker = None;
            state.flow = Err(gst::FlowError::Error);
        }
        let _ = self.srcpad.pause_task();
        if let Some(pool) = pool {
            pool.set_flushing(true);
        }
    }

    pub(super) fn src_event(&self, pad: &gst::Pad, mut event: gst::Event) -> bool {
        gst::log!(CAT, obj = pad, "handling {event:?}");
        if event.type_() == gst::EventType::Navigation
            && let Some((input, output)) = self.sizes()
        {
            let factors = [
                input.width as f64 / output.width as f64,
                input.height as f64 / output.height as f64,
            ];
            scale_pointer(event.make_mut().structure_mut(), factors);
        }
        if let gst::EventView::Latency(latency) = event.view() {
            self.timing.lock().configured = Some(latency.latency());
        }
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, _, diff, time) = qos.get();
            if let Some(time) = time {
                self.timing.downstream_says(time, diff);
            }
            // Late frames get less here; upstream need not skip any. Without that it may: this element never does.
            let live = self.timing.lock().live;
            if self.settings().is_paced(live) {
                return true;
            }
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    pub(super) fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        gst::trace!(CAT, obj = pad, "handling {query:?}");
        match query.view_mut() {
            gst::QueryViewMut::Latency(q) => {
                let mut peer = gst::query::Latency::new();
                if !self.sinkpad.peer_query(&mut peer) {
                    return false;
                }
                let (live, mut min, mut max) = peer.result();
                let own = self.state().latency;
                {
                    let mut known = self.timing.lock();
                    known.live = live;
                    known.upstream = min;
                }
                if live && let Some(own) = own {
                    min += own.min;
                    max = max.opt_add(own.max);
                }
                gst::debug!(
                    CAT,
                    obj = pad,
                    "latency: live {live}, min {min}, max {max:?}"
                );
                q.set(live, min, max);
                true
            }
            gst::QueryViewMut::Caps(q) => {
                let scale = self.settings().scale;
                let upstream = self
                    .sinkpad
                    .current_caps()
                    .unwrap_or_else(|| self.sinkpad.peer_query_caps(None));
                let offer = caps::src_offer(Some(&upstream), scale, q.filter_owned().as_ref());
                gst::log!(CAT, obj = pad, "offering {offer}");
                q.set_result(&offer);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }
}

/// Pointer and touch positions in the output picture become positions in the input picture.
fn scale_pointer(structure: &mut gst::StructureRef, [x, y]: [f64; 2]) {
    for (field, factor) in [("pointer_x", x), ("pointer_y", y), ("x", x), ("y", y)] {
        if let Ok(position) = structure.get::<f64>(field) {
            structure.set(field, position * factor);
        }
    }
}
