# SPDX-License-Identifier: MPL-2.0
"""Drawn pictures for the training set: text, line art and flat shapes.

Photographs contain little text and few hard edges, yet titles, subtitles and
user interfaces are what a viewer sees first when an upscaler rings or blurs.
"""

import glob
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = (
    "river mountain light garden window Saturday Exit 42 coffee market 1987 north PLAY menu "
    "station bridge the and of quiet blue ocean MUSEUM open 24h Settings cancel OK volume"
).split()


def fonts():
    """Paths of the TrueType fonts on this machine (may be empty)."""
    return sorted(glob.glob("/usr/share/fonts/truetype/**/*.ttf", recursive=True))


def _colour(rng):
    return tuple(rng.randrange(256) for _ in range(3))


def _gradient(rng, width, height):
    start, end = np.array(_colour(rng)), np.array(_colour(rng))
    ramp = np.linspace(0, 1, height)[:, None, None]
    rows = start * (1 - ramp) + end * ramp
    return Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))


def draw(seed, width, height, font_paths):
    """One RGB picture, drawn at twice the size and reduced so that its edges are antialiased."""
    rng = random.Random(seed)
    picture = _gradient(rng, 2 * width, 2 * height)
    canvas = ImageDraw.Draw(picture)
    for _ in range(rng.randrange(6, 26)):
        x, y = rng.randrange(2 * width), rng.randrange(2 * height)
        w, h = rng.randrange(20, width), rng.randrange(20, height)
        kind = rng.randrange(4)
        if kind == 0:
            canvas.ellipse((x - w // 2, y - h // 2, x + w // 2, y + h // 2), fill=_colour(rng))
        elif kind == 1:
            canvas.rectangle((x, y, x + w, y + h), fill=_colour(rng), outline=_colour(rng), width=rng.randrange(1, 9))
        elif kind == 2:
            points = [(x + rng.randrange(-w, w), y + rng.randrange(-h, h)) for _ in range(rng.randrange(3, 7))]
            canvas.polygon(points, fill=_colour(rng))
        else:
            for step in range(rng.randrange(3, 30)):
                gap = rng.randrange(6, 24)
                canvas.line((x + step * gap, y, x + step * gap + w // 4, y + h), fill=_colour(rng), width=rng.randrange(1, 7))
    if font_paths:
        for _ in range(rng.randrange(4, 30)):
            size = rng.choice((14, 18, 24, 32, 40, 56, 80, 120))
            font = ImageFont.truetype(rng.choice(font_paths), size)
            text = " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 7)))
            place = (rng.randrange(-100, 2 * width), rng.randrange(2 * height))
            stroke = rng.choice((0, 0, 2, 4))
            canvas.text(place, text, font=font, fill=_colour(rng), stroke_width=stroke, stroke_fill=_colour(rng))
    return picture.resize((width, height), Image.Resampling.LANCZOS)
