// SPDX-License-Identifier: MPL-2.0
//! Ctrl-C (and SIGTERM, SIGHUP): a flag that all long work looks at, so that it can clean up.

use std::fmt;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// What shells expect of a program that ended on Ctrl-C.
pub const EXIT_CODE: u8 = 130;

/// So often it must be pressed to end the program as it is.
const AT_ONCE: u32 = 4;

static WANTED: AtomicU32 = AtomicU32::new(0);

/// Work was given up because somebody wanted it to.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// From here on, Ctrl-C sets the flag instead of ending the process.
pub fn watch() {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        let installed = ctrlc::set_handler(|| {
            if WANTED.fetch_add(1, Ordering::Relaxed) + 1 >= AT_ONCE {
                std::process::exit(i32::from(EXIT_CODE));
            }
        });
        if let Err(error) = installed {
            eprintln!("Ctrl-C will end the program at once: {error}");
        }
    });
}

/// Whether somebody wants the program to stop.
pub fn wanted() -> bool {
    WANTED.load(Ordering::Relaxed) > 0
}

/// What was wanted is being done: the next Ctrl-C is a new one.
pub fn obeyed() {
    WANTED.store(0, Ordering::Relaxed);
}
