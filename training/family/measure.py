# SPDX-License-Identifier: MPL-2.0
"""Blind measures of a small frame's noise and sharpness, which the network is told.

They need no truth and little time: three numbers of a whole frame, where a convolution sees only its neighbourhood and takes a lawn for noise.
"""

import numpy as np

TILE = 16


def _tiles(values):
    """Mean of each whole TILE x TILE square of [h, w], of smaller ones where there is no room."""
    tile = min(TILE, *values.shape)
    h, w = (n // tile * tile for n in values.shape)
    return values[:h, :w].reshape(h // tile, tile, w // tile, tile).mean((1, 3))


def fine_noise(luma):
    """Standard deviation, in codes, of white noise in the calmest fifth of the tiles (Immerkaer 1996, Fast noise variance estimation)."""
    y = luma.astype(np.float32)
    d = y[:-2] - 2 * y[1:-1] + y[2:]
    d = d[:, :-2] - 2 * d[:, 1:-1] + d[:, 2:]
    return float(np.quantile(_tiles(np.abs(d)), 0.2) * np.sqrt(np.pi / 2) / 6)


def temporal_noise(luma, previous):
    """Standard deviation, in codes, of what changed since the previous frame in the calmest fifth of the tiles, once for each of both frames."""
    if previous is None:
        return 0.0
    change = np.abs(luma.astype(np.float32) - previous)
    return float(np.quantile(_tiles(change), 0.2) * np.sqrt(np.pi / 2) / np.sqrt(2))


def sharpness(luma):
    """Share of the change over three gaps between pixels that lies in one, at the strongest hundredth of the places: 1 for hard edges, 1/3 for slopes."""
    y = luma.astype(np.float32)
    shares = []
    for z in (y, y.T):
        gaps = np.abs(np.diff(z, axis=1))
        wide = np.abs(z[:, 3:] - z[:, :-3])
        strongest = wide >= max(np.quantile(wide, 0.99), 1)
        if strongest.any():
            most = np.maximum(np.maximum(gaps[:, :-2], gaps[:, 1:-1]), gaps[:, 2:])
            shares.append(np.minimum(most[strongest] / wide[strongest], 1).mean())
    return float(np.mean(shares)) if shares else 1.0


def measures(luma, previous):
    """The three numbers in the network's units: both noises over 8 codes, sharpness about 0 to 1."""
    return [min(fine_noise(luma) / 8, 2.0), min(temporal_noise(luma, previous) / 8, 2.0), (sharpness(luma) - 1 / 3) * 2]
