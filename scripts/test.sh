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

# The profile `bench` shares its folder and all compiled dependencies with `release` and has the checks of a debug build in
# our crates. What `cargo build --release` left there for use is put back at the end.
built=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
mkdir -p "$built"
kept=$(mktemp -d "$built/kept.XXXXXX")
programs=(flashvideo libgstflashvideo.so)
for name in "${programs[@]}"; do
    [ ! -e "$built/$name" ] || ln "$built/$name" "$kept/$name"
done
put_back() {
    for name in "${programs[@]}"; do
        rm -f "$built/$name"
        [ ! -e "$kept/$name" ] || mv "$kept/$name" "$built/$name"
    done
    rmdir "$kept"
}
trap put_back EXIT

cargo build --workspace --all-targets --locked --profile bench
cargo test --workspace --doc --locked --profile bench -q
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --locked --cargo-profile bench --no-fail-fast
else
    cargo test --workspace --all-targets --locked --profile bench --no-fail-fast
fi
