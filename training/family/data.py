# SPDX-License-Identifier: MPL-2.0
"""Random clips of crops from the prepared sequences, read from disk as they are wanted (the page cache holds what is used)."""

import functools
import glob
import json
import random

import numpy as np
import torch

from family import measure, model

PLAIN = 0.04
CUT = 0.06
REVERSED = 0.5
DIALS = 0.2
KNOWN = 0.75


def to_model(codes):
    return torch.from_numpy(np.array(codes)).float() / 127.5 - 1


def finished(folder, split):
    """Folders of the sequences that prepare.py has finished."""
    return sorted(path for path in glob.glob(f"{folder}/{split}/*") if not path.endswith(".part"))


@functools.lru_cache(4096)
def about(folder):
    with open(f"{folder}/about.json") as file:
        return json.load(file)


def planes(folder, name):
    return np.load(f"{folder}/{name}.npy", mmap_mode="r")


class Clip:
    """`length` frames of one crop at one factor, codes as float tensors; see `Sequences.clip`."""

    def __init__(self, y, c, x0, x1, conditions):
        self.y, self.c, self.x0, self.x1, self.conditions = y, c, x0, x1, conditions


class Sequences:
    def __init__(self, folder, seed, plain=PLAIN, dials=DIALS):
        self.folder, self.plain, self.dials = folder, plain, dials
        self.rng = random.Random(seed)
        self.names = []
        self.refresh()
        if not self.names:
            raise SystemExit(f"no sequences in {folder}/training: run family.prepare first")

    def refresh(self):
        """Takes in what prepare.py has finished since."""
        self.names = finished(self.folder, "training")

    def _place(self, y, size, grid):
        """Frame corner (row, column) of a crop of `size` in luma [T, h, w], on whole places of the grid: the busier of two, half the time."""
        count, h, w = y.shape
        found = []
        for _ in range(2):
            row, column = (self.rng.randrange((n - size) // grid + 1) * grid for n in (h, w))
            crop = y[0, row : row + size, column : column + size].astype(np.float32)
            found.append((np.abs(np.diff(crop)).mean() + np.abs(np.diff(crop, axis=0)).mean(), (row, column)))
        return max(found)[1] if self.rng.random() < 0.5 else found[0][1]

    def clip(self, factor, patch, length):
        """A `Clip` of `length` frames of patch x patch places of the grid.

        y [length + 2, ...] has the frame before and the frame after, repeated at a sequence's ends; x0 and x1 [length, 24, patch, patch].
        """
        rng = self.rng
        folder = rng.choice(self.names)
        variants = [n for n in about(folder) if n.startswith(f"x{factor}_")]
        name = rng.choice(variants)
        y, c = planes(folder, f"{name}_y"), planes(folder, f"{name}_c")
        side = model.BLOCK // factor
        # Chroma of the factor 4 has half of the grid's places.
        row, column = self._place(y, side * patch, max(side, 2))
        first = rng.randrange(len(y) - length + 1)
        order = list(range(first - 1, first + length + 1))
        order = [min(max(i, 0), len(y) - 1) for i in order]
        # Sometimes a scene begins here.
        if rng.random() < 0.1:
            order[0] = order[1]
        if rng.random() < 0.03:
            order[-1] = order[-2]
        if rng.random() < REVERSED:
            order = order[::-1]
        upside_down = rng.random() < 0.5
        inner = order[1:-1]

        def crop(array, frames, scale):
            top, left, size = (int(n * scale) for n in (row, column, side * patch))
            taken = np.stack([array[i, ..., top : top + size, left : left + size] for i in frames])
            return taken[..., ::-1, :] if upside_down else taken

        small_y, small_c = to_model(crop(y, order, 1))[:, None], to_model(crop(c, inner, 0.5))
        large_y = to_model(crop(planes(folder, "large_y"), inner, factor))[:, None]
        large_c = to_model(crop(planes(folder, "large_c"), inner, factor / 2))
        x0, x1 = model.plain(small_y[1:-1], small_c, factor), model.latent(large_y, large_c)
        keep = soft = 0.0
        if rng.random() < self.dials:
            keep, soft = (rng.choice((0.0, 1.0, rng.random(), rng.random())) for _ in range(2))
            x1 = self._dialled(folder, name, factor, x1, lambda a: crop(a, inner, 1), keep, soft)
        known = rng.random() < KNOWN
        measures = about(folder)[name]["measures"]
        conditions = torch.tensor([model.condition(factor, keep, soft, measures[i] if known else None) for i in inner])
        return Clip(small_y, small_c, x0, x1, conditions)

    @staticmethod
    def _dialled(folder, name, factor, x1, crop, keep, soft):
        """The target of somebody who wants a share of the softness and of the noise to stay; both as the plain enlargement shows them."""
        wanted = x1.clone()
        enlarged = lambda codes: model.latent(model.enlarge(codes, factor), torch.zeros(len(codes), 2, *(2 * n for n in x1.shape[-2:])))
        quiet = enlarged(to_model(crop(planes(folder, f"{name}_quiet")))[:, None])[:, : model.LUMA]
        wanted[:, : model.LUMA] += soft * (quiet - x1[:, : model.LUMA])
        try:
            noise = planes(folder, f"{name}_noise")
        except FileNotFoundError:
            return wanted
        added = torch.from_numpy(crop(noise).astype(np.float32))[:, None] / 127.5
        wanted[:, : model.LUMA] += keep * enlarged(added)[:, : model.LUMA]
        return wanted

    def _flat(self, factor, patch, length):
        """One value or slope for luma and for chroma: what must come out as it went in, up to the frame's borders."""
        rng = self.rng
        slope = lambda: (rng.uniform(-200, 200), rng.uniform(-200, 200)) if rng.random() < 0.5 else (0, 0)
        ramps = [(rng.choice((16, 235, rng.randrange(256))), slope())] + [(rng.choice((128, rng.randrange(256))), slope()) for _ in range(2)]

        def drawn(ramp, size, siting):
            # Of left-sited chroma the first sample is a quarter of its width from the edge, so every size draws one plane.
            level, (across, down) = ramp
            columns, rows = (np.arange(size) + siting) / size - 0.5, (np.arange(size) + 0.5) / size - 0.5
            return np.clip(np.rint(level + across * columns + down * rows[:, None]), 0, 255)

        def picture(size):
            y = to_model(drawn(ramps[0], size, 0.5))[None, None]
            return y, to_model(np.stack([drawn(r, size // 2, 0.25) for r in ramps[1:]]))[None]

        small_y, small_c = picture(model.BLOCK // factor * patch)
        large_y, large_c = picture(model.BLOCK * patch)
        again = lambda x, count: x.expand(count, *x.shape[1:])
        codes = ((small_y[0, 0] + 1) * 127.5).numpy()
        measures = measure.measures(codes, codes) if rng.random() < KNOWN else None
        conditions = torch.tensor([model.condition(factor, measures=measures)] * length)
        x0, x1 = model.plain(small_y, small_c, factor), model.latent(large_y, large_c)
        return Clip(again(small_y, length + 2), again(small_c, length), again(x0, length), again(x1, length), conditions)

    def batch(self, counts, patch, length):
        """A list of (factor, y [n, length + 2, 1, ...], c, x0, x1 [n, length, ...], conditions, cut) for `counts`, {factor: n}.

        `cut` [n] is the first frame of a second scene in the clip, or `length`: there the memory is of something else.
        """
        groups = []
        for factor, count in counts.items():
            if not count:
                continue
            clips, cuts = [], []
            for _ in range(count):
                make = self._flat if self.rng.random() < self.plain else self.clip
                clip, cut = make(factor, patch, length), length
                if length > 1 and self.rng.random() < CUT:
                    cut = self.rng.randrange(1, length)
                    clip = spliced(clip, self.clip(factor, patch, length), cut)
                clips.append(clip)
                cuts.append(cut)
            stacked = [torch.stack([getattr(clip, k) for clip in clips]) for k in ("y", "c", "x0", "x1", "conditions")]
            groups.append((factor, *stacked, torch.tensor(cuts)))
        return groups


def spliced(one, other, cut):
    """`one` up to the frame `cut`, `other` from there on. The neighbours across it are the other scene's."""
    mix = lambda a, b, at: torch.cat([a[:at], b[at:]])
    return Clip(mix(one.y, other.y, cut + 1), *(mix(getattr(one, k), getattr(other, k), cut) for k in ("c", "x0", "x1", "conditions")))


def validation(folder, limit=None):
    """[(folder, variant, factor)] of the set-aside sequences, with every variant."""
    return [(f, n, int(n[1])) for f in finished(folder, "validation")[:limit] for n in sorted(about(f))]


def held_out(folder, name):
    """Whole small luma [T, 1, ...] and chroma, large luma and chroma of one variant, and its measures."""
    read = lambda n: to_model(planes(folder, n)[:])
    return read(f"{name}_y")[:, None], read(f"{name}_c"), read("large_y")[:, None], read("large_c"), about(folder)[name]["measures"]
