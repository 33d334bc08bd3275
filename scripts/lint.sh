#!/bin/bash
# Formatting, clippy with and without the default features, and what must agree between files.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --workspace --all-targets --locked --no-default-features -- -D warnings

version() { sed -n "$2" "$1" | head -n 1; }
cargo=$(version Cargo.toml 's/^version = "\(.*\)"$/\1/p')
meson=$(version meson.build "s/^ *version: '\(.*\)',\$/\1/p")
if [ "$cargo" != "$meson" ]; then
    echo "version is $cargo in Cargo.toml, $meson in meson.build" >&2
    exit 1
fi
