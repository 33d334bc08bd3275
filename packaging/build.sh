#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Builds what packages carry, with the profile `dist`, and lays out in build/package what the program tells about itself
# (manual pages, completions) and the notices of the libraries that are linked in:
#
#     packaging/build.sh
#
# The last line it prints is the folder of the program and the plugin.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

scripts/prepare.sh build >&2
# By name, without the other members: the profile has a folder of its own, so nothing that is there already is compiled
# again with other features, and the programs to copy from need not be linked.
cargo build --profile dist --locked -p gst-plugin-flashvideo -p flashvideo-cli >&2
built=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/dist

parts=build/package
rm -rf "$parts"
mkdir -p "$parts/man" "$parts/completions"
"$built/flashvideo" man "$parts/man" >&2
"$built/flashvideo" completions bash >"$parts/completions/flashvideo"
"$built/flashvideo" completions zsh >"$parts/completions/_flashvideo"
"$built/flashvideo" completions fish >"$parts/completions/flashvideo.fish"
python3 packaging/third_party.py gst-plugin-flashvideo flashvideo-cli >"$parts/third-party.txt"
echo "$built"
