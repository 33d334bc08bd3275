// SPDX-License-Identifier: MPL-2.0
//! A machine that is too slow, for tests: models take as much longer as is said here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::enhance::control::Rung;
use crate::error::Result;
use crate::progress::CancelToken;

static FULL: AtomicU64 = AtomicU64::new(0);
static LIGHT: AtomicU64 = AtomicU64::new(0);

/// From now on each frame of a compact model takes so much longer, and each of a lighter one in its stead.
pub fn set(full: Duration, light: Duration) {
    FULL.store(full.as_nanos() as u64, Ordering::Relaxed);
    LIGHT.store(light.as_nanos() as u64, Ordering::Relaxed);
}

/// Takes its time, unless `cancel` is triggered.
pub(super) fn wait(rung: Rung, cancel: &CancelToken) -> Result<()> {
    let nanoseconds = match rung {
        Rung::Plain => 0,
        Rung::Light => LIGHT.load(Ordering::Relaxed),
        Rung::OneEvaluation | Rung::Full => FULL.load(Ordering::Relaxed),
    };
    if nanoseconds == 0 {
        return Ok(());
    }
    let end = Instant::now() + Duration::from_nanos(nanoseconds);
    while Instant::now() < end {
        cancel.check()?;
        std::thread::sleep(Duration::from_micros(500));
    }
    cancel.check()
}
