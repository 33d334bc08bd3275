# SPDX-License-Identifier: MPL-2.0
"""Colour and motion of what moves in a clip, by arithmetic alone.

The median over time is the still background; what differs from it in a frame is what moves. The way of its centre is the motion, the median of its pixels the colour.
What stands still has no such pixels: then the motion is "staying" and the colour is not told.
"""

import cv2
import numpy as np

from . import world


def _moving(frame, still):
    """The largest patch that differs from the background, as a mask, or None."""
    difference = np.abs(frame.astype(np.int16) - still).max(2)
    mask = cv2.morphologyEx((difference > 36).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return None
    best = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return labels == best if stats[best, cv2.CC_STAT_AREA] > 300 else None


def _named(rgb):
    """The world's colour of the nearest hue."""
    def lab(values):
        return cv2.cvtColor(np.uint8([values]), cv2.COLOR_RGB2LAB).astype(np.float32)[0, :, 1:] - 128

    def angle(ab):
        return np.arctan2(ab[:, 1], ab[:, 0])

    names = list(world.COLOURS)
    apart = np.abs(np.angle(np.exp(1j * (angle(lab([world.COLOURS[n] for n in names])) - angle(lab([rgb]))))))
    return names[int(apart.argmin())]


def measure(clip):
    """`(motion, colour)` of `[frames, height, width, 3]` bytes; a colour of None is not told."""
    still = np.median(clip[:: max(1, len(clip) // 24)], 0).astype(np.int16)
    masks = [_moving(frame, still) for frame in clip]
    third = len(clip) // 3
    centres = [[np.argwhere(m).mean(0) for m in part if m is not None] for part in (masks[:third], masks[-third:])]
    pixels = [clip[i][m] for i, m in enumerate(masks) if m is not None]
    colour = None
    if pixels:
        pixels = np.concatenate(pixels)
        spread = pixels.max(1).astype(int) - pixels.min(1)
        vivid = pixels[spread >= np.percentile(spread, 50)]
        colour = _named(np.median(vivid, 0))
    if all(len(c) >= max(1, third // 3) for c in centres):
        dy, dx = np.mean(centres[1], 0) - np.mean(centres[0], 0)
        if max(abs(dx), abs(dy)) > 40:
            sideways = abs(dx) > abs(dy)
            way = ("left", "right") if sideways else ("up", "down")
            return way[int((dx if sideways else dy) > 0)], colour
    area = np.mean([0 if m is None else m.sum() for m in masks[-third:]])
    return ("growing", colour) if area > 2200 else ("staying", None)
