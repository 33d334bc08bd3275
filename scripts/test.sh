#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Every test: the trainer's, if PyTorch is there, then all of Rust's.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
# A warning of GLib or GStreamer is a bug of ours: it ends the test.
export G_DEBUG=fatal_warnings RUST_BACKTRACE=1

python=${PYTHON:-python3}
if "$python" -c 'import numpy, torch' 2>/dev/null; then
    "$python" -m unittest discover -s training -p 'test_*.py'
else
    echo "training: not tested, $python has no PyTorch (PYTHON= names another)"
fi

# The profile `bench` shares all compiled dependencies with `release` and has the checks of a debug build in our crates.
cargo build --workspace --all-targets --locked --profile bench
cargo test --workspace --doc --locked --profile bench -q
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --locked --cargo-profile bench --no-fail-fast
fi
exec cargo test --workspace --all-targets --locked --profile bench --no-fail-fast
