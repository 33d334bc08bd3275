// SPDX-License-Identifier: MPL-2.0
//! Progress events and cancellation, shared by everything that takes long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::{Error, Result};

/// A flag that asks running work to stop, perhaps with a time at which it must.
///
/// Clones share the flag. Every layer of every model checks it, so work ends within 100 ms.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
    until: Option<Instant>,
}

impl CancelToken {
    /// A token that is not triggered.
    pub fn new() -> Self {
        Self::default()
    }

    /// A token with the same flag that is also cancelled from `time` on.
    pub fn until(&self, time: Instant) -> Self {
        Self {
            flag: self.flag.clone(),
            until: Some(self.until.map_or(time, |own| own.min(time))),
        }
    }

    /// Asks all holders of this token to stop.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called or the time is over.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Acquire) || self.until.is_some_and(|time| Instant::now() >= time)
    }

    /// `Err(Error::Cancelled)` once [`cancel`](Self::cancel) was called.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// What long-running work reports while it runs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A named step ("load", "text", "sample", "decode", "enhance") has begun.
    Started {
        /// Name of the step.
        step: &'static str,
        /// Units of work in it, if known.
        total: Option<u64>,
    },
    /// `done` of the step's units are finished.
    Advanced {
        /// Name of the step.
        step: &'static str,
        /// Units finished so far.
        done: u64,
    },
    /// The step is complete.
    Finished {
        /// Name of the step.
        step: &'static str,
    },
    /// Work goes on in another way than asked for (smaller tiles, slower path): tell the user.
    Warning(String),
}

/// A receiver of [`Event`]s together with the [`CancelToken`] of the same piece of work.
#[derive(Clone, Default)]
pub struct Progress {
    cancel: CancelToken,
    listener: Option<Arc<dyn Fn(Event) + Send + Sync>>,
}

impl Progress {
    /// Nobody listens and nothing cancels.
    pub fn none() -> Self {
        Self::default()
    }

    /// Calls `listener` for every event, on the thread that does the work.
    pub fn new(cancel: CancelToken, listener: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self {
            cancel,
            listener: Some(Arc::new(listener)),
        }
    }

    /// Only cancellation, no events.
    pub fn with_cancel(cancel: CancelToken) -> Self {
        Self {
            cancel,
            listener: None,
        }
    }

    /// The same listener, and a token that is also cancelled from `time` on.
    pub fn until(&self, time: Instant) -> Self {
        Self {
            cancel: self.cancel.until(time),
            listener: self.listener.clone(),
        }
    }

    /// The token that work reporting here must honour.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Reports one event.
    pub fn emit(&self, event: Event) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }

    /// `Err(Error::Cancelled)` once the work should stop.
    pub fn check(&self) -> Result<()> {
        self.cancel.check()
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("cancelled", &self.cancel.is_cancelled())
            .field("listener", &self.listener.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn cancel_reaches_every_clone() {
        let token = CancelToken::new();
        let progress = Progress::with_cancel(token.clone());
        assert!(progress.check().is_ok());
        token.cancel();
        assert!(progress.clone().check().unwrap_err().is_cancelled());
    }

    #[test]
    fn a_time_cancels_its_own_token_alone() {
        let token = CancelToken::new();
        let over = token.until(Instant::now());
        let later = token.until(Instant::now() + std::time::Duration::from_secs(3600));
        assert!(over.is_cancelled() && !later.is_cancelled() && !token.is_cancelled());
        token.cancel();
        assert!(later.is_cancelled());
    }

    #[test]
    fn events_arrive_in_order() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let progress = Progress::new(CancelToken::new(), move |e| sink.lock().unwrap().push(e));
        progress.emit(Event::Started {
            step: "load",
            total: Some(2),
        });
        progress.emit(Event::Finished { step: "load" });
        assert_eq!(seen.lock().unwrap().len(), 2);
        assert_eq!(seen.lock().unwrap()[1], Event::Finished { step: "load" });
    }
}
