#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Installs, builds, enhances the clip that the repository carries, and says how long each part took.
set -euo pipefail
cd "$(dirname "$0")/.."

clip=examples/media/towers.mp4
names=()
seconds=()

timed() { # NAME COMMAND...
    local name=$1 start=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    names+=("$name")
    seconds+=($((SECONDS - start)))
}

timed "install what is missing" scripts/prepare.sh build
export PATH="$HOME/.cargo/bin:$PATH"
timed "build" cargo build --release --locked
# Where cargo puts its results can be set in more than one way; it knows.
built=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release
flashvideo=$built/flashvideo
mkdir -p demo
timed "enhance $clip by four" "$flashvideo" enhance "$clip" demo/out.mp4 --scale 4 --force
timed "picture" "$flashvideo" compare "$clip" demo/side_by_side.png --at 1 --crop 800x720 --scale 4 --force
timed "three clips from prompts, enhanced to 1080p" "$flashvideo" storybook demo/storybook.png --seed 1 --force \
    "a red balloon rises over snowy mountains at sunset" \
    "an orange fish swims to the left under water by day" \
    "a yellow star rises over a city at night"

printf '\n'
for index in "${!names[@]}"; do
    printf '%6d s  %s\n' "${seconds[$index]}" "${names[$index]}"
done
printf '\nthe small clip      %s\nthe enhanced clip   %s\nLanczos | ours      %s\nfrom prompts        %s\n' \
    "$PWD/$clip" "$PWD/demo/out.mp4" "$PWD/demo/side_by_side.png" "$PWD/demo/storybook.png"
printf 'the program         %s\nthe plugin          %s\n' "$flashvideo" "$built/libgstflashvideo.so"
printf '\nYour own clips      %s enhance IN OUT.mp4\nIn any pipeline     make install\n' "$flashvideo"
