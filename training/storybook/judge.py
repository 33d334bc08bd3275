# SPDX-License-Identifier: MPL-2.0
"""Tells how many clips of `flashvideosrc` show what was asked for: 200 held-out prompts by default.

    python -m storybook.judge RUN prompts FILE                   writes prompts, one per line
    gst-launch-1.0 flashvideosrc prompts-file=FILE num-clips=200 seed=1 ! videoconvert ! video/x-raw,format=RGB ! filesink location=CLIPS
    python -m storybook.judge RUN clips CLIPS [--sheet OUT.png]  looks at frames 480x270, 49 to a clip

Judges are the classifier (checker.py) and, of colour and motion, arithmetic (measure.py). Chance is what the same clips score against the prompts of other clips; an
unconditional run (guidance-scale=0) should score the same.
"""

import argparse
import json
import random

import cv2
import numpy as np

from . import checker, measure, world
from .sample import plain

FIRST = 50_000_000
SHOWN = (270, 480)


def scenes(count):
    return [world.sample(FIRST + i, test=True) for i in range(count)]


def padded(clip):
    """Frames as high as drawn ones: the element shows the middle rows."""
    rows = world.HEIGHT - SHOWN[0]
    return np.pad(clip, ((0, 0), (rows // 2, rows - rows // 2), (0, 0), (0, 0)), mode="edge")


def verdict(net, clip):
    """What a clip shows, by attribute; by arithmetic None where nothing moves."""
    said = checker.look(net, clip)
    said["measured motion"], said["measured colour"] = measure.measure(clip)
    return said


def shares(verdicts, told):
    """The share of clips that show what was told, by attribute."""
    out = {}
    for name in verdicts[0]:
        attribute = name.removeprefix("measured ")
        pairs = [(said[name], getattr(scene, attribute)) for said, scene in zip(verdicts, told) if said[name] is not None]
        out[name] = round(sum(a == b for a, b in pairs) / max(1, len(pairs)), 3)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("what", choices=("prompts", "clips"))
    parser.add_argument("file")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--sheet", help="picture of the first clips")
    a = parser.parse_args()
    told = scenes(a.count)
    texts = [plain(scene, FIRST + i) for i, scene in enumerate(told)]
    if a.what == "prompts":
        with open(a.file, "w") as file:
            file.writelines(text + "\n" for text in texts)
        return
    data = np.memmap(a.file, np.uint8, "r")
    shape = (world.FRAMES, *SHOWN, 3)
    count = min(a.count, data.size // int(np.prod(shape)))
    clips = data[: count * int(np.prod(shape))].reshape(count, *shape)
    net = checker.load(a.run)
    verdicts = [verdict(net, padded(clip)) for clip in clips]
    others = list(told[:count])
    random.Random(0).shuffle(others)
    print(json.dumps({"clips": count, "shown": shares(verdicts, told), "chance": shares(verdicts, others)}, indent=1))
    for text, said, scene in zip(texts, verdicts, told):
        wrong = {name: value for name, value in said.items() if value not in (None, getattr(scene, name.removeprefix("measured ")))}
        print("right" if not wrong else f"wrong {wrong}", "|", text)
    if a.sheet:
        picks = np.linspace(0, world.FRAMES - 1, 5).round().astype(int)
        rows = [np.concatenate([cv2.resize(clip[i], (240, 135), interpolation=cv2.INTER_AREA) for i in picks], 1) for clip in clips[:24]]
        cv2.imwrite(a.sheet, np.concatenate(rows)[..., ::-1])


if __name__ == "__main__":
    main()
