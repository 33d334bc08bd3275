# SPDX-License-Identifier: MPL-2.0
"""Random crops of the prepared sequences, and the fixed validation set."""

import glob

import numpy as np
import torch

import model

CLEAN, CODED, MIXED = 0, 1, 2
SHARE = (0.36, 0.46, 0.18)
PLAIN = 0.04


def finished(folder, split):
    """Folders of the sequences that prepare.py has finished."""
    return sorted(path for path in glob.glob(f"{folder}/{split}/*") if not path.endswith(".part"))


class Sequences:
    """Every sequence at once in the memory of the device that trains (2.9 MB each): a GPU takes thousands of crops a second."""

    def __init__(self, folder, seed, device="cpu", plain=PLAIN):
        self.folder, self.device, self.names, self.plain = folder, torch.device(device), [], plain
        self.generator = torch.Generator(device).manual_seed(seed)
        self.share = torch.tensor(SHARE, device=device)
        self.large = self.small = None
        self.refresh()
        if not self.names:
            raise SystemExit(f"no sequences in {folder}/training: run prepare.py first")

    def refresh(self):
        """Takes in what prepare.py has finished since."""
        new = sorted(set(finished(self.folder, "training")) - set(self.names))
        if new:
            self.large = self._extended(self.large, [f"{name}/hr.npy" for name in new])
            self.small = self._extended(self.small, [f"{name}/lr.npy" for name in new])
            self.names += new

    def _extended(self, old, paths):
        count = 0 if old is None else old.shape[0]
        result = torch.empty((count + len(paths), *np.load(paths[0], mmap_mode="r").shape), dtype=torch.uint8, device=self.device)
        if count:
            result[:count] = old
        for index, path in enumerate(paths, count):
            result[index] = torch.from_numpy(np.load(path))
        return result

    def _draw(self, high, *size):
        return torch.randint(high, size, generator=self.generator, device=self.device)

    def _chance(self, count, probability):
        return torch.rand(count, generator=self.generator, device=self.device) < probability

    def _places(self, count, patch):
        """(sequence, variant, target frame, y, x), each [count]: the busier of two places, half the time. Flat sky teaches little."""
        _, height, width = self.large.shape[1:]
        rows, columns = height // model.FACTOR, width // model.FACTOR
        which = self._draw(len(self.names), 2, count)
        target = self._draw(self.large.shape[1], 2, count)
        y, x = self._draw(rows - patch + 1, 2, count), self._draw(columns - patch + 1, 2, count)
        steps = torch.arange(patch, device=self.device)
        at = [i[..., None, None] for i in (which, target + 1, y, x)]
        crops = self.small[at[0], CLEAN, at[1], at[2] + steps[:, None], at[3] + steps].float()
        energy = crops.diff(dim=3).abs().mean((2, 3))
        second = (energy[1] > energy[0]) & self._chance(count, 0.5)
        which, target, y, x = (torch.where(second, i[1], i[0]) for i in (which, target, y, x))
        variant = torch.multinomial(self.share, count, replacement=True, generator=self.generator)
        return which, variant, target, y, x

    def _turned(self, count):
        """Three coins for each crop: upside down, mirrored, transposed."""
        return [self._chance(count, 0.5) for _ in range(3)]

    def _pixels(self, y, x, size, turns):
        """Rows and columns [n, size, size] of square crops at (y, x), turned."""
        upside_down, mirrored, transposed = (coin[:, None] for coin in turns)
        steps = torch.arange(size, device=self.device).expand(len(y), size)
        down = torch.where(upside_down, steps.flip(1), steps)
        right = torch.where(mirrored, steps.flip(1), steps)
        across = transposed[..., None]
        rows = torch.where(across, down[:, None, :], down[:, :, None])
        columns = torch.where(across, right[:, :, None], right[:, None, :])
        return y[:, None, None] + rows, x[:, None, None] + columns

    def _neighbours(self, count):
        """Offsets [count, 3] of the previous, current and next small frame from the previous: sometimes backwards, sometimes a clip's end."""
        forwards = torch.arange(3, device=self.device).expand(count, 3)
        order = torch.where(self._chance(count, 0.5)[:, None], forwards, forwards.flip(1)).clone()
        end = torch.rand(count, generator=self.generator, device=self.device)
        order[:, 0] = torch.where(end < 0.10, 1, order[:, 0])
        order[:, 2] = torch.where(end < 0.03, 1, order[:, 2])
        return order

    def _plain(self, count, patch):
        """Large and small pictures, float codes [count, 1, size, size], of one value, or of a slope in any direction."""
        level = torch.tensor([16.0, 235.0, -1.0], device=self.device)[self._draw(3, count)]
        level = torch.where(level < 0, self._draw(256, count).float(), level)
        rise = (400 * torch.rand(2, count, generator=self.generator, device=self.device) - 200) * self._chance(count, 0.5)
        pictures = []
        for size in (model.FACTOR * patch, patch):
            along = (torch.arange(size, device=self.device) + 0.5) / size - 0.5
            across, down = rise[0, :, None, None] * along, rise[1, :, None, None] * along[:, None]
            pictures.append((level[:, None, None] + across + down).round().clamp(0, 255)[:, None])
        return pictures

    def batch(self, count, patch, frames):
        """(hr [n,1,4p,4p], lr [n,frames,p,p]) in model units."""
        which, variant, target, y, x = self._places(count, patch)
        turns = self._turned(count)
        rows, columns = self._pixels(model.FACTOR * y, model.FACTOR * x, model.FACTOR * patch, turns)
        hr = self.large[which[:, None, None], target[:, None, None], rows, columns][:, None]
        rows, columns = (i[:, None] for i in self._pixels(y, x, patch, turns))
        order = self._neighbours(count) if frames == 3 else torch.ones(count, 1, dtype=torch.int64, device=self.device)
        which, variant, frame = (i[..., None, None] for i in (which[:, None], variant[:, None], target[:, None] + order))
        lr = self.small[which, variant, frame, rows, columns]
        # What must come out as it went in, up to the frame's borders.
        plain = self._chance(count, self.plain)[:, None, None, None]
        large, small = self._plain(count, patch)
        return to_model(torch.where(plain, large, hr)), to_model(torch.where(plain, small, lr))


def to_model(codes):
    return codes.float() / 127.5 - 1


def validation(folder, frames, device="cpu"):
    """{variant name: [(hr [1,1,H,W], lr [1,frames,h,w]), ...]} of the set-aside photographs."""
    sets = {"clean": [], "coded": []}
    for path in finished(folder, "validation"):
        hr, lr = (torch.from_numpy(np.load(f"{path}/{name}.npy")).to(device) for name in ("hr", "lr"))
        for name, variant in (("clean", CLEAN), ("coded", CODED)):
            small = lr[variant, 0:3] if frames == 3 else lr[variant, 1:2]
            sets[name].append((to_model(hr[0])[None, None], to_model(small)[None]))
    return sets
