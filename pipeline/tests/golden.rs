//! The golden numbers of the reference implementation, as `flashvideo parity` checks them.

use std::path::{Path, PathBuf};

use flashvideo::{Progress, parity};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

#[test]
fn every_golden_file_passes() {
    let files = parity::files(&folder()).expect("the golden set is there");
    assert!(files.len() >= 17, "only {} golden files", files.len());
    let mut failed = Vec::new();
    for file in files {
        let outcome = parity::run(&file, &Progress::none()).expect("nobody cancels");
        println!(
            "{} {} tensors, {:.2e} of {:.0e}",
            outcome.name, outcome.tensors, outcome.error, outcome.tolerance
        );
        failed.extend(
            outcome
                .problems
                .iter()
                .map(|problem| format!("{}: {problem}", outcome.name)),
        );
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
