#!/bin/bash
# SPDX-License-Identifier: MPL-2.0
# Speed of the kernels and the models beside PyTorch, ONNX Runtime and ncnn (into build/bench.json), then frames per
# second of flashupscale alone in a pipeline: raw frames in, raw frames dropped, no decoder, no encoder.
#
#     scripts/bench.sh [ARGUMENTS OF bench compare]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"

cargo build --release --locked --workspace
built=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release

venv=build/rivals
if [ ! -x $venv/bin/python ]; then
    python3 -m venv $venv
fi
for package in torch onnxruntime onnx ncnn; do
    # A rival that cannot be had is listed as missing.
    $venv/bin/python -c "import $package" 2>/dev/null || $venv/bin/pip install --quiet $package || true
done
"$built/bench" compare --python $venv/bin/python --json build/bench.json "$@"

export GST_PLUGIN_PATH=$built GST_REGISTRY=$built/bench-registry.bin

# The first frames load the model and fill the window; they are not counted.
run() { # FRAMES ELEMENT...
    local frames=$1
    shift
    local start
    start=$(date +%s%N)
    gst-launch-1.0 -q videotestsrc pattern=snow num-buffers="$frames" \
        ! video/x-raw,format=I420,width=480,height=270,framerate=25/1 ! "$@" ! fakesink sync=false
    echo $((($(date +%s%N) - start) / 1000000))
}

printf '%-44s %s\n' "480x270 to 1920x1080, $(nproc) cores" "frames/s"
for element in "flashupscale model=builtin steps=1 noise=0" "flashupscale model=builtin:live steps=1 noise=0"; do
    read -ra words <<<"$element"
    few=$(run 4 "${words[@]}")
    many=$(run 24 "${words[@]}")
    printf '%-44s %s\n' "$element" "$(awk "BEGIN { printf \"%.2f\", 20000 / ($many - $few) }")"
done
