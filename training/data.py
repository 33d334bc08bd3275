"""Random crops of the prepared sequences, and the fixed validation set."""

import glob
import random

import numpy as np
import torch

CLEAN, CODED, MIXED = 0, 1, 2
SHARE = (0.42, 0.40, 0.18)
FLAT = 0.04


class Sequences:
    def __init__(self, folder, seed):
        self.folders = sorted(glob.glob(f"{folder}/training/*"))
        if not self.folders:
            raise SystemExit(f"no sequences in {folder}/training: run prepare.py first")
        self.rng = random.Random(seed)

    def _crop(self, patch):
        rng = self.rng
        folder = rng.choice(self.folders)
        large = np.load(f"{folder}/hr.npy", mmap_mode="r")
        small = np.load(f"{folder}/lr.npy", mmap_mode="r")
        variant = rng.choices(range(3), SHARE)[0]
        target = rng.randrange(large.shape[0])
        h, w = small.shape[2:]
        y, x = rng.randrange(h - patch + 1), rng.randrange(w - patch + 1)
        hr = large[target, 4 * y : 4 * (y + patch), 4 * x : 4 * (x + patch)]
        lr = small[variant, target : target + 3, y : y + patch, x : x + patch]
        return np.array(hr), np.array(lr)

    def _flat(self, patch):
        """A picture of one value: what must come out as it went in, up to the frame's borders."""
        level = self.rng.choice((16, 235, self.rng.randrange(256)))
        return np.full((4 * patch, 4 * patch), level, np.uint8), np.full((3, patch, patch), level, np.uint8)

    def _busy_crop(self, patch):
        """The busier of two crops, half the time: flat sky teaches little."""
        first = self._crop(patch)
        if self.rng.random() < 0.5:
            return first
        second = self._crop(patch)
        energy = [np.abs(np.diff(c[0].astype(np.int16), axis=1)).mean() for c in (first, second)]
        return first if energy[0] >= energy[1] else second

    def batch(self, count, patch, frames):
        """(hr [n,1,4p,4p], lr [n,frames,p,p]) in model units."""
        larges, smalls = [], []
        for _ in range(count):
            hr, lr = self._flat(patch) if self.rng.random() < FLAT else self._busy_crop(patch)
            if self.rng.random() < 0.5:
                lr = lr[::-1]
            edge = self.rng.random()
            if edge < 0.10:
                lr = np.stack([lr[1], lr[1], lr[1] if edge < 0.03 else lr[2]])
            if self.rng.random() < 0.5:
                hr, lr = hr[:, ::-1], lr[:, :, ::-1]
            if self.rng.random() < 0.5:
                hr, lr = hr[::-1], lr[:, ::-1]
            if self.rng.random() < 0.5:
                hr, lr = hr.T, lr.transpose(0, 2, 1)
            larges.append(np.ascontiguousarray(hr)[None])
            smalls.append(np.ascontiguousarray(lr if frames == 3 else lr[1:2]))
        return to_model(np.stack(larges)), to_model(np.stack(smalls))


def to_model(codes):
    return torch.from_numpy(codes).float() / 127.5 - 1


def validation(folder, frames):
    """{variant name: [(hr [1,1,H,W], lr [1,frames,h,w]), ...]} of the set-aside photographs."""
    sets = {"clean": [], "coded": []}
    for path in sorted(glob.glob(f"{folder}/validation/*")):
        hr, lr = np.load(f"{path}/hr.npy"), np.load(f"{path}/lr.npy")
        for name, variant in (("clean", CLEAN), ("coded", CODED)):
            small = lr[variant, 0:3] if frames == 3 else lr[variant, 1:2]
            sets[name].append((to_model(hr[0])[None, None], to_model(small)[None]))
    return sets
