# SPDX-License-Identifier: MPL-2.0
"""Losses on pictures in model units."""

import math

import torch
import torch.nn.functional as F


def charbonnier(difference, softness=1e-3):
    """Mean of sqrt(d^2 + softness^2): absolute error, smooth at zero. With a softness above the errors it is their square, which asks for the mean of
    what may be true instead of the middle."""
    return torch.sqrt(difference**2 + softness**2).mean()


def _oriented_bank(size=7, wavelengths=(3.0, 6.0), orientations=4):
    """[2 * wavelengths * orientations, 1, size, size] even and odd Gabor filters without a constant part."""
    grid = torch.arange(size) - size // 2
    y, x = torch.meshgrid(grid.float(), grid.float(), indexing="ij")
    bank = []
    for wavelength in wavelengths:
        window = torch.exp(-(x**2 + y**2) / (2 * (0.45 * wavelength) ** 2))
        for k in range(orientations):
            angle = math.pi * k / orientations
            phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength
            for wave in (torch.cos(phase), torch.sin(phase)):
                kernel = window * wave
                kernel = kernel - window * (kernel.sum() / window.sum())
                bank.append(kernel / kernel.norm())
    return torch.stack(bank)[:, None]


def grid_distance(picture, truth, factor=4, window=8):
    """Distance between the patterns that repeat every `factor` pixels.

    A network that gives each pixel of the small picture `factor` x `factor` of the large one can make busyness cheaply, as the same pattern
    in each of them. In the mean over neighbourhoods of `window` such blocks nothing but that, and the slow changes, remains.
    """
    phases = F.pixel_unshuffle(picture - truth, factor)
    return F.avg_pool2d(phases, window, window // 2).abs().mean()


def log_spectrum(picture, window=16, region=9, floor=1e-5):
    """[n, window * (window / 2 + 1), rows, columns] mean logarithm of the power of each frequency in `region` x `region` neighbouring windows
    of [n, 1, h, w].

    Windows overlap by half, regions by about as much: 9 of 16 pixels cover 80. `floor` is about the power of rounding to codes.
    """
    patches = picture[:, 0].unfold(1, window, window // 2).unfold(2, window, window // 2)
    hann = torch.hann_window(window, periodic=False, device=picture.device)
    taper = hann[:, None] * hann[None]
    patches = (patches - patches.mean((3, 4), keepdim=True)) * (taper / taper.norm())
    power = torch.fft.rfft2(patches).abs().square().flatten(3)
    return F.avg_pool2d(torch.log(power + floor).permute(0, 3, 1, 2), region, (region + 1) // 2)


def spectral_distance(picture, truth):
    """Distance between the logarithms of two pictures' spectra.

    A pattern that repeats gives a few frequencies what all of them should have, whatever its period; the logarithm asks for each.
    In regions, since the frequencies that a lawn lacks may be strong in the hedge behind it. Of the logarithms the mean is taken, not of
    the powers: there a few bright specks, whose spectrum is flat, would do for the whole region.
    """
    return (log_spectrum(picture) - log_spectrum(truth)).abs().mean()


def speck_distance(picture, truth, window=9):
    """By how much the sharpest points of a neighbourhood are sharper than any of the truth's in one half as large again."""
    sharpness = lambda x: (x - F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)).abs()
    strongest = lambda x, size: F.max_pool2d(sharpness(x), size, window // 2, size // 2)
    return F.relu(strongest(picture, window) - strongest(truth, window + window // 2 // 2 * 2)).mean()


class TextureEnergy:
    """Distance between the local energies of two pictures in bands of scale and orientation.

    A mean-error loss answers an unpredictable texture with blur. This one asks for as much of each band as the
    truth has in each neighbourhood of `window` pixels, and leaves its phase free, for the noise to choose.
    """

    def __init__(self, window=12):
        self.bank = _oriented_bank()
        self.window = window

    def energies(self, picture):
        self.bank = self.bank.to(picture)
        bands = F.conv2d(picture, self.bank) ** 2
        n, c, h, w = bands.shape
        pairs = bands.view(n, c // 2, 2, h, w).sum(2)
        return torch.sqrt(F.avg_pool2d(pairs, self.window, self.window // 2) + 1e-5)

    def __call__(self, picture, truth):
        with torch.no_grad():
            wanted = self.energies(truth)
        return (self.energies(picture) - wanted).abs().mean()
