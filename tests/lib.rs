// SPDX-License-Identifier: MPL-2.0
//! Helpers shared by the tests that cross crates; the tests themselves are in `tests/`.
