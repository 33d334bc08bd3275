#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Formatting, clippy with and without the default features, the documentation, the dependencies, what must agree between
# files, and the build with meson.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/build/tools/bin:$HOME/.cargo/bin:$PATH"

cargo fmt --all --check
# The profile of the tests, for what it shares with them.
cargo clippy --workspace --all-targets --locked --profile bench -- -D warnings
cargo clippy --workspace --all-targets --locked --profile bench --no-default-features -- -D warnings
RUSTDOCFLAGS='-D warnings -A rustdoc::private-intra-doc-links' cargo doc --workspace --no-deps --locked --profile bench

# Not the advisories: they come from a server that need not be reachable where this runs. `cargo deny check` has them.
cargo deny --locked check -D warnings bans licenses sources

version() { sed -n "$2" "$1" | head -n 1; }
cargo=$(version Cargo.toml 's/^version = "\(.*\)"$/\1/p')
meson=$(version meson.build "s/^ *version: '\(.*\)',\$/\1/p")
if [ "$cargo" != "$meson" ]; then
    echo "version is $cargo in Cargo.toml, $meson in meson.build" >&2
    exit 1
fi
missing=$(git ls-files '*.rs' '*.py' '*.sh' '*.toml' '*.build' |
    while read -r file; do [ ! -s "$file" ] || head -n 2 "$file" | grep -q 'SPDX-License-Identifier: MPL-2.0' || echo "$file"; done)
if [ -n "$missing" ]; then
    printf 'no line "SPDX-License-Identifier: MPL-2.0" at the head of:\n%s\n' "$missing" >&2
    exit 1
fi

# The plugin as GStreamer loads it, from a folder that looks like an installed one.
meson setup --reconfigure build/meson >/dev/null 2>&1 || meson setup build/meson
meson test -C build/meson --print-errorlogs
root=$PWD/build/root
rm -rf "$root"
DESTDIR=$root meson install -C build/meson --quiet
find "$root" -type f | sed "s|^$root|installed: |"
[ "$(find "$root" -type f | wc -l)" = 4 ]
