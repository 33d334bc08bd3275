# SPDX-License-Identifier: MPL-2.0
"""Crops of sequences whose pixels say where they are from."""

import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

import data
import model


def write(folder, name, seed):
    """A sequence of 5 small frames [24, 32] whose large ones are their pixels, each four by four times; every variant 1 higher than the one before."""
    path = Path(folder) / "training" / name
    path.mkdir(parents=True)
    small = np.random.default_rng(seed).integers(0, 200, (5, 24, 32), dtype=np.uint8)
    # The top left half of the codes says which frame it is.
    small[:, ::2, ::2] = 10 * np.arange(5, dtype=np.uint8)[:, None, None]
    np.save(path / "lr.npy", np.stack([small, small + 1, small + 2]))
    np.save(path / "hr.npy", np.kron(small[1:-1], np.ones((1, 4, 4), np.uint8)))


class Crops(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        write(self.folder.name, "0000_0", 1)
        write(self.folder.name, "0001_0", 2)
        self.sequences = data.Sequences(self.folder.name, 3, plain=0)

    def batch(self, frames, count=256):
        codes = lambda x: ((x + 1) * 127.5).round().to(torch.int64)
        return [codes(x) for x in self.sequences.batch(count, 8, frames)]

    def test_small_and_large_crops_are_of_one_place(self):
        for frames in (1, 3):
            hr, lr = self.batch(frames)
            self.assertEqual((hr.shape, lr.shape), ((256, 1, 32, 32), (256, frames, 8, 8)))
            blocks = torch.nn.functional.pixel_unshuffle(hr, model.FACTOR)
            self.assertTrue((blocks == blocks[:, :1]).all(), "each small pixel is four by four large ones")
            higher = lr[:, frames // 2] - blocks[:, 0]
            # One number for a whole crop: its variant.
            self.assertTrue((higher == higher[:, :1, :1]).all())
            self.assertEqual(set(higher[:, 0, 0].tolist()), {data.CLEAN, data.CODED, data.MIXED})

    def test_neighbours_are_the_frames_before_and_after(self):
        _, lr = self.batch(3)
        variants = torch.arange(3)
        steps = set()
        for crop in lr:
            for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
                marks = crop[:, corner[0] :: 2, corner[1] :: 2].flatten(1)
                frame = marks[:, 0, None] - variants
                if (marks == marks[:, :1]).all():
                    variant = (frame % 10 == 0).all(0).nonzero()[0, 0]
                    before, current, after = (frame[:, variant] // 10).tolist()
                    steps.add((before - current, after - current))
        self.assertEqual(steps, {(-1, 1), (1, -1), (0, 1), (0, -1), (0, 0)})

    def test_crops_are_turned_in_eight_ways(self):
        size = 4
        turns = [torch.tensor([bool(k >> bit & 1) for k in range(8)]) for bit in range(3)]
        zero = torch.zeros(8, dtype=torch.int64)
        rows, columns = self.sequences._pixels(zero, zero, size, turns)
        pictures = {tuple((size * r + c).flatten().tolist()) for r, c in zip(rows, columns)}
        self.assertEqual(len(pictures), 8)
        self.assertTrue(all(sorted(p) == list(range(size * size)) for p in pictures))

    def test_plain_crops_are_the_same_plane_on_both_sides(self):
        self.sequences.plain = 1
        hr, lr = self.batch(3, 1024)
        self.assertTrue((lr == lr[:, :1]).all(), "all frames are the same")
        flat = (lr == lr[:, :1, :1, :1]).flatten(1).all(1)
        self.assertAlmostEqual(flat.float().mean().item(), 0.5, delta=0.07)
        self.assertTrue((hr[flat] == lr[flat][:, :1, :1, :1]).all())
        # Inside of the range of codes the mean of four by four pixels is the small one, up to rounding.
        inside = ((hr > 0) & (hr < 255)).flatten(1).all(1)
        means = torch.nn.functional.avg_pool2d(hr[inside].float(), model.FACTOR)
        self.assertGreater(inside.sum().item(), 200)
        self.assertLess((means - lr[inside][:, :1]).abs().max().item(), 1.01)

    def test_as_many_crops_are_plain_as_asked_for(self):
        self.sequences.small[:] = 7
        self.sequences.plain = 0.25
        _, lr = self.batch(1, 1024)
        self.assertAlmostEqual((lr != 7).flatten(1).any(1).float().mean().item(), 0.25, delta=0.05)

    def test_busy_places_are_taken_more_often(self):
        self.sequences.small[0] = 100
        which = self.sequences._places(1000, 8)[0]
        self.assertAlmostEqual(which.float().mean().item(), 0.625, delta=0.06)

    def test_what_is_finished_later_is_taken_in_and_what_is_not_finished_is_not(self):
        write(self.folder.name, "0002_0", 4)
        write(self.folder.name, "0003_0.part", 5)
        self.sequences.refresh()
        self.assertEqual([Path(name).name for name in self.sequences.names], ["0000_0", "0001_0", "0002_0"])
        self.assertEqual(len(self.sequences.large), 3)
        self.assertTrue(torch.equal(self.sequences.large[2, 0, ::4, ::4], self.sequences.small[2, 0, 1]))


if __name__ == "__main__":
    unittest.main()
