//! Helpers shared by the tests that cross crates; the tests themselves are in `tests/`.
