// SPDX-License-Identifier: MPL-2.0
//! Files of models: what is in them, how they are written, where they come from.

pub mod hub;
pub mod measure;
pub mod shapes;
pub mod synthetic;
pub mod write;

/// A file of the golden set that the tests use.
#[cfg(test)]
pub fn golden(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}
