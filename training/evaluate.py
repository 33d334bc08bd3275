# SPDX-License-Identifier: MPL-2.0
"""Measures an enhancer against ffmpeg's Lanczos on a folder of clips.

    evaluate.py CLIPS --run RUN [--steps N] [--sigma S]
    evaluate.py CLIPS --gst "flashupscale model=builtin noise=0 steps=1"

Every clip is cropped to multiples of eight and its first frames are reduced by four with swscale's bicubic.
Two inputs are made of that: `clean`, as it is, and `crf28`, after a round trip through libx264 at crf 28 (preset
medium).  Both are brought back by four with swscale's Lanczos and with the enhancer.  Luma PSNR (ffmpeg's psnr filter:
from the mean squared error over all frames) and VMAF (libvmaf's default model) are measured against the cropped
original; the table prints what the enhancer gains over Lanczos.  Only luma is measured: PSNR is that of Y, and VMAF
does not read chroma.

Needs ffmpeg with libx264 on the PATH, and an ffmpeg with libvmaf: the one inside the PyPI wheel imageio-ffmpeg, or
--vmaf-ffmpeg PATH.  With --gst, gst-launch-1.0 must find the element (GST_PLUGIN_PATH).
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

FACTOR = 4
# A quarter of the size must still be even, for 4:2:0 chroma.
GRAIN = 2 * FACTOR
INPUTS = ("clean", "crf28")
VIDEO = (".264", ".avi", ".h264", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ogv", ".webm", ".y4m")


def call(command, **more):
    """Runs a command; ends the program with the command's own words if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with code {done.returncode}:\n{done.stderr.strip()[-2000:]}")
    return done


def raw(width, height):
    """How ffmpeg reads one of the I420 files this program works with."""
    return ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", "25"]


def ffmpeg(*arguments):
    call(["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", *arguments])


def cropped_size(clip):
    probe = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json", "-show_entries", "stream=width,height"]
    stream = json.loads(call([*probe, clip]).stdout)["streams"][0]
    return stream["width"] // GRAIN * GRAIN, stream["height"] // GRAIN * GRAIN


def prepare(clip, folder, frames, skip):
    """The original, the two inputs and their Lanczos enlargements as I420 files in `folder`."""
    width, height = cropped_size(clip)
    small = (width // FACTOR, height // FACTOR)
    original = f"{folder}/original.yuv"
    select = f"select=gte(n\\,{skip}),crop={width}:{height}:0:0,setpts=N/25/TB"
    out = ["-an", "-frames:v", str(frames), "-pix_fmt", "yuv420p", "-f", "rawvideo"]
    ffmpeg("-i", clip, "-vf", select, "-vsync", "passthrough", *out, original)
    reduce = ["-vf", f"scale={small[0]}:{small[1]}:flags=bicubic", "-f", "rawvideo"]
    ffmpeg(*raw(width, height), "-i", original, *reduce, f"{folder}/clean.yuv")
    coded = f"{folder}/crf28.mkv"
    # One thread: the coded file then does not depend on the machine.
    x264 = ["-c:v", "libx264", "-crf", "28", "-threads", "1"]
    ffmpeg(*raw(*small), "-i", f"{folder}/clean.yuv", *x264, coded)
    ffmpeg("-i", coded, "-vsync", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo", f"{folder}/crf28.yuv")
    for name in INPUTS:
        enlarge = ["-vf", f"scale={width}:{height}:flags=lanczos", "-f", "rawvideo"]
        ffmpeg(*raw(*small), "-i", f"{folder}/{name}.yuv", *enlarge, f"{folder}/{name}_lanczos.yuv")
    count = os.path.getsize(original) // (width * height * 3 // 2)
    return width, height, count


class Checkpoint:
    """A run of train.py: the averaged weights, in PyTorch; neighbours in time, repeated at the ends."""

    def __init__(self, run, steps, sigma, seed, threads):
        import torch

        import model
        import runs

        torch.set_num_threads(threads)
        self.torch, self.model, self.runs = torch, model, runs
        self.steps, self.sigma, self.seed = steps, sigma, seed
        state = runs.load(f"{run}/state.pt")
        self.net = model.Compact(**state["config"]).eval()
        self.net.load_state_dict(state["average"])
        self.net.to(memory_format=torch.channels_last)
        self.name = f"{run} after {state['step']} updates, {steps} step(s), sigma {sigma}"

    def __call__(self, source, width, height, count, target):
        torch = self.torch
        h, w = height // FACTOR, width // FACTOR
        small = np.fromfile(source, np.uint8).reshape(count, h * w * 3 // 2)[:, : h * w].reshape(count, h, w)
        codes = torch.from_numpy(small).float() / 127.5 - 1
        reach = self.net.frames // 2
        # One picture of noise for the whole clip, so that still things stay still.
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(1, FACTOR**2, h, w, generator=generator)
        # Chroma is not measured: that of the Lanczos enlargement fills the file.
        large = np.fromfile(source.replace(".yuv", "_lanczos.yuv"), np.uint8).reshape(count, width * height * 3 // 2)
        started = time.monotonic()
        for index in range(count):
            around = [min(max(index + d, 0), count - 1) for d in range(-reach, reach + 1)]
            with self.runs.half():
                luma = self.model.sample(self.net, codes[around][None], self.steps, self.sigma, noise)
            luma = ((luma + 1) * 127.5).round().clamp(0, 255).byte()
            large[index, : width * height] = luma.numpy().reshape(-1)
        seconds = time.monotonic() - started
        large.tofile(target)
        return seconds


class Element:
    """Any GStreamer elements that turn I420 into I420 of four times the size."""

    def __init__(self, description):
        self.description = description
        self.name = description

    def __call__(self, source, width, height, count, target):
        w, h = width // FACTOR, height // FACTOR
        # ffmpeg packs rows; GStreamer would expect those of the chroma planes to be multiples of four bytes.
        planes = f"plane-strides=<{w},{w // 2},{w // 2}> plane-offsets=<0,{w * h},{w * h * 5 // 4}>"
        parse = f"rawvideoparse format=i420 width={w} height={h} framerate=25/1 {planes}"
        caps = f"video/x-raw,format=I420,width={width},height={height}"
        line = f"filesrc location={source} blocksize={w * h * 3 // 2} ! {parse} ! {self.description} ! {caps}"
        started = time.monotonic()
        call(["gst-launch-1.0", "-q", *f"{line} ! filesink location={target}".split()])
        seconds = time.monotonic() - started
        got, expected = os.path.getsize(target), width * height * 3 // 2 * count
        if got != expected:
            sys.exit(f"'{self.description}' wrote {got} bytes, expected {expected}: {count} frames of {width}x{height}")
        return seconds


def quality(vmaf_ffmpeg, candidate, original, width, height):
    """(luma PSNR in dB, mean VMAF) of an I420 file."""
    inputs = [*raw(width, height), "-i", candidate, *raw(width, height), "-i", original]
    tail = ["-f", "null", "-"]
    said = call(["ffmpeg", "-nostdin", "-threads", "1", *inputs, "-lavfi", "[0:v][1:v]psnr", *tail]).stderr
    psnr = float(re.search(r"PSNR y:(\S+)", said).group(1))
    log = f"{candidate}.json"
    options = f"libvmaf=log_fmt=json:n_threads=1:log_path={log}"
    call([vmaf_ffmpeg, "-nostdin", "-threads", "1", *inputs, "-lavfi", f"[0:v][1:v]{options}", *tail])
    with open(log) as file:
        return psnr, json.load(file)["pooled_metrics"]["vmaf"]["mean"]


def evaluate(clip, enhance, args, vmaf_ffmpeg):
    """One row of the table for each input."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="evaluate-") as folder:
        width, height, count = prepare(clip, folder, args.frames, args.skip)
        original = f"{folder}/original.yuv"
        for name in INPUTS:
            ours, plain = f"{folder}/{name}_ours.yuv", f"{folder}/{name}_lanczos.yuv"
            seconds = enhance(f"{folder}/{name}.yuv", width, height, count, ours)
            plain_psnr, plain_vmaf = quality(vmaf_ffmpeg, plain, original, width, height)
            psnr, vmaf = quality(vmaf_ffmpeg, ours, original, width, height)
            row = dict(clip=os.path.basename(clip), width=width, height=height, frames=count, input=name)
            row.update(lanczos_psnr=plain_psnr, psnr=psnr, psnr_gain=psnr - plain_psnr)
            row.update(lanczos_vmaf=plain_vmaf, vmaf=vmaf, vmaf_gain=vmaf - plain_vmaf)
            row.update(seconds_per_frame=seconds / count)
            rows.append(row)
    return rows


def table(rows):
    """Markdown: a line for each clip and input, then mean and median of the gains."""
    lines = [
        "| clip | size | input | Lanczos dB | ours dB | gain dB | Lanczos VMAF | ours VMAF | gain VMAF | s/frame |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in INPUTS:
        for r in (r for r in rows if r["input"] == name):
            lines.append(
                f"| {r['clip']} | {r['width']}x{r['height']} | {name} | {r['lanczos_psnr']:.2f} | {r['psnr']:.2f} "
                f"| {r['psnr_gain']:+.2f} | {r['lanczos_vmaf']:.1f} | {r['vmaf']:.1f} | {r['vmaf_gain']:+.1f} "
                f"| {r['seconds_per_frame']:.2f} |"
            )
    for name in INPUTS:
        chosen = [r for r in rows if r["input"] == name]
        for word, of in (("mean", statistics.mean), ("median", statistics.median)):
            psnr, vmaf = of(r["psnr_gain"] for r in chosen), of(r["vmaf_gain"] for r in chosen)
            lines.append(f"| **{word}** | | {name} | | | **{psnr:+.2f}** | | | **{vmaf:+.1f}** | |")
    return "\n".join(lines)


def find_vmaf_ffmpeg(given):
    path = given
    if path is None:
        try:
            import imageio_ffmpeg
        except ImportError:
            sys.exit("no ffmpeg with libvmaf: pip install imageio-ffmpeg, or pass --vmaf-ffmpeg PATH")
        path = imageio_ffmpeg.get_ffmpeg_exe()
    if "libvmaf" not in call([path, "-hide_banner", "-filters"]).stdout:
        sys.exit(f"{path} has no libvmaf filter: pass another with --vmaf-ffmpeg PATH")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", help="a folder of clips, or one clip")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--run", help="folder of train.py with a state.pt")
    which.add_argument("--gst", help="GStreamer elements, as gst-launch-1.0 takes them")
    parser.add_argument("--steps", type=int, default=1, help="function evaluations (with --run)")
    parser.add_argument("--sigma", type=float, default=0.0, help="strength of the noise at the start (with --run)")
    parser.add_argument("--seed", type=int, default=0, help="of that noise")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch (with --run)")
    parser.add_argument("--frames", type=int, default=24, help="frames of each clip")
    parser.add_argument("--skip", type=int, default=0, help="frames left out at the start of each clip")
    parser.add_argument("--json", help="write every row to this file too")
    parser.add_argument("--vmaf-ffmpeg", help="an ffmpeg with libvmaf")
    args = parser.parse_args()

    clips = [args.clips]
    if os.path.isdir(args.clips):
        names = sorted(n for n in os.listdir(args.clips) if n.lower().endswith(VIDEO))
        clips = [os.path.join(args.clips, n) for n in names]
    if not clips:
        sys.exit(f"no clips in {args.clips}: expected files ending in {', '.join(VIDEO)}")
    vmaf_ffmpeg = find_vmaf_ffmpeg(args.vmaf_ffmpeg)
    if args.run:
        enhance = Checkpoint(args.run, args.steps, args.sigma, args.seed, args.threads)
    else:
        enhance = Element(args.gst)
    rows = []
    for clip in clips:
        rows += evaluate(clip, enhance, args, vmaf_ffmpeg)
        print(f"{clip} done", file=sys.stderr, flush=True)
    print(f"{enhance.name}; first {args.frames} frames after {args.skip} of each clip\n\n{table(rows)}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(dict(enhancer=enhance.name, rows=rows), file, indent=1)


if __name__ == "__main__":
    main()
