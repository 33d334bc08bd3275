// SPDX-License-Identifier: MPL-2.0
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

/// A folder with the golden schedules under another name, after `change` to the sidecar's or the tensors' bytes.
fn renamed(change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> (tempfile::TempDir, PathBuf) {
    let copy = tempfile::tempdir().unwrap();
    for extension in ["json", "safetensors"] {
        let bytes = std::fs::read(folder().join(format!("schedule.{extension}"))).unwrap();
        let path = copy.path().join(format!("tables.{extension}"));
        std::fs::write(path, change(extension, bytes)).unwrap();
    }
    let file = copy.path().join("tables.safetensors");
    (copy, file)
}

#[test]
fn files_are_known_by_their_content_too() {
    let (_copy, file) = renamed(|_, bytes| bytes);
    let outcome = parity::run(&file, &Progress::none()).unwrap();
    assert!(outcome.passed(), "{:?}", outcome.problems);
    assert_eq!(outcome.tensors, 8);
}

#[test]
fn a_wrong_number_fails() {
    let (_copy, file) = renamed(|extension, mut bytes| {
        // The sign and exponent of the last number.
        if let (true, Some(last)) = (extension == "safetensors", bytes.last_mut()) {
            *last ^= 0x40;
        }
        bytes
    });
    let outcome = parity::run(&file, &Progress::none()).unwrap();
    assert!(!outcome.passed() && outcome.error > outcome.tolerance);
    assert_eq!(outcome.problems.len(), 1, "{:?}", outcome.problems);
}

#[test]
fn damaged_files_are_problems_and_not_panics() {
    let (_copy, file) = renamed(|extension, bytes| match extension {
        "json" => b"{".to_vec(),
        _ => bytes,
    });
    let outcome = parity::run(&file, &Progress::none()).unwrap();
    assert!(
        outcome.problems[0].contains("tables.json"),
        "{:?}",
        outcome.problems
    );
    let (_copy, file) = renamed(|extension, mut bytes| {
        if extension == "safetensors" {
            bytes.truncate(100);
        }
        bytes
    });
    assert!(!parity::run(&file, &Progress::none()).unwrap().passed());
}
