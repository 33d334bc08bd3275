# SPDX-License-Identifier: MPL-2.0
"""Turns a folder of photographs into short moving sequences in colour, each degraded at the scales 1, 2 and 4.

    python -m family.prepare PHOTOS OUT [--per-photo 4] [--graphics 90] [--first 0] [--jobs 1]

The virtual camera is that of ../prepare.py, on smaller windows and standing still more often.  Of a sequence are kept

    large_y.npy, large_c.npy      [FRAMES, H, W] and [FRAMES, 2, H/2, W/2], the targets
    xF_I_y.npy, xF_I_c.npy        the frames at 1/F of the size, degraded; I counts the variants of this scale
    xF_I_quiet.npy                luma before noise and codecs
    xF_I_noise.npy                int8, what the noise added to luma, if there was any
    about.json                    for each variant the chain's words and the measures of each frame (measure.py)

The first variant at the scales 4 and 2 is clean.  The split into training and validation is by photograph, as there.
Started again, it goes on where it stopped; --first N continues a set with other camera paths.
"""

import argparse
import glob
import json
import multiprocessing
import os
import random

import cv2
import numpy as np

import graphics
import prepare
from family import degrade, measure, noise
from family.model import SCALES

FRAMES = 8
ENCODED = 12
WIDTH, HEIGHT = 640, 384
STILL = 0.25
NIGHT = 0.12
VARIANTS = {4: 3, 2: 2, 1: 2}


def to_planes(bgr):
    """Limited-range BT.601 4:2:0 planes, float, of an 8-bit picture; chroma on the even columns by (1 2 1) / 4."""
    y, cr, cb = np.moveaxis(cv2.cvtColor(bgr, cv2.COLOR_BGR2YCrCb).astype(np.float32), 2, 0)

    def chroma(p):
        p = (p - 128) * (224 / 255) + 128
        p = (p[::2] + p[1::2]) / 2
        padded = np.pad(p, ((0, 0), (1, 1)), mode="edge")
        return (padded[:, :-2:2] + 2 * padded[:, 1:-1:2] + padded[:, 2::2]) / 4

    return y * (219 / 255) + 16, chroma(cb), chroma(cr)


def read(path, seed):
    """A photograph, or a drawn picture where there is no path, turned one of four ways (BGR)."""
    if path is None:
        return cv2.cvtColor(np.asarray(graphics.draw(seed, 1280, 720, graphics.fonts())), cv2.COLOR_RGB2BGR)
    picture = cv2.imread(path)
    rng = random.Random(seed + 1)
    if rng.random() < 0.5:
        picture = picture[:, ::-1]
    if rng.random() < 0.25 and min(picture.shape[:2]) >= 1.05 * WIDTH:
        picture = picture.transpose(1, 0, 2)
    return np.ascontiguousarray(picture)


def darkened(bgr, rng):
    """The scene by less light: a night clip's blacks and few bright lights."""
    linear = (bgr.astype(np.float32) / 255) ** noise.GAMMA * rng.uniform(0.03, 0.3)
    return np.rint(255 * linear ** (1 / noise.GAMMA)).astype(np.uint8)


def recorded(frames, velocity, rng):
    """As prepare.recorded, in colour: motion and lens blur, and a codec at a good quality."""
    shutter = rng.uniform(0.1, 0.6)
    if max(abs(v) for v in velocity) * shutter > 0.5:
        luma, chroma = (prepare.motion_kernel(velocity[0] * shutter / by, velocity[1] * shutter / by) for by in (1, 2))
        move = lambda p, k: cv2.filter2D(p, -1, k, borderType=cv2.BORDER_REFLECT)
        frames = [(move(y, luma), move(u, chroma), move(v, chroma)) for y, u, v in frames]
    sigma = rng.uniform(0.1, 0.7)
    frames = [degrade.blur(f, sigma) for f in frames]
    return degrade.coded(frames, "libx264", rng.randrange(14, 24)) if rng.random() < 0.7 else frames


def moving_frames(path, other_path, seed, rng, recorded_share):
    """ENCODED large frames (float planes) of a camera path."""
    picture, maps, whole, velocity = prepare.camera_path(rng, read(path, seed), (WIDTH, HEIGHT), ENCODED)
    if rng.random() < NIGHT:
        picture = darkened(picture, rng)
    if rng.random() < STILL:
        maps, velocity = [maps[0]] * ENCODED, (0, 0)
    how = cv2.INTER_NEAREST if whole and maps[0][0, 1] == 0 and maps[-1][0, 0] == 1 else cv2.INTER_LANCZOS4
    frames = [
        cv2.warpAffine(picture, m, (WIDTH, HEIGHT), flags=how | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT) for m in maps
    ]
    if other_path is not None:
        moving_object(rng, frames, read(other_path, seed))
    frames = [to_planes(f) for f in frames]
    return recorded(frames, velocity, rng) if rng.random() < recorded_share else frames


def moving_object(rng, frames, other):
    """An elliptical cut-out of another picture over the frames, on a path of its own."""
    h, w = rng.randrange(60, 200), rng.randrange(60, 200)
    oy, ox = rng.randrange(other.shape[0] - h), rng.randrange(other.shape[1] - w)
    cut = other[oy : oy + h, ox : ox + w].astype(np.float32)
    mask = np.zeros((h, w), np.float32)
    cv2.ellipse(mask, (w // 2, h // 2), (w // 2 - 3, h // 2 - 3), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.8)[..., None]
    x, y = rng.uniform(20, WIDTH - w - 20), rng.uniform(20, HEIGHT - h - 20)
    vx, vy = rng.uniform(-8, 8), rng.uniform(-8, 8)
    for i, frame in enumerate(frames):
        px, py = int(np.clip(x + vx * i, 0, WIDTH - w)), int(np.clip(y + vy * i, 0, HEIGHT - h))
        view = frame[py : py + h, px : px + w]
        view[:] = np.rint(view * (1 - mask) + cut * mask).astype(np.uint8)


def reduced(frames, factor, kernel):
    if factor == 1:
        return [degrade.as_float(f) for f in frames]
    return [degrade.resize(f, WIDTH // factor, HEIGHT // factor, kernel) for f in frames]


def luma(frames):
    return np.stack([f[0] for f in frames])


def chroma(frames):
    return np.stack([np.stack(f[1:]) for f in frames])


def measured(frames):
    before = [None] + [f[0] for f in frames[:-1]]
    return [measure.measures(f[0], b) for f, b in zip(frames, before)]


def keep(folder, name, frames, quiet, noisy):
    """Writes one variant; `frames` uint8, `quiet` and `noisy` float, all FRAMES long."""
    np.save(f"{folder}/{name}_y.npy", luma(frames))
    np.save(f"{folder}/{name}_c.npy", chroma(frames))
    np.save(f"{folder}/{name}_quiet.npy", np.clip(np.rint(luma(quiet)), 0, 255).astype(np.uint8))
    if noisy is not None:
        np.save(f"{folder}/{name}_noise.npy", np.clip(np.rint(luma(noisy) - luma(quiet)), -127, 127).astype(np.int8))


def sequence(task):
    path, other_path, seed, folder, recorded_share = task
    if os.path.exists(folder):
        return
    rng, generator = random.Random(seed), np.random.default_rng(seed)
    frames = moving_frames(path, other_path, seed, rng, recorded_share)
    frames = [degrade.as_float(degrade.rounded(f)) for f in frames]
    start = rng.randrange(ENCODED - FRAMES + 1)
    kept = slice(start, start + FRAMES)
    # A training run that goes on meanwhile must see whole sequences only.
    part = f"{folder}.part"
    os.makedirs(part, exist_ok=True)
    large = [degrade.rounded(f) for f in frames[kept]]
    np.save(f"{part}/large_y.npy", luma(large))
    np.save(f"{part}/large_c.npy", chroma(large))
    about = {}
    for factor in SCALES:
        kernel = rng.choices(list(degrade.KERNELS), (2, 1, 5, 2))[0]
        small = reduced(frames, factor, kernel)
        for index in range(VARIANTS[factor]):
            kind = "clean" if index == 0 and factor > 1 else rng.choices(degrade.KINDS, degrade.SHARE)[0]
            worn, quiet, noisy, words = degrade.degraded(small, rng, generator, kind)
            keep(part, f"x{factor}_{index}", worn[kept], quiet[kept], noisy and noisy[kept])
            about[f"x{factor}_{index}"] = dict(kind=kind, words=words, reduced=kernel, measures=measured(worn[kept]))
    with open(f"{part}/about.json", "w") as file:
        json.dump(about, file)
    os.rename(part, folder)


def tasks(photos, out, per_photo, drawn, recorded_share, first):
    """One for each camera path, in an order that mixes the photographs; the validation's first."""
    rng = random.Random(7 + first)
    result = []
    for index, path in enumerate(photos):
        split = "validation" if index % prepare.VALIDATION_EVERY == 5 else "training"
        for part in range(first, first + (per_photo if split == "training" else int(first == 0))):
            other = rng.choice(photos) if rng.random() < 0.25 and split == "training" else None
            result.append((path, other, 50_000_000 + 1000 * index + part, f"{out}/{split}/{index:04}_{part}", recorded_share))
    for index in range(drawn * first, drawn * (first + 1)):
        split = "validation" if index % prepare.VALIDATION_EVERY == 5 else "training"
        result.append((None, None, 60_000_000 + index, f"{out}/{split}/g{index:04}", recorded_share))
    rng.shuffle(result)
    result.sort(key=lambda task: "/training/" in task[3])
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("out")
    parser.add_argument("--per-photo", type=int, default=4)
    parser.add_argument("--graphics", type=int, default=90)
    parser.add_argument("--recorded", type=float, default=0.6, help="share of the sequences whose originals are recorded")
    parser.add_argument("--first", type=int, default=0, help="number of the first camera path of each photograph")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    todo = tasks(sorted(glob.glob(f"{args.photos}/*")), args.out, args.per_photo, args.graphics, args.recorded, args.first)
    with multiprocessing.Pool(args.jobs) as pool:
        for done, _ in enumerate(pool.imap_unordered(sequence, todo), 1):
            if done % 20 == 0:
                print(f"{done}/{len(todo)}", flush=True)


if __name__ == "__main__":
    main()
