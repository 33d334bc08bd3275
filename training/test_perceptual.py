# SPDX-License-Identifier: MPL-2.0
"""Distances of looks on pictures whose looks are known."""

import math
import unittest

import torch
import torch.nn.functional as F

import losses

try:
    import perceptual
except ImportError:
    perceptual = None


def grass(seed, blur=0):
    """Thin upright strokes [1, 1, 128, 128] in model units."""
    generator = torch.Generator().manual_seed(seed)
    picture = F.avg_pool2d(torch.randn(1, 1, 142, 128, generator=generator), (15, 1), 1)
    for _ in range(blur):
        picture = F.avg_pool2d(picture, 3, 1, 1)
    return 2 * picture.clamp(-0.5, 0.5)


@unittest.skipUnless(perceptual, "needs efficientnet-lite-pytorch")
class Perceptual(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.features = perceptual.Features()

    def test_maps_have_the_sizes_they_say(self):
        maps = self.features(torch.zeros(2, 1, 64, 96))
        for x, channels, stride in zip(maps, perceptual.CHANNELS, perceptual.STRIDES, strict=True):
            self.assertEqual(x.shape, (2, channels, 64 // stride, 96 // stride))

    def test_folding_the_norms_changes_nothing(self):
        net = perceptual.pretrained()
        luma = grass(1)
        with torch.no_grad():
            whole = net._swish(net._bn0(net._conv_stem(luma.expand(-1, 3, -1, -1))))
            torch.testing.assert_close(self.features(luma)[0], whole, rtol=0, atol=1e-4)
            for block in net._blocks[:5]:
                whole = block(whole)
            wide = net._blocks[5]
            whole = wide._swish(wide._bn0(wide._expand_conv(whole)))
            torch.testing.assert_close(self.features(luma)[-1], whole, rtol=0, atol=1e-3)

    def test_other_blades_of_the_same_grass_are_nearer_than_blurred_ones(self):
        truth, other, blurred = (self.features(x) for x in (grass(1), grass(2), grass(1, blur=3)))
        self.assertEqual(perceptual.texture_distance(truth, truth).item(), 0)
        self.assertEqual(perceptual.distance(truth, truth).item(), 0)
        self.assertLess(perceptual.texture_distance(other, truth), 0.5 * perceptual.texture_distance(blurred, truth))

    def test_scores_of_truth_are_asked_to_be_higher(self):
        high, low = [torch.full((1, 1, 4, 4), 3.0)], [torch.full((1, 1, 4, 4), -3.0)]
        self.assertLess(perceptual.preferred(high, low), 0.01)
        self.assertGreater(perceptual.preferred(low, high), 5)

    def test_a_discriminator_takes_every_map(self):
        maps = self.features(grass(1))
        scores = perceptual.Discriminator()(maps, maps)
        self.assertEqual([s.shape[1] for s in scores], [1, 1, 1])


class Grid(unittest.TestCase):
    def test_a_grid_is_found_and_noise_as_strong_is_not(self):
        truth = torch.zeros(1, 1, 256, 256)
        grid = torch.zeros(1, 1, 256, 256)
        grid[..., ::4, ::4] = 0.1
        noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(1)) * grid.std()
        self.assertEqual(losses.grid_distance(truth, truth), 0)
        self.assertGreater(losses.grid_distance(grid, truth), 2 * losses.grid_distance(noise, truth))


class Spectrum(unittest.TestCase):
    @staticmethod
    def grain(seed):
        return 0.1 * torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(seed))

    def test_it_is_the_variance_of_white_noise_at_each_frequency(self):
        power = losses.log_spectrum(self.grain(1)).mean((2, 3)).view(16, 9)[2:-2, 2:-2]
        # The logarithm of a power that is distributed as an exponential is Euler's constant less than its mean's.
        torch.testing.assert_close(power.mean().exp() * math.exp(0.5772), torch.tensor(0.01), rtol=0.05, atol=0)
        self.assertLess((power.max() - power.min()).exp(), 2)

    def test_a_pattern_of_any_period_is_found_and_other_grain_is_not(self):
        truth = self.grain(1)
        own = losses.spectral_distance(self.grain(2), truth)
        for period in (3.1, 4.0, 5.7):
            wave = torch.cos(torch.arange(256) * 2 * torch.pi / period)
            pattern = wave[:, None] * wave[None] * truth.std() * 2
            self.assertGreater(losses.spectral_distance(truth / 2 + pattern, truth), 2 * own)

    def test_a_pattern_is_found_beside_a_region_that_has_its_frequencies(self):
        truth, other = self.grain(1), self.grain(2)
        for picture in (truth, other):
            picture[..., :128] /= 8
        wave = torch.cos(torch.arange(256) * 2 * torch.pi / 5.7)
        pattern = wave[:, None] * wave[None] * truth[..., :128].std() * 2
        pattern[:, 128:] = 0
        own = losses.spectral_distance(other, truth)
        self.assertGreater(losses.spectral_distance(other + pattern, truth), 1.1 * own)


class Specks(unittest.TestCase):
    def test_specks_are_found_and_other_grain_is_not(self):
        truth, other = Spectrum.grain(1), Spectrum.grain(2)
        self.assertEqual(losses.speck_distance(truth, truth), 0)
        specks = truth / 2
        specks[..., 8::32, 8::32] += 1
        self.assertGreater(losses.speck_distance(specks, truth), 5 * losses.speck_distance(other, truth))

    def test_specks_are_no_spectrum(self):
        truth = Spectrum.grain(1)
        specks = torch.zeros_like(truth)
        specks[..., 8::32, 8::32] = truth.std() * 32
        self.assertGreater(losses.spectral_distance(specks, truth), 0.8 * losses.spectral_distance(torch.zeros_like(truth), truth))


if __name__ == "__main__":
    unittest.main()
