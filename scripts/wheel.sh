#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Makes the Python wheel, build/packages/flashvideo-VERSION-py3-none-linux_MACHINE.whl: the plugin, its presets, the program
# and a small module. GStreamer is that of the system, so the wheel is of the plain platform `linux`: `manylinux` promises
# that nothing but the C library is needed. It runs on the release that it is built on, and on later ones.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

built=$(packaging/build.sh | tail -n 1)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

parts=build/package
for name in flashvideo libgstflashvideo.so; do
    # Without what only debuggers read.
    install -D -s "$built/$name" "$parts/stripped/$name"
done
gstreamer=data/share/gstreamer-1.0
files=(
    packaging/python/flashvideo/__init__.py=flashvideo/__init__.py
    packaging/python/flashvideo/__main__.py=flashvideo/__main__.py
    "$parts/stripped/flashvideo=scripts/flashvideo"
    "$parts/stripped/libgstflashvideo.so=$gstreamer/plugins/libgstflashvideo.so"
    "plugin/presets/GstFlashUpscale.prs=$gstreamer/presets/GstFlashUpscale.prs"
    "plugin/presets/GstFlashVideoSrc.prs=$gstreamer/presets/GstFlashVideoSrc.prs"
    # Where shells and man look below ~/.local by themselves.
    "$parts/completions/flashvideo=data/share/bash-completion/completions/flashvideo"
    "$parts/completions/flashvideo.fish=data/share/fish/vendor_completions.d/flashvideo.fish"
    "$parts/completions/_flashvideo=data/share/zsh/site-functions/_flashvideo"
    LICENSE=info/LICENSE
    "$parts/third-party.txt=info/third-party.txt"
)
for page in "$parts"/man/*.1; do
    files+=("$page=data/share/man/man1/${page##*/}")
done
mkdir -p build/packages
python3 packaging/wheel.py --version "$version" --platform "linux_$(uname -m)" --readme packaging/python/README.md \
    --output build/packages "${files[@]}"
