# SPDX-License-Identifier: MPL-2.0
"""Other looks of the same scenes, to train adapters on."""

import cv2
import numpy as np

PAPER = np.array((250, 243, 228), np.float32)


def watercolour(clip):
    """Washed colours on paper: flat areas, darker where they meet, lighter in broad blots that stay where they are."""
    height, width = clip.shape[1:3]
    blots = np.random.default_rng(4).normal(size=(height // 24, width // 24)).astype(np.float32)
    blots = 1 + 0.10 * cv2.resize(blots, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    out = []
    for frame in clip:
        flat = cv2.bilateralFilter(cv2.GaussianBlur(frame, (0, 0), 1.0), 7, 40, 5).astype(np.float32)
        grey = cv2.cvtColor(flat.astype(np.uint8), cv2.COLOR_RGB2GRAY)
        edge = cv2.GaussianBlur(cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).astype(np.float32), (0, 0), 1.2)
        wash = PAPER - (PAPER - flat) * 0.62 * blots
        out.append(np.clip(wash - 0.55 * edge[..., None], 0, 255).astype(np.uint8))
    return np.stack(out)


STYLES = {"watercolour": watercolour}
