#!/bin/bash
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

cargo build --workspace --all-targets --locked
cargo test --workspace --doc --locked -q
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --workspace --locked --no-fail-fast
fi
exec cargo test --workspace --all-targets --locked --no-fail-fast
