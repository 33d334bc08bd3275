"""Losses on pictures in model units."""

import math

import torch
import torch.nn.functional as F


def charbonnier(difference):
    """Mean of sqrt(d^2 + 0.001^2): absolute error, smooth at zero."""
    return torch.sqrt(difference**2 + 1e-6).mean()


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


def spectrum(picture, window=32):
    """[n, window, window / 2 + 1] mean power of each frequency over the neighbourhoods of `window` pixels in each of [n, 1, h, w]."""
    patches = picture[:, 0].unfold(1, window, window // 2).unfold(2, window, window // 2).flatten(1, 2)
    hann = torch.hann_window(window, periodic=False)
    taper = hann[:, None] * hann[None]
    patches = (patches - patches.mean((2, 3), keepdim=True)) * (taper / taper.norm())
    return torch.fft.rfft2(patches).abs().square().mean(1)


def spectral_distance(picture, truth, floor=1e-5):
    """Distance between the logarithms of two pictures' spectra.

    A pattern that repeats gives a few frequencies what all of them should have, whatever its period; the logarithm asks for each.
    `floor` is about the power of rounding to codes.
    """
    return (torch.log(spectrum(picture) + floor) - torch.log(spectrum(truth) + floor)).abs().mean()


class TextureEnergy:
    """Distance between the local energies of two pictures in bands of scale and orientation.

    A mean-error loss answers an unpredictable texture with blur. This one asks for as much of each band as the
    truth has in each neighbourhood of `window` pixels, and leaves its phase free, for the noise to choose.
    """

    def __init__(self, window=12):
        self.bank = _oriented_bank()
        self.window = window

    def energies(self, picture):
        bands = F.conv2d(picture, self.bank.to(picture)) ** 2
        n, c, h, w = bands.shape
        pairs = bands.view(n, c // 2, 2, h, w).sum(2)
        return torch.sqrt(F.avg_pool2d(pairs, self.window, self.window // 2) + 1e-5)

    def __call__(self, picture, truth):
        with torch.no_grad():
            wanted = self.energies(truth)
        return (self.energies(picture) - wanted).abs().mean()
