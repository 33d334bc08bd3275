# SPDX-License-Identifier: MPL-2.0
"""Noise as sensors make it: dependent on the signal, correlated by demosaicing, resizing and the camera's own denoising.

The variance of a linear value x of a sensor's channel is a x + b.  The numbers below were fitted to the 6,555 profiles of 374 cameras in
`noiseprofiles.json` of Debian's package darktable 4.2.1-4:

    log2 a(green) = -18.07 + 0.845 log2(ISO / 100), standard deviation 1.17     a(red) = 2.2 a(green), a(blue) = 1.85 a(green)
    log2 b        =  -4.59 + 1.242 log2 a(green),   standard deviation 1.54

They are of sensors of 16 to 36 mm.  Those of phones and of surveillance and consumer video cameras have down to a thirtieth of
the area for a pixel, which raises a by as much.
"""

import cv2
import numpy as np

GAMMA = 2.2
CHANNEL = np.float32([2.2, 1.0, 1.85])


def profile(rng):
    """(a of red, green, blue, b) of a camera, sensitivity and pixel size drawn at random."""
    stops = rng.uniform(2, 8)
    a = 2 ** (-18.07 + 0.845 * stops + rng.gauss(0, 1.17)) * 2 ** rng.uniform(0, 5)
    b = 2 ** (-4.59 + 1.242 * np.log2(a) + rng.gauss(0, 1.0))
    return np.minimum(a * CHANNEL, 0.02), min(float(b), 1e-3)


def white(shape, generator):
    return generator.standard_normal(shape, dtype=np.float32)


def unit(field):
    return field / max(float(field.std()), 1e-6)


def demosaiced(h, w, generator):
    """[h, w, 3] of unit noise as bilinear interpolation of a Bayer pattern leaves it."""
    z = white((h, w), generator)
    masks = np.zeros((3, h, w), np.float32)
    masks[0, ::2, ::2] = masks[1, ::2, 1::2] = masks[1, 1::2, ::2] = masks[2, 1::2, 1::2] = 1
    cross = np.float32([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    box = np.float32([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    kernels = (box, cross, box)
    return np.stack([unit(cv2.filter2D(z * m, -1, k, borderType=cv2.BORDER_REFLECT)) for m, k in zip(masks, kernels)], 2)


def grain(h, w, size, generator):
    """[h, w, 3] of unit noise of a sensor whose pixels are `size` times as large as the picture's."""
    if size == 1:
        return demosaiced(h, w, generator)
    field = demosaiced(int(h / size / 2 + 1) * 2, int(w / size / 2 + 1) * 2, generator)
    how = cv2.INTER_AREA if size < 1 else cv2.INTER_LINEAR
    field = cv2.resize(field, (w, h), interpolation=how)
    return np.stack([unit(field[..., i]) for i in range(3)], 2)


def correlated(shape, sigma, generator):
    """Unit luma noise, blurred by `sigma` pixels (0: white)."""
    field = white(shape, generator)
    return unit(cv2.GaussianBlur(field, (0, 0), sigma)) if sigma > 0 else field


def to_rgb(frame):
    """Linear RGB [h, w, 3] in 0..1 of limited-range YCbCr planes (BT.601), chroma by nearest sample."""
    y, u, v = (p.astype(np.float32) for p in frame)
    u, v = (np.repeat(np.repeat(p, 2, 0), 2, 1) for p in (u, v))
    y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    rgb = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], 2)
    return np.clip(rgb, 0, 1) ** GAMMA


def sensor(frames, a, b, size, generator):
    """The frames (float planes) with a sensor's noise; of each frame its own.

    Only the noise goes through RGB and comes back: the picture's own planes stay exact.
    """
    out = []
    for frame in frames:
        linear = to_rgb(frame)
        h, w = linear.shape[:2]
        noisy = linear + np.sqrt(a * linear + b) * grain(h, w, size, generator)
        red, green, blue = np.moveaxis(np.clip(noisy, 0, 1) ** (1 / GAMMA) - linear ** (1 / GAMMA), 2, 0)
        dy = 0.299 * red + 0.587 * green + 0.114 * blue
        du, dv = (blue - dy) / 1.772, (red - dy) / 1.402
        reduce = lambda p: p.reshape(h // 2, 2, w // 2, 2).mean((1, 3))
        y, u, v = frame
        out.append((y + 219 * dy, u + 224 * reduce(du), v + 224 * reduce(dv)))
    return out
