# SPDX-License-Identifier: MPL-2.0
"""Tests of the model's fixed arithmetic, of calibration and of the evaluator; `python -m unittest` runs them."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np
import torch

import calibrate
import evaluate
import model


class FixedArithmetic(unittest.TestCase):
    def test_the_reference_keeps_flat_pictures_and_ramps(self):
        flat = torch.full((1, 1, 6, 7), 0.25)
        self.assertTrue(torch.allclose(model.reference_latent(flat), torch.tensor(0.25), atol=1e-6))
        ramp = torch.arange(12.0).expand(1, 1, 8, 12)
        large = torch.nn.functional.pixel_shuffle(model.reference_latent(ramp), model.FACTOR)
        # Away from the edges, a cubic kernel follows a straight line: pixel x lies at (x + 0.5) / 4 - 0.5.
        expected = (torch.arange(48.0) + 0.5) / 4 - 0.5
        self.assertTrue(torch.allclose(large[0, 0, 16, 12:36], expected[12:36], atol=1e-5))

    def test_the_time_grid_is_that_of_the_release(self):
        expected = torch.tensor([0, 0.117647, 0.285714, 0.545455, 1])
        self.assertTrue(torch.allclose(model.time_grid(4), expected, atol=1e-5))

    def test_an_untrained_network_gives_the_reference(self):
        net = model.Compact(channels=8, layers=2, frames=3, residual=True)
        lr = torch.rand(1, 3, 5, 6) * 2 - 1
        plain = torch.nn.functional.pixel_shuffle(model.reference_latent(lr[:, 1:2]), model.FACTOR)
        self.assertTrue(torch.allclose(model.sample(net, lr, steps=3), plain, atol=1e-6))


class Calibration(unittest.TestCase):
    def test_ranges_are_of_what_each_layer_reads(self):
        for residual in (False, True):
            net = model.Compact(channels=8, layers=2, frames=1, residual=residual)
            torch.nn.init.constant_(net.tail.bias, 1.0)
            pictures = [torch.rand(1, 1, 6, 7) * 2 - 1 for _ in range(3)]
            read = []
            hook = net.tail.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
            found = calibrate.ranges(net, pictures)
            hook.remove()
            self.assertEqual(found.shape, (3, 2, 8))
            values = torch.cat([x.detach().flatten(2) for x in read], 2)[0]
            self.assertTrue(torch.equal(found[2], torch.stack([values.amin(1), values.amax(1)])))

    def test_the_outermost_pixels_do_not_count(self):
        x = torch.zeros(1, 2, 100, 200)
        x[0, 0, 0, :2], x[0, 1, 0, :3] = 9.0, -9.0
        self.assertTrue(torch.equal(calibrate.extremes(x), torch.tensor([[0.0, -9.0], [0.0, 0.0]])))


class Table(unittest.TestCase):
    def test_mean_and_median_are_of_each_input_alone(self):
        rows = []
        for clip, gains in (("a", (1, 10)), ("b", (2, 20)), ("c", (6, 60))):
            for name, gain in zip(evaluate.INPUTS, gains):
                row = dict(clip=clip, width=8, height=8, input=name, seconds_per_frame=0)
                row.update(lanczos_psnr=30, psnr=30 + gain, psnr_gain=gain)
                row.update(lanczos_vmaf=50, vmaf=50 + gain, vmaf_gain=gain)
                rows.append(row)
        text = evaluate.table(rows)
        self.assertIn("| **mean** | | clean | | | **+3.00** |", text)
        self.assertIn("| **median** | | clean | | | **+2.00** |", text)
        self.assertIn("| **mean** | | crf28 | | | **+30.00** |", text)
        self.assertEqual(len(text.splitlines()), 2 + 6 + 4)


@unittest.skipUnless(shutil.which("ffmpeg"), "no ffmpeg")
class Preparation(unittest.TestCase):
    def test_sizes_and_counts(self):
        with tempfile.TemporaryDirectory() as folder:
            clip = f"{folder}/clip.mkv"
            source = "testsrc2=size=101x70:rate=10:duration=1"
            make = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "ffv1", clip]
            subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
            self.assertEqual(evaluate.prepare(clip, folder, 4, 2), (96, 64, 4))
            frame = 96 * 64 * 3 // 2
            for name, size in (("original", frame), ("clean", frame // 16), ("crf28", frame // 16)):
                self.assertEqual(len(np.fromfile(f"{folder}/{name}.yuv", np.uint8)), 4 * size, name)
            for name in evaluate.INPUTS:
                self.assertEqual(len(np.fromfile(f"{folder}/{name}_lanczos.yuv", np.uint8)), 4 * frame)

    def test_no_clips_is_an_error(self):
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["evaluate.py", folder, "--gst", "identity"]
            with mock.patch.object(sys, "argv", arguments), self.assertRaises(SystemExit) as ended:
                evaluate.main()
            self.assertIn("no clips", str(ended.exception))


@unittest.skipUnless(shutil.which("gst-launch-1.0"), "no gst-launch-1.0")
class Elements(unittest.TestCase):
    def test_packed_rows_go_in_and_come_out(self):
        # Chroma rows of 3 bytes, which GStreamer itself would fill up to 4.
        w, h, count = 6, 10, 3
        frames = np.arange(count * w * h * 3 // 2, dtype=np.uint32).astype(np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            frames.tofile(f"{folder}/small.yuv")
            enhance = evaluate.Element("videoscale method=nearest-neighbour")
            enhance(f"{folder}/small.yuv", 4 * w, 4 * h, count, f"{folder}/large.yuv")
            large = np.fromfile(f"{folder}/large.yuv", np.uint8).reshape(count, -1)
        small = frames.reshape(count, -1)
        luma = large[:, : 16 * w * h].reshape(count, 4 * h, 4 * w)
        self.assertTrue((luma[:, ::4, ::4] == small[:, : w * h].reshape(count, h, w)).all())
        blue = large[:, 16 * w * h : 20 * w * h].reshape(count, 2 * h, 2 * w)
        self.assertTrue((blue[:, ::4, ::4] == small[:, w * h : w * h * 5 // 4].reshape(count, h // 2, w // 2)).all())


if __name__ == "__main__":
    unittest.main()
