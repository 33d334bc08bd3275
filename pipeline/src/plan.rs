//! Windows in time and tiles in space: pure arithmetic.
