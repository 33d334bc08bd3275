// SPDX-License-Identifier: MPL-2.0
//! The bounded channel between the sink pad and the worker, and how it is stopped.
//!
//! A *run* is the time between two flushes (or between activation and deactivation). Each has a channel and a cancel
//! token of its own, so nothing of an old run can leak into a new one. Stopping a run wakes whoever waits in it: the
//! upstream thread at a full channel, the worker at an empty one, a serialized query that awaits its answer. A run is
//! stopped when its [`RunControl`] is gone, whatever became of that: it cannot be lost sight of while it goes on.

use crossbeam::channel::{Receiver, Sender, TryRecvError, bounded};
use crossbeam::select;
use flashvideo::CancelToken;

/// Items that may wait before the worker. Back pressure begins here; the model holds its own few frames beside.
pub(super) const QUEUE_LENGTH: usize = 4;

/// Never sent: such channels only tell that the other side is gone.
pub(super) enum Never {}

/// Everything serialized that arrives at the sink pad.
pub(super) enum Item {
    Buffer(gst::Buffer),
    Event(gst::Event),
    /// Answered by sending the filled-in query, refused by dropping the sender.
    Query(gst::Query, Sender<gst::Query>),
}

/// The element's end of a run.
pub(super) struct RunControl {
    input: RunInput,
    /// Stops the run when it is dropped.
    _stop: Stop,
    left: Receiver<Never>,
}

/// That the run is stopped: the token for those who look, the channel for those who wait, in this order and never one
/// without the other.
struct Stop {
    cancel: CancelToken,
    _signal: Sender<Never>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// The upstream thread's end of a run.
#[derive(Clone)]
pub(super) struct RunInput {
    items: Sender<Item>,
    stopped: Receiver<Never>,
}

/// The worker's end of a run.
pub(super) struct Run {
    items: Receiver<Item>,
    stopped: Receiver<Never>,
    cancel: CancelToken,
    /// Caps of the frames to come, when these were set before the run began.
    pub caps: Option<gst::Caps>,
    /// Dropped with the run, which tells that the worker has left it.
    _left: Sender<Never>,
}

/// Tells when the worker has left a stopped run.
pub(super) struct Leaving(Receiver<Never>);

/// Whether no later frame of the run can do better than the one that failed with `flow`.
///
/// Everything else passes: a pad is linked, downstream is flushed and goes on, agrees on other caps, or is replaced after its
/// EOS.
pub(super) fn is_lasting(flow: gst::FlowError) -> bool {
    !matches!(
        flow,
        gst::FlowError::NotLinked
            | gst::FlowError::Flushing
            | gst::FlowError::NotNegotiated
            | gst::FlowError::Eos
    )
}

/// A new run.
pub(super) fn new_run(caps: Option<gst::Caps>) -> (RunControl, Run) {
    let (items_tx, items_rx) = bounded(QUEUE_LENGTH);
    let (signal, stopped) = bounded(0);
    let (left_tx, left) = bounded(0);
    let cancel = CancelToken::new();
    let control = RunControl {
        input: RunInput {
            items: items_tx,
            stopped: stopped.clone(),
        },
        _stop: Stop {
            cancel: cancel.clone(),
            _signal: signal,
        },
        left,
    };
    let run = Run {
        items: items_rx,
        stopped,
        cancel,
        caps,
        _left: left_tx,
    };
    (control, run)
}

impl RunControl {
    /// For the thread that brings items.
    pub fn input(&self) -> RunInput {
        self.input.clone()
    }

    /// Cancels the inference and wakes everyone who waits in the run. Does not block.
    pub fn stop(self) -> Leaving {
        Leaving(self.left)
    }
}

impl Leaving {
    /// Blocks until the worker is out of the run.
    pub fn wait(self) {
        let _ = self.0.recv();
    }
}

impl RunInput {
    /// Appends an item; waits while the channel is full.
    ///
    /// # Errors
    /// [`gst::FlowError::Flushing`] when the run was stopped, [`gst::FlowError::Error`] when the worker is gone.
    pub fn send(&self, item: Item) -> Result<(), gst::FlowError> {
        select! {
            send(self.items, item) -> sent => sent.map_err(|_| match self.stopped.try_recv() {
                // Nobody stopped the run, and yet the worker is gone: a panic has ended it.
                Err(TryRecvError::Empty) => gst::FlowError::Error,
                _ => gst::FlowError::Flushing,
            }),
            recv(self.stopped) -> _ => Err(gst::FlowError::Flushing),
        }
    }

    /// Lets the worker answer `query` after everything that was sent before.
    pub fn ask(&self, query: gst::Query) -> Option<gst::Query> {
        let (reply, answer) = bounded(1);
        self.send(Item::Query(query, reply)).ok()?;
        select! {
            recv(answer) -> query => query.ok(),
            recv(self.stopped) -> _ => None,
        }
    }
}

impl Run {
    /// The next item, or `None` once the run was stopped.
    pub fn next(&self) -> Option<Item> {
        if self.is_stopped() {
            return None;
        }
        select! {
            recv(self.items) -> item => item.ok(),
            recv(self.stopped) -> _ => None,
        }
    }

    /// Whether the run was stopped: nothing more of it may be pushed.
    pub fn is_stopped(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The token for everything that is computed within the run.
    pub fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// Disconnected when the run is stopped.
    pub fn stopped(&self) -> &Receiver<Never> {
        &self.stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn buffer() -> Item {
        gst::init().unwrap();
        Item::Buffer(gst::Buffer::new())
    }

    #[test]
    fn stopping_wakes_a_sender_at_a_full_channel() {
        let (control, run) = new_run(None);
        let input = control.input();
        for _ in 0..QUEUE_LENGTH {
            assert!(input.send(buffer()).is_ok());
        }
        let blocked = thread::spawn(move || input.send(buffer()));
        let leaving = control.stop();
        assert_eq!(blocked.join().unwrap(), Err(gst::FlowError::Flushing));
        assert!(run.next().is_none());
        drop(run);
        leaving.wait();
    }

    #[test]
    fn stopping_wakes_the_worker_and_triggers_its_token() {
        let (control, run) = new_run(None);
        let cancel = run.cancel().clone();
        let worker = thread::spawn(move || run.next().is_none());
        control.stop().wait();
        assert!(worker.join().unwrap());
        assert!(cancel.is_cancelled());
    }

    #[test]
    fn a_run_that_is_lost_sight_of_is_stopped() {
        let (control, run) = new_run(None);
        let input = control.input();
        drop(control);
        assert!(run.is_stopped() && run.next().is_none());
        assert_eq!(input.send(buffer()), Err(gst::FlowError::Flushing));
    }

    #[test]
    fn an_unanswered_query_ends_with_the_run() {
        gst::init().unwrap();
        let (control, run) = new_run(None);
        let input = control.input();
        let asker = thread::spawn(move || input.ask(gst::query::Drain::new().into()));
        // The worker takes the query and leaves without an answer.
        assert!(matches!(run.next(), Some(Item::Query(..))));
        drop(run);
        assert!(asker.join().unwrap().is_none());
        drop(control);
    }
}
