// SPDX-License-Identifier: MPL-2.0
//! Ctrl-C (and SIGTERM, SIGHUP): a flag that long work looks at.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// What shells expect of a program that ended on Ctrl-C.
pub const EXIT_CODE: u8 = 130;

static WANTED: AtomicBool = AtomicBool::new(false);

/// From here on, Ctrl-C sets the flag instead of ending the process; the second one ends it.
pub fn watch() {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        let installed = ctrlc::set_handler(|| {
            if WANTED.swap(true, Ordering::Relaxed) {
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
    WANTED.load(Ordering::Relaxed)
}
