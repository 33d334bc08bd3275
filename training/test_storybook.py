# SPDX-License-Identifier: MPL-2.0
"""The storybook world and its model, without any training."""

import collections
import os
import random
import tempfile
import unittest

import numpy as np
import torch

try:
    import skia  # noqa: F401
except ImportError:
    skia = None

if skia:
    from storybook import captions, repatch, styles, world
    from storybook.dit import Dit, LoraLinear, add_lora, falling, patches, pick, sample, schedule
    from storybook.render import Renderer
    from storybook.train_dit import LEARNT_FIRST, Latents, near, parse_mix, timesteps
    from storybook.vae import Vae


@unittest.skipUnless(skia, "needs skia-python")
class Storybook(unittest.TestCase):
    def test_a_scene_is_drawn_alike_each_time(self):
        scene = world.sample(7)
        first, again = Renderer().frame(scene, 11), Renderer().frame(scene, 11)
        np.testing.assert_array_equal(first, again)
        self.assertTrue((first != Renderer().frame(scene, 40)).any())

    def test_the_object_goes_where_its_motion_says(self):
        for motion, axis, way in (("left", 0, -1), ("right", 0, 1), ("up", 1, -1), ("down", 1, 1), ("growing", 2, 1)):
            for seed in range(20):
                path = world.Scene("ball", "red", motion, "sea", "day", seed).path()
                change = (path(48)[axis] - path(0)[axis]) * way
                self.assertGreater(change, 40, f"{motion} {seed}")

    def test_held_out_combinations_are_kept_apart(self):
        for seed in range(200):
            for test in (False, True):
                scene = world.sample(seed, test)
                self.assertEqual(world.held_out(scene.object, scene.colour, scene.place), test)
        combinations = [(o, c, p) for o in world.OBJECTS for c in world.COLOURS for p in world.PLACES]
        share = sum(world.held_out(*c) for c in combinations) / len(combinations)
        self.assertTrue(0.08 < share < 0.14, share)

    def test_captions_tell_what_they_say_they_tell(self):
        for seed in range(300):
            scene = world.sample(seed)
            text, said = captions.caption(scene, seed)
            self.assertTrue(text)
            self.assertNotIn("{", text)
            if said["colour"]:
                words = {w for phrase in captions.COLOUR_WORDS[said["colour"]] for w in phrase.split()}
                self.assertTrue(words & set(text.lower().replace(",", " ").replace(".", " ").replace(":", " ").split()), text)
            if said["motion"] in ("left", "right"):
                self.assertIn(said["motion"], text)

    def test_smaller_patches_keep_the_middle(self):
        coarse = Dit(**{**Dit.CONFIG, "patch": 6})
        torch.nn.init.normal_(coarse.mixins.final_layer.linear.weight)
        fine = Dit(**Dit.CONFIG)
        fine.load_state_dict(repatch.smaller(coarse.state_dict(), 6))
        torch.testing.assert_close(fine.mixins.patch_embed.proj.weight, coarse.mixins.patch_embed.proj.weight[:, :, 1:5, 1:5] * 1.5)
        # The middle of a patch comes out as before where the features are the same.
        features = torch.randn(1, 1, coarse.hidden)
        inner = fine.mixins.final_layer.linear(features).view(4, 4, 4)
        torch.testing.assert_close(inner, coarse.mixins.final_layer.linear(features).view(4, 6, 6)[:, 1:5, 1:5])

    def test_styles_keep_the_shape(self):
        clip = Renderer().clip(world.sample(3), 2)
        for style in styles.STYLES.values():
            styled = style(clip)
            self.assertEqual((styled.shape, styled.dtype), (clip.shape, clip.dtype))
            self.assertTrue((styled != clip).any())

    def test_vae_in_chunks_keeps_every_frame(self):
        torch.manual_seed(0)
        vae = Vae(**Vae.CONFIG).eval()
        with torch.no_grad():
            for frames, latents in ((1, 1), (9, 3), (25, 7)):
                mean, _ = vae.moments(torch.randn(1, 3, frames, 32, 48))
                self.assertEqual(mean.shape[2:], (latents, 4, 6))
                self.assertEqual(vae.decode(mean).shape[2:], (frames, 32, 48))

    def test_schedule_ends_in_pure_noise(self):
        for n in (8, 24, 1000):
            steps, rates = schedule(n)
            self.assertEqual((len(rates), rates[-1].item(), int(steps[-1])), (n, 0.0, 999))
            self.assertTrue((rates.diff() < 0).all())

    def test_an_exact_denoiser_is_followed_to_the_clean_latent(self):
        torch.manual_seed(0)
        clean, table = torch.randn(1, 1, 4, 6, 6), schedule()[1]

        def exact(x, t, _context):
            signal = table[t.long()].view(-1, 1, 1, 1, 1)
            noise = (x - signal * clean) / torch.sqrt(1 - signal**2)
            return signal * noise - torch.sqrt(1 - signal**2) * clean

        gauss = lambda *_: torch.randn(clean.shape)
        result = sample(exact, torch.zeros(1, 2, 8), gauss(), 24, falling(6.0), gauss)
        self.assertLess((result - clean).abs().max().item(), 0.05)

    def test_adapters_change_nothing_at_first(self):
        torch.manual_seed(0)
        net = Dit(hidden=64, heads=1, layers=2, inner=96, time=16, text=24, channels=4, patch=2).eval()
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.05)
        inputs = torch.randn(1, 2, 4, 4, 6), torch.tensor([500]), torch.randn(1, 5, 24)
        with torch.no_grad():
            before = net(*inputs)
            trained = add_lora(net, 4)
            self.assertTrue(torch.equal(before, net(*inputs)))
            for p in trained:
                torch.nn.init.normal_(p)
            self.assertFalse(torch.equal(before, net(*inputs)))
        self.assertTrue(any(isinstance(m, LoraLinear) for m in net.modules()))

    def test_all_tokens_kept_in_any_order_give_the_whole(self):
        torch.manual_seed(0)
        net = Dit(hidden=64, heads=1, layers=2, inner=96, time=16, text=24, channels=4, patch=2).eval()
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.05)
        inputs = torch.randn(2, 2, 4, 4, 6), torch.tensor([500, 3]), torch.randn(2, 5, 24)
        keep = torch.stack([torch.randperm(12), torch.randperm(12)])
        with torch.no_grad():
            whole, part = pick(patches(net(*inputs), 2), keep), net(*inputs, keep)
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)

    def test_the_kept_tokens_are_of_every_frame_and_hold_the_object(self):
        seeds, patch, columns = [1, 2, 3, 4], 6, world.WIDTH // 48
        keep = near(seeds, 13, 24, patch).view(4, 13, 24)
        for seed, frames in zip(seeds, keep.tolist()):
            path = world.sample(seed).path()
            for latent, tokens in enumerate(frames):
                self.assertEqual(len(set(tokens)), 24)
                self.assertTrue(all(token // 60 == latent for token in tokens))
                x, y, _ = path(max(0, 4 * latent - 1.5))
                self.assertIn(latent * 60 + int(y // 48) * columns + int(x // 48), tokens)

    def test_timesteps_are_spread_over_their_part_of_the_schedule(self):
        whole, kept = timesteps(1000, True), timesteps(1000, False)
        self.assertAlmostEqual((whole >= 600).float().mean().item(), 0.7, delta=0.01)
        self.assertTrue(whole.min() < 10 and 990 < whole.max() <= 999)
        self.assertTrue(kept.min() < 10 and 640 < kept.max() < 650)

    def test_what_was_learnt_first_is_taken_less_often(self):
        with tempfile.TemporaryDirectory() as folder:
            np.save(os.path.join(folder, "f1_7000.npy"), np.zeros((600, 1, 1), np.float16))
            latents = Latents(folder)
            latents.refresh()
            _, seeds = latents.batch(1, 6000, random.Random(1))
        there = collections.Counter(world.sample(7000 + i).object for i in range(600))
        taken = collections.Counter(world.sample(seed).object for seed in seeds)
        share = {name: taken[name] / count for name, count in there.items()}
        always = np.mean([part for name, part in share.items() if name not in LEARNT_FIRST])
        for name, part in share.items():
            self.assertAlmostEqual(part / always, LEARNT_FIRST.get(name, 1), delta=0.12)

    def test_a_mix_may_keep_some_tokens(self):
        self.assertEqual(parse_mix("1:48:2,13:12:0.5:20"), [(1, 48, 2.0, None), (13, 12, 0.5, 20)])


if __name__ == "__main__":
    unittest.main()
