# SPDX-License-Identifier: MPL-2.0
"""The family of factors 1, 2 and 4: geometry of its latents, its memory, its data and its files."""

import json
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import model as compact
from family import data, export, measure, model

try:
    import cv2

    from family import degrade, evaluate, noise, prepare
except ImportError:
    cv2 = None


def slope(h, w, scale, siting_x, siting_y=0.5):
    """A plane over the picture in units of luma pixels of the factor 1, [1, 1, h, w]; `scale` such pixels for a sample."""
    x, y = (torch.arange(w) + siting_x) * scale, (torch.arange(h) + siting_y) * scale
    return (0.003 * x + 0.002 * y[:, None])[None, None]


def net(**changes):
    torch.manual_seed(5)
    made = model.Family(**(dict(channels=16, layers=4) | changes))
    # The tail starts at zero; what it reads would not be seen.
    torch.nn.init.normal_(made.tail.weight, std=0.05)
    torch.nn.init.normal_(made.film.weight, std=0.05)
    return made.eval()


class Geometry(unittest.TestCase):
    def test_latent_and_planes_are_inverse(self):
        y, c = torch.randn(2, 1, 16, 24), torch.randn(2, 2, 8, 12)
        x = model.latent(y, c)
        self.assertEqual(x.shape, (2, model.LATENT, 4, 6))
        self.assertTrue(all(torch.equal(a, b) for a, b in zip(model.planes(x), (y, c))))

    def test_enlarged_slopes_stay_where_they_are(self):
        for factor in model.SCALES:
            # Chroma samples are two luma pixels wide; the siting says where in that width they lie.
            for siting, width in ((0.5, 1), (0.25, 2), (0.5, 2)):
                small = slope(12, 16, factor * width, siting)
                large = slope(12 * factor, 16 * factor, width, siting)
                inner = (..., slice(2 * factor, -2 * factor), slice(2 * factor, -2 * factor))
                torch.testing.assert_close(model.enlarge(small, factor, siting)[inner], large[inner], rtol=0, atol=1e-6)

    def test_the_plain_luma_is_that_of_the_family_before(self):
        y, c = torch.randn(2, 1, 8, 10), torch.randn(2, 2, 4, 5)
        torch.testing.assert_close(model.plain(y, c, 4)[:, : model.LUMA], compact.reference_latent(y))
        large = model.plain(torch.randn(1, 1, 8, 8), torch.randn(1, 2, 4, 4), 1)
        self.assertEqual(large.shape, (1, model.LATENT, 2, 2))

    def test_small_pictures_lie_on_the_grid(self):
        for factor in model.SCALES:
            side = model.BLOCK // factor
            y, c = torch.randn(1, 3, 6 * side, 8 * side), torch.randn(1, 2, 3 * side, 4 * side)
            small = model.small_picture(y, c, factor)
            self.assertEqual(small.shape, (1, model.small_channels(factor, 3), 6, 8))
            self.assertTrue(torch.equal(torch.nn.functional.pixel_shuffle(small[:, : 3 * side**2], side), y))

    def test_chroma_of_factor_four_is_interpolated_to_the_places_of_luma(self):
        c = slope(12, 16, 2, 0.25).expand(1, 2, 12, 16)
        small = model.small_picture(torch.zeros(1, 1, 24, 32), c, 4)
        torch.testing.assert_close(small[:, 1:, 4:-4, 4:-4], slope(24, 32, 1, 0.5).expand(1, 2, 24, 32)[..., 4:-4, 4:-4], rtol=0, atol=1e-6)


class Network(unittest.TestCase):
    def test_costs_no_more_than_the_models_before(self):
        for factor in model.SCALES:
            self.assertLessEqual(model.Family().macs_per_pixel(factor), 28_908)
            live = model.Family(32, 2, residual=False, frames=1, state=0, echo=False)
            self.assertLessEqual(live.macs_per_pixel(factor), 2_322)

    def test_starts_as_the_plain_enlargement(self):
        y, c = torch.randn(3, 1, 8, 12), torch.randn(3, 2, 4, 6)
        untrained = model.Family(16, 2)
        ours = model.enhance(untrained, y, c, 2, [model.condition(2)] * 3)
        plain = model.planes(model.plain(y, c, 2))
        self.assertTrue(all(torch.equal(a, b) for a, b in zip(ours, plain)))

    def test_groups_give_what_each_gives_alone(self):
        own, groups, states = net(), [], []
        for factor in model.SCALES:
            side = model.BLOCK // factor
            y, c = torch.randn(2, 3, 6 * side, 8 * side), torch.randn(2, 2, 3 * side, 4 * side)
            q = torch.tensor([model.condition(factor), model.condition(factor, measures=[0.5, 0.25, 1.0])])
            groups.append((factor, model.plain(y[:, 1:2], c, factor), model.small_picture(y, c, factor), q))
            states.append(torch.rand(2, 16, 6, 8) - 0.5)
        with torch.no_grad():
            together = own(groups, torch.cat(states))
            alone = [own([g], s) for g, s in zip(groups, states)]
        for index in range(2):
            torch.testing.assert_close(together[index], torch.cat([a[index] for a in alone]), rtol=0, atol=1e-5)

    def test_it_remembers_within_bounds_and_only_with_a_memory(self):
        y, c = torch.randn(6, 1, 8, 8), torch.randn(6, 2, 4, 4)
        changed = y.clone()
        changed[0] += 1
        for state, differs in ((16, True), (0, False)):
            own = net(state=state)
            run = lambda frames: model.enhance(own, frames, c, 4, [model.condition(4)] * 6)[0]
            # The sixth frame's window of three does not reach the first.
            self.assertEqual(not torch.equal(run(y)[5], run(changed)[5]), differs)
        own = net()
        state = own.first_state(1, 8, 8)
        for _ in range(30):
            x, small = 50 * torch.randn(1, model.LATENT, 8, 8), torch.randn(1, model.small_channels(4, 3), 8, 8)
            with torch.no_grad():
                _, state = own([(4, x, small, torch.tensor([model.condition(4)]))], state)
        self.assertLessEqual(state.abs().max().item(), 1)

    def test_the_condition_is_read(self):
        own = net()
        y, c = torch.randn(1, 1, 8, 8), torch.randn(1, 2, 4, 4)
        results = [model.enhance(own, y, c, 4, [q])[0] for q in (model.condition(4), model.condition(4, keep=1.0), model.condition(4, measures=[0, 0, 0.5]))]
        self.assertFalse(torch.equal(results[0], results[1]))
        self.assertFalse(torch.equal(results[0], results[2]))


class Files(unittest.TestCase):
    def test_an_exported_network_is_the_run_s(self):
        for residual in (True, False):
            with self.subTest(residual=residual), tempfile.TemporaryDirectory() as folder:
                own = net(residual=residual)
                state = {k: v.half().float() for k, v in own.state_dict().items()}
                torch.save(dict(average=state, config=own.config), f"{folder}/state.pt")
                out = f"{folder}/out.safetensors"
                subprocess.run([sys.executable, "-m", "family.export", folder, out, "--fixture", f"{folder}/fixture.safetensors"], check=True)
                loaded = export.load(out)
                self.assertEqual(loaded.config, own.config)
                for name, tensor in loaded.state_dict().items():
                    # A chain's kernels are rounded with their identity inside.
                    torch.testing.assert_close(tensor, state[name], rtol=0, atol=0 if residual else 1e-3)
                fixture = export.fixture(loaded)
                stored = export.load_file(f"{folder}/fixture.safetensors")
                self.assertEqual(set(fixture), set(stored))
                torch.testing.assert_close(stored["x2.2.velocity"], fixture["x2.2.velocity"])
                self.assertGreater(stored["x1.1.state"].abs().max().item(), 0)

    def test_starts_from_the_model_before(self):
        path = Path(__file__).parent.parent / "models/builtin.safetensors"
        own = model.Family()
        export.initialise(own, str(path))
        before = export.compact.load_exported(str(path), export.compact.start_from(str(path))[1])
        for index in range(10):
            self.assertTrue(torch.equal(own.body[index].weight, before.body[index].weight))
        self.assertTrue(torch.equal(own.tail.weight[:16], before.tail.weight))
        self.assertEqual(own.tail.weight[16:].abs().max().item(), 0)
        with self.assertRaises(SystemExit):
            export.initialise(model.Family(32, 4), str(path))


    def test_the_milestone_can_be_gone_on_from(self):
        path = str(Path(__file__).parent / "milestone-family.safetensors")
        own = model.Family()
        export.initialise(own, path)
        self.assertTrue(torch.equal(own.tail.weight, export.load(path).tail.weight))
        # Plain pictures stay nearly plain: these are trained weights.
        y, c = torch.zeros(2, 1, 16, 16), torch.zeros(2, 2, 8, 8)
        ours = model.enhance(own, y, c, 4, [model.condition(4)] * 2)
        self.assertLess(max(p.abs().max().item() for p in ours), 8 / 127.5)


class Measures(unittest.TestCase):
    def test_noise_is_measured_to_a_tenth_on_a_slope(self):
        plane = 60 + 40 * np.linspace(0, 1, 200)[:, None] + 30 * np.linspace(0, 1, 320)
        generator = np.random.default_rng(3)
        for sigma in (1.0, 4.0, 10.0):
            frames = [plane + sigma * generator.standard_normal(plane.shape) for _ in range(2)]
            self.assertAlmostEqual(measure.fine_noise(frames[0]) / sigma, 1, delta=0.1)
            self.assertAlmostEqual(measure.temporal_noise(*frames) / sigma, 1, delta=0.1)
        self.assertEqual(measure.temporal_noise(plane, None), 0)
        self.assertLess(measure.fine_noise(plane), 0.01)

    def test_blur_lowers_sharpness_to_a_third(self):
        edge = np.where(np.arange(320) % 40 < 20, 40.0, 200.0) * np.ones((200, 1))
        soften = np.array([0.25, 0.5, 0.25])
        found = [edge]
        for _ in range(3):
            found.append(np.apply_along_axis(lambda row: np.convolve(np.pad(row, 1, mode="edge"), soften, "valid"), 1, found[-1]))
        values = [measure.sharpness(f) for f in found]
        self.assertEqual(values[0], 1)
        self.assertEqual(values, sorted(values, reverse=True))
        self.assertGreater(values[0] - values[-1], 0.3)
        ramp = 20 + np.arange(200.0) * np.ones((200, 1))
        self.assertAlmostEqual(measure.sharpness(ramp), 1 / 3, delta=0.01)


def write(folder, name, seed):
    """A sequence whose small pictures are its large ones' corners, so that places can be compared."""
    path = Path(folder) / "training" / name
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    y, c = rng.integers(20, 200, (8, 16, 24), dtype=np.uint8), rng.integers(20, 200, (8, 2, 8, 12), dtype=np.uint8)
    y[:, 0, 0] = np.arange(8)
    whole = lambda p, by: np.kron(p, np.ones((by, by), np.uint8))
    np.save(path / "large_y.npy", whole(y, 4))
    np.save(path / "large_c.npy", whole(c, 4))
    about = {}
    for factor in model.SCALES:
        kept = dict(y=whole(y, 4 // factor), c=whole(c, 4 // factor))
        for plane, values in kept.items():
            np.save(path / f"x{factor}_0_{plane}.npy", values)
        np.save(path / f"x{factor}_0_quiet.npy", kept["y"])
        np.save(path / f"x{factor}_0_noise.npy", np.full(kept["y"].shape, 5, np.int8))
        about[f"x{factor}_0"] = dict(kind="noisy", words="", reduced="area", measures=[[0.1 * i, 0.2, 0.3] for i in range(8)])
    (path / "about.json").write_text(json.dumps(about))


class Clips(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        write(self.folder.name, "0000_0", 1)
        write(self.folder.name, "0001_0", 2)
        self.sequences = data.Sequences(self.folder.name, 3, plain=0, dials=0)

    def test_small_and_large_crops_are_of_one_place_and_time(self):
        for factor in model.SCALES:
            for _ in range(20):
                clip = self.sequences.clip(factor, 4, 3)
                side = model.BLOCK // factor
                y, c = model.planes(clip.x1)
                size = 4 * side
                self.assertEqual((clip.y.shape, clip.c.shape), ((5, 1, size, size), (3, 2, size // 2, size // 2)))
                self.assertTrue(torch.equal(y[..., ::factor, ::factor], clip.y[1:-1]))
                self.assertTrue(torch.equal(c[..., ::factor, ::factor], clip.c))
                self.assertEqual(clip.conditions.shape, (3, model.CONDITION))

    def test_frames_follow_one_another_forwards_or_backwards(self):
        # Measures say which frame it is.
        steps = set()
        for _ in range(60):
            number = (self.sequences.clip(4, 4, 3).conditions[:, 5] * 10).round()
            if number.any():
                steps.add(tuple(number.diff().tolist()))
        self.assertEqual(steps, {(1, 1), (-1, -1)})

    def test_dials_leave_softness_and_noise(self):
        clip = self.sequences.clip(2, 4, 2)
        crop = lambda array: array[:2, :8, :8]
        folder = self.sequences.names[0]
        x1 = clip.x1
        both = self.sequences._dialled(folder, "x2_0", 2, x1, crop, 1.0, 1.0)
        quiet = model.enlarge(data.to_model(crop(data.planes(folder, "x2_0_quiet")))[:, None], 2)
        torch.testing.assert_close(model.planes(both)[0], quiet + 5 / 127.5)
        self.assertTrue(torch.equal(both[:, model.LUMA :], x1[:, model.LUMA :]))
        self.assertTrue(torch.equal(self.sequences._dialled(folder, "x2_0", 2, x1, crop, 0.0, 0.0), x1))

    def test_batches_are_seeded_and_have_cuts(self):
        again = data.Sequences(self.folder.name, 3, plain=0, dials=0)
        batches = [s.batch({4: 20, 1: 20}, 4, 4) for s in (self.sequences, again)]
        for one, other in zip(*batches):
            self.assertEqual(one[0], other[0])
            self.assertTrue(all(torch.equal(a, b) for a, b in zip(one[1:], other[1:])))
        cuts = torch.cat([g[6] for g in batches[0]])
        self.assertTrue(((cuts >= 1) & (cuts <= 4)).all())
        self.assertGreater((cuts == 4).sum().item(), 20)

    def test_flat_clips_come_out_of_the_plain_enlargement_as_they_are(self):
        self.sequences.rng.seed(4)
        for factor in model.SCALES:
            for _ in range(20):
                clip = self.sequences._flat(factor, 8, 2)
                inside = (clip.x1.abs() < 0.99).flatten(1).all()
                if inside:
                    inner = lambda x: torch.cat([p[..., 8:-8, 8:-8].flatten() for p in model.planes(x)])
                    self.assertLess((inner(clip.x0) - inner(clip.x1)).abs().max().item() * 127.5, 2.01)

    def test_scenes_are_spliced_at_the_cut(self):
        one, other = (self.sequences.clip(2, 4, 4) for _ in range(2))
        both = data.spliced(one, other, 2)
        self.assertTrue(torch.equal(both.x1, torch.cat([one.x1[:2], other.x1[2:]])))
        self.assertTrue(torch.equal(both.y[1:-1], torch.cat([one.y[1:3], other.y[3:-1]])))

    def test_what_is_finished_later_is_taken_in(self):
        write(self.folder.name, "0002_0", 4)
        write(self.folder.name, "0003_0.part", 5)
        self.sequences.refresh()
        self.assertEqual([Path(n).name for n in self.sequences.names], ["0000_0", "0001_0", "0002_0"])


class Training(unittest.TestCase):
    def test_a_run_goes_on_where_it_stopped_and_learns(self):
        with tempfile.TemporaryDirectory() as folder:
            write(folder, "0000_0", 1)
            os.rename(f"{folder}/training/0000_0", f"{folder}/0000_0")
            os.makedirs(f"{folder}/validation")
            os.rename(f"{folder}/0000_0", f"{folder}/validation/0000_0")
            write(folder, "0001_0", 2)
            command = [sys.executable, "-m", "family.train", folder, f"{folder}/run", "--channels", "16", "--layers", "2", "--patch", "4"]
            command += ["--counts", "4:2,1:1", "--length", "2", "--validate-on", "1"]
            steps = []
            for seconds in ("2", "4"):
                subprocess.run([*command, "--seconds", seconds], check=True, capture_output=True)
                steps.append(torch.load(f"{folder}/run/state.pt", weights_only=True)["step"])
            self.assertGreater(steps[0], 0)
            self.assertGreater(steps[1], steps[0])
            self.assertEqual(export.load(f"{folder}/run").config["channels"], 16)


@unittest.skipUnless(cv2, "needs av and opencv")
class Degradations(unittest.TestCase):
    def test_reduced_slopes_stay_where_they_are(self):
        for kernel in degrade.KERNELS:
            for factor in (2, 4):
                large = [slope(96, 128, 1, 0.5), *(slope(48, 64, 2, 0.25) for _ in range(2))]
                small = degrade.resize([p[0, 0].numpy() for p in large], 128 // factor, 96 // factor, kernel)
                wanted = slope(96 // factor, 128 // factor, factor, 0.5), slope(48 // factor, 64 // factor, 2 * factor, 0.25)
                for got, want in zip(small[:2], wanted):
                    np.testing.assert_allclose(got[4:-4, 4:-4], want[0, 0, 4:-4, 4:-4].numpy(), atol=1e-4)

    def frames(self, count=6, h=64, w=96):
        picture = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (h, w, 3), dtype=np.uint8), (0, 0), 2)
        return [degrade.as_float(degrade.rounded(prepare.to_planes(np.roll(picture, i, 1)))) for i in range(count)]

    def test_every_codec_gives_every_frame_back_in_order(self):
        frames = self.frames(8)
        for codec, quality in (("libx264", 12), ("libx265", 12), ("mpeg2video", 2), ("mpeg4", 2), ("mjpeg", 2)):
            with self.subTest(codec=codec):
                back = degrade.coded(frames, codec, quality)
                self.assertEqual([p.shape for p in back[0]], [p.shape for p in frames[0]])
                for index, frame in enumerate(back):
                    apart = [np.abs(frame[0] - f[0]).mean() for f in frames]
                    self.assertEqual(int(np.argmin(apart)), index)
                    self.assertLess(apart[index], 3)

    def test_every_kind_is_seeded_and_keeps_its_size(self):
        frames = self.frames()
        for kind in degrade.KINDS:
            with self.subTest(kind=kind):
                runs = [degrade.degraded(frames, random.Random(7), np.random.default_rng(7), kind) for _ in range(2)]
                worn, quiet, noisy, words = runs[0]
                self.assertEqual(len(worn), len(frames))
                self.assertTrue(all(p.dtype == np.uint8 and p.shape == q.shape for f, g in zip(worn, frames) for p, q in zip(f, g)))
                self.assertEqual(words, runs[1][3])
                # libx264's macroblock tree differs in the last bit now and then, and with it a few blocks.
                apart = [np.abs(f[0].astype(float) - g[0]).mean() for f, g in zip(worn, runs[1][0])]
                self.assertLess(max(apart), 0.3)
                self.assertEqual(noisy is not None, kind in ("camera", "noisy"))
                self.assertEqual(len(quiet), len(frames))

    def test_a_sensor_s_noise_has_its_variance_and_no_bias(self):
        grey = 2 * [(np.full((128, 192), 126, np.float32), np.full((64, 96), 128, np.float32), np.full((64, 96), 128, np.float32))]
        a, b = np.float32([1e-4, 1e-4, 1e-4]), 1e-5
        linear = float(noise.to_rgb(grey[0])[0, 0, 1])
        expected = np.sqrt(a[0] * linear + b) * linear ** (1 / noise.GAMMA - 1) / noise.GAMMA * 219
        for size in (0.5, 1, 2):
            found = noise.sensor(grey, a, b, size, np.random.default_rng(2))
            added = found[0][0] - 126
            self.assertAlmostEqual(float(added.mean()), 0, delta=0.15)
            # Of three channels, of which green is known to the demosaicing of the others no better, luma has less.
            self.assertTrue(0.5 * expected < added.std() < 1.05 * expected, (added.std(), expected))
            self.assertFalse(np.array_equal(found[0][0], found[1][0]))

    def test_combing_touches_odd_rows_alone(self):
        frames = self.frames()
        mixed = degrade.combed(frames, random.Random(2))
        for before, after in zip(frames, mixed):
            self.assertTrue(np.array_equal(before[0][::2], after[0][::2]))
        self.assertTrue(any((b[0][1::2] != a[0][1::2]).any() for b, a in zip(frames, mixed)))

    def test_photographs_are_split_as_before_and_validation_comes_first(self):
        photos = [f"p{i}" for i in range(30)]
        todo = prepare.tasks(photos, "out", 2, 0, 0.6, 0)
        held = [t[0] for t in todo if "/validation/" in t[3]]
        self.assertEqual(sorted(held), ["p17", "p29", "p5"])
        self.assertEqual([t[0] for t in todo[:3]], held)
        self.assertFalse(set(held) & {t[0] for t in todo[3:]})
        more = prepare.tasks(photos, "out", 2, 0, 0.6, 2)
        self.assertFalse({t[3] for t in more} & {t[3] for t in todo})
        self.assertFalse(any("/validation/" in t[3] for t in more))

    def test_an_enhancer_that_is_plain_measures_as_plain(self):
        plain = lambda y, c, factor, conditions: model.planes(model.plain(y, c, factor))
        older = lambda y, c, factor, frames: tuple(p[frames] for p in plain(y, c, factor, None))
        with mock.patch.multiple(prepare, WIDTH=96, HEIGHT=64):
            scene = [self.frames(1) * evaluate.FRAMES, self.frames(evaluate.FRAMES), self.frames(1) * evaluate.FRAMES]
            for name in evaluate.DAMAGE:
                for factor in (4, 1):
                    with self.subTest(name=name, factor=factor):
                        row, shown = evaluate.evaluate(scene, name, factor, plain, older)
                        gains = {k: v for k, v in row.items() if k in ("ours", "ours_c", "older", "older_c")}
                        self.assertEqual(set(gains.values()), {0})
                        for key in ("noise", "fine", "still"):
                            if key in row:
                                self.assertAlmostEqual(row[key], 1, places=5)
                        self.assertEqual("still" in row, evaluate.DAMAGE[name][0])
                        self.assertGreater(row["plain"], 15)
                        self.assertEqual(shown[-1][0].shape, (1, 64, 96))

    def test_sheets_show_grey_as_grey(self):
        grey = evaluate.to_bgr(data.to_model(np.full((1, 16, 16), 126)), data.to_model(np.full((2, 8, 8), 128)))
        self.assertEqual(set(grey.flatten().tolist()), {round(255 * 110 / 219)})


if __name__ == "__main__":
    unittest.main()
