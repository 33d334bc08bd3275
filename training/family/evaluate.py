# SPDX-License-Identifier: MPL-2.0
"""Measures a run of the family on set-aside photographs, one kind of damage at a time, beside the plain enlargement and the model before.

    python -m family.evaluate PHOTOS RUN [--scenes 6] [--factors 4,2,1] [--sheet SHEET.png]

Every twelfth photograph (those no training saw) gives a scene that moves and one that stands still.  Each is reduced, damaged with fixed
strengths and seeds, and enlarged by the network frame after frame; the last frame is measured in PSNR of luma and of chroma.

noise   what the enhancer makes of the noise: the deviation of (enhanced noisy - enhanced clean) over that of the plain enlargements
fine    the same without what a blur of 1.5 pixels leaves
still   deviation in time of the last six frames of a scene that stands still, over that of the plain enlargement

`before` is models/builtin.safetensors, for the factor 4 as it is and for 2 reduced by half again; its chroma is resized by Lanczos.
"""

import argparse
import glob
import json
import os
import random

import cv2
import numpy as np
import torch

import export as compact_export
import model as compact
import prepare as before
import runs
from family import data, degrade, export, measure, model, noise, prepare, train

FRAMES = 8
STEADY = 6


def sensor_night(frames, generator):
    rng = random.Random(3)
    noisy = noise.sensor(frames, 1.5e-3 * noise.CHANNEL, 2e-5, 1.5, generator)
    return degrade.coded(degrade.smeared(noisy, rng, 3.0), "libx264", 25)


def added(strength, width):
    def damage(frames, generator):
        return [(y + strength * noise.correlated(y.shape, width, generator), u, v) for y, u, v in frames]

    return damage


def through(*chain):
    def damage(frames, generator):
        for codec, quality in chain:
            frames = degrade.coded(frames, codec, quality)
        return frames

    return damage


def blurred(sigma):
    return lambda frames, generator: [degrade.blur(f, sigma) for f in frames]


# Name: (stands still, what happens to the small frames)
DAMAGE = {
    "clean": (False, lambda frames, generator: frames),
    "crf 28": (False, through(("libx264", 28))),
    "hevc 30": (False, through(("libx265", 30))),
    "mpeg2 8": (False, through(("mpeg2video", 8))),
    "mjpeg 10": (False, through(("mjpeg", 10))),
    "mpeg2 6, crf 26": (False, through(("mpeg2video", 6), ("libx264", 26))),
    "blur 1": (False, blurred(1.0)),
    "blur 1.5": (False, blurred(1.5)),
    "white 10": (True, added(10, 0)),
    "correlated 4": (True, added(4, 0.8)),
    "correlated 6": (True, added(6, 0.8)),
    "white 4, crf 22": (True, lambda f, g: degrade.coded(added(4, 0)(f, g), "libx264", 22)),
    "night": (True, sensor_night),
    "tape": (False, lambda f, g: degrade.coded(degrade.taped(f, random.Random(5), g), "mpeg2video", 5)),
    "combed": (False, lambda f, g: degrade.coded(degrade.combed(f, random.Random(5)), "libx264", 22)),
}


def scenes(photos, count):
    """[(still frames, moving frames, dark still frames)], FRAMES float frames each, of set-aside photographs."""
    held = [p for i, p in enumerate(sorted(photos)) if i % before.VALIDATION_EVERY == 5][:count]
    result = []
    for index, path in enumerate(held):
        rng = random.Random(900 + index)
        picture, maps, _, _ = before.camera_path(rng, prepare.read(path, 0), (prepare.WIDTH, prepare.HEIGHT), FRAMES)
        speed = (rng.uniform(-4, 4), rng.uniform(-3, 3))
        warp = lambda m, p: cv2.warpAffine(p, m, (prepare.WIDTH, prepare.HEIGHT), flags=cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
        moved = [maps[0] + np.float32([[0, 0, speed[0] * i], [0, 0, speed[1] * i]]) for i in range(FRAMES)]
        dark = prepare.darkened(picture, random.Random(index))
        planes = lambda pictures: [degrade.as_float(degrade.rounded(degrade.blur(prepare.to_planes(p), 0.5))) for p in pictures]
        result.append((planes([warp(maps[0], picture)]) * FRAMES, planes([warp(m, picture) for m in moved]), planes([warp(maps[0], dark)]) * FRAMES))
    return result


def tensors(frames):
    return data.to_model(prepare.luma(frames))[:, None], data.to_model(prepare.chroma(frames))


def lanczos(planes, factor, siting):
    """[T, c, h, w] enlarged (or with a factor below 1 reduced) by Lanczos."""
    h, w = planes.shape[-2:]
    down, across = (torch.from_numpy(degrade.resize_matrix(n, int(n * factor), "lanczos", s)) for n, s in ((h, 0.5), (w, siting)))
    return down @ planes @ across.T


class Before:
    """The model before this family: luma of three frames by four, chroma by Lanczos."""

    def __init__(self, path):
        self.net = compact_export.load_exported(path, compact_export.start_from(path)[1])
        self.net.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, y, c, factor, frames):
        window = torch.tensor(model.window(y, 3))[frames]
        with runs.half():
            large = torch.cat([compact.sample(self.net, y[i, 0][None]) for i in window])
        return large if factor == 4 else lanczos(large, factor / 4, 0.5), lanczos(c[frames], factor, 0.25)


def deviation_in_time(y):
    return ((y + 1) * 127.5).round().clamp(0, 255).std(0).mean().item()


def fine(x):
    picture = x[0, 0].numpy()
    return picture - cv2.GaussianBlur(picture, (0, 0), 1.5)


def evaluate(scene, name, factor, enhance, older):
    """One row of numbers, and the pictures of the last frame for a sheet."""
    still, damage = DAMAGE[name]
    large = scene[2] if name == "night" else scene[0] if still else scene[1]
    small = prepare.reduced(large, factor, "bicubic")
    worn = [degrade.rounded(f) for f in damage(small, np.random.default_rng(17))]
    quiet = [degrade.rounded(f) for f in small]
    truth_y, truth_c = tensors([degrade.rounded(f) for f in large[-1:]])
    y, c = tensors(worn)
    measures = prepare.measured(worn)
    with_noise = still and name != "night"
    ours = enhance(y, c, factor, [model.condition(factor, measures=m) for m in measures])
    plain = model.planes(model.plain(y, c, factor))
    row = dict(name=name, factor=factor, plain=train.psnr(plain[0][-1:], truth_y), plain_c=train.psnr(plain[1][-1:], truth_c))
    row |= dict(ours=train.psnr(ours[0][-1:], truth_y) - row["plain"], ours_c=train.psnr(ours[1][-1:], truth_c) - row["plain_c"])
    wanted = list(range(FRAMES - STEADY, FRAMES)) if still else [FRAMES - 1]
    theirs = older(y, c, factor, wanted) if factor > 1 else None
    if theirs:
        row |= dict(older=train.psnr(theirs[0][-1:], truth_y) - row["plain"], older_c=train.psnr(theirs[1][-1:], truth_c) - row["plain_c"])
    if still:
        flicker = deviation_in_time(plain[0][-STEADY:])
        row["still"] = deviation_in_time(ours[0][-STEADY:]) / flicker
        if theirs:
            row["older_still"] = deviation_in_time(theirs[0]) / flicker
    if with_noise:
        quiet_y, quiet_c = tensors(quiet)
        conditions = [model.condition(factor, measures=m) for m in prepare.measured(quiet)]
        base = model.enlarge(y[-1:] - quiet_y[-1:], factor)
        differences = {"": ours[0][-1:] - enhance(quiet_y, quiet_c, factor, conditions)[0][-1:]}
        if theirs:
            differences["older_"] = theirs[0][-1:] - older(quiet_y, quiet_c, factor, [FRAMES - 1])[0]
        for who, left in differences.items():
            row[f"{who}noise"] = (left.std() / base.std()).item()
            row[f"{who}fine"] = float(fine(left).std() / fine(base).std())
    shown = [(p[0][-1], p[1][-1]) for p in (plain, *([theirs] if theirs else []), ours)] + [(truth_y[0], truth_c[0])]
    return row, shown


def to_bgr(y, c):
    """An 8-bit picture of luma [1, h, w] and chroma [2, h/2, w/2] in model units, chroma by its siting."""
    full = model.each_plane(model.at_luma, c[None])[0]
    y, u, v = ((p.numpy() + 1) * 127.5 for p in (y[0], full[0], full[1]))
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    bgr = np.stack([y + 1.772 * u, y - 0.344136 * u - 0.714136 * v, y + 1.402 * v], 2)
    return np.clip(np.rint(255 * bgr), 0, 255).astype(np.uint8)


def busiest(picture, size):
    energy = cv2.boxFilter(np.abs(cv2.Laplacian(picture.astype(np.float32), -1)), -1, (size, size))
    h, w = energy.shape
    inner = energy[size // 2 : h - size // 2, size // 2 : w - size // 2]
    row, column = np.unravel_index(np.argmax(inner), inner.shape)
    return row, column


def strip(shown, words, size=160):
    """One row of a contact sheet: the busiest place, twice as large."""
    row, column = busiest(shown[-1][0][0].numpy(), size)
    cuts = [to_bgr(*p)[row : row + size, column : column + size] for p in shown]
    line = np.concatenate([cv2.resize(c, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) for c in cuts], 1)
    cv2.putText(line, words, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 255), 1, cv2.LINE_AA)
    return line


def settling(scene, factor, enhance, count=24):
    """Shares of the luma pixels whose code changes from each frame to the next while one coded frame is repeated: what the memory still does."""
    frames = [degrade.rounded(through(("libx264", 24))(prepare.reduced(scene[0], factor, "bicubic"), None)[-1])] * count
    y, c = tensors(frames)
    shown = ((enhance(y, c, factor, [model.condition(factor, measures=m) for m in prepare.measured(frames)])[0] + 1) * 127.5).round()
    return [(a != b).float().mean().item() for a, b in zip(shown, shown[1:])]


def table(rows):
    """Markdown: the mean over scenes for each damage and factor."""
    columns = ("plain", "ours", "older", "ours_c", "older_c", "noise", "older_noise", "fine", "older_fine", "still", "older_still")
    heads = ("plain dB", "luma", "before", "chroma", "before", "noise", "before", "fine", "before", "still", "before")
    lines = ["| damage | x | " + " | ".join(heads) + " |", "|---|---|" + "---:|" * len(heads)]
    seen = dict.fromkeys((r["factor"], r["name"]) for r in rows)
    for factor, name in seen:
        group = [r for r in rows if (r["factor"], r["name"]) == (factor, name)]
        mean = lambda k: np.mean([r[k] for r in group])
        sign = lambda k: "+.2f" if k in ("ours", "older", "ours_c", "older_c") else ".2f"
        cells = [format(mean(k), sign(k)) if k in group[0] else "" for k in columns]
        lines.append(f"| {name} | {factor} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("run", help="folder of a run, or an exported file")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--factors", default="4,2,1")
    parser.add_argument("--only", nargs="+", choices=list(DAMAGE), default=list(DAMAGE))
    parser.add_argument("--older", default=os.path.join(os.path.dirname(__file__), "../../models/builtin.safetensors"))
    parser.add_argument("--sheet", help="writes plain, before, ours and truth of the first scenes' busiest places")
    parser.add_argument("--settle", action="store_true", help="also how long the memory changes a frame that is repeated")
    parser.add_argument("--json")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    net, older = export.load(args.run), Before(args.older)

    def enhance(*inputs):
        with runs.half():
            return model.enhance(net, *inputs)

    made, rows, sheets = scenes(glob.glob(f"{args.photos}/*"), args.scenes), [], {}
    for factor in (int(f) for f in args.factors.split(",")):
        for name in args.only:
            for index, scene in enumerate(made):
                row, shown = evaluate(scene, name, factor, enhance, older)
                rows.append(row)
                if args.sheet and index == args.only.index(name) % len(made):
                    sheets.setdefault(factor, []).append(strip(shown, f"x{factor} {name}"))
            print(table(rows).splitlines()[-1], flush=True)
    print("\n" + table(rows))
    if args.settle:
        for factor in (int(f) for f in args.factors.split(",")):
            shares = np.mean([settling(scene, factor, enhance) for scene in made], 0)
            print(f"x{factor} changed:", " ".join(f"{share:.4f}" for share in shares))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(rows, file, indent=1)
    for factor, lines in sheets.items():
        root, ending = os.path.splitext(args.sheet)
        cv2.imwrite(f"{root}-x{factor}{ending}", np.concatenate(lines))


if __name__ == "__main__":
    main()
