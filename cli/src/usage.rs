// SPDX-License-Identifier: MPL-2.0
//! Wrong arguments that are only known to be wrong once they are looked at together.

/// Arguments that do not fit each other or the files there are.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
