# SPDX-License-Identifier: MPL-2.0
"""What recording does to frames."""

import random
import unittest

import numpy as np

try:
    import prepare
except ImportError:
    prepare = None


@unittest.skipUnless(prepare, "needs av and opencv")
class Recorded(unittest.TestCase):
    def test_motion_blurs_along_its_way_and_moves_nothing(self):
        for dx, dy in ((6, 0), (0, 5), (9, -9), (0.7, 0.2)):
            kernel = prepare.motion_kernel(dx, dy)
            at = np.arange(len(kernel)) - len(kernel) // 2
            across, down = kernel.sum(0), kernel.sum(1)
            self.assertAlmostEqual(float(kernel.sum()), 1, places=5)
            for weights, way in ((across, dx), (down, dy)):
                middle = float((weights * at).sum())
                self.assertAlmostEqual(middle, 0, delta=0.1)
                # The deviation of a line's points, and of the pixel they are drawn with.
                spread = float((weights * (at - middle) ** 2).sum()) ** 0.5
                self.assertAlmostEqual(spread, (way**2 / 12 + 1 / 12) ** 0.5, delta=0.35)

    def test_recorded_frames_are_as_many_and_softer(self):
        rng = np.random.default_rng(1)
        frames = [rng.integers(60, 200, (64, 96), dtype=np.uint8) for _ in range(prepare.ENCODED)]
        for seed in range(6):
            after = prepare.recorded(frames, (4.0, 1.0), random.Random(seed))
            self.assertEqual([f.shape for f in after], [f.shape for f in frames])
            rough = lambda pictures: np.mean([np.abs(np.diff(p.astype(float), axis=1)).mean() for p in pictures])
            self.assertLess(rough(after), 0.95 * rough(frames))


if __name__ == "__main__":
    unittest.main()
