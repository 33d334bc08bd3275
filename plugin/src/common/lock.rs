// SPDX-License-Identifier: MPL-2.0
//! Locks that outlive a panic elsewhere.
//!
//! Everything behind the locks of this crate is plain values that are written one at a time, so a thread that panics with
//! one held leaves nothing half done.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Takes `mutex`.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives `guard` back until `changed` is notified.
pub(crate) fn wait<'a, T>(changed: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
