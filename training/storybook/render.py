# SPDX-License-Identifier: MPL-2.0
"""Scenes to frames.

    python -m storybook.render OUT.png [--seed N] [--rows K]

draws a sheet of random scenes to look at.
"""

import argparse

import numpy as np
import skia

from . import captions, objects, places, world
from .paint import lit


class Renderer:
    """Draws frames of one size, 480x288 unless told otherwise."""

    def __init__(self, width=world.WIDTH, height=world.HEIGHT):
        self.pixels = np.zeros((height, width, 4), np.uint8)
        self.surface = skia.Surface(self.pixels)
        self.scale = width / world.WIDTH, height / world.HEIGHT

    def frame(self, scene, number, with_object=True):
        """Frame `number` of a scene: `[height, width, 3]` bytes, RGB."""
        with self.surface as canvas:
            canvas.resetMatrix()
            canvas.scale(*self.scale)
            seconds = number / world.FPS
            places.behind(canvas, scene, seconds)
            if with_object:
                self._object(canvas, scene, number)
            places.before(canvas, scene, seconds)
        # Skia's native order is BGRA on little-endian machines.
        order = [2, 1, 0] if skia.kN32_ColorType == skia.kBGRA_8888_ColorType else [0, 1, 2]
        return self.pixels[..., order].copy()

    def _object(self, canvas, scene, number):
        x, y, radius = scene.path()(number)
        # The object stays bright enough at night for its colour to be told.
        colour = lit(world.COLOURS[scene.colour], scene.time, 0.15)
        canvas.save()
        canvas.translate(x, y)
        if scene.motion == "left" and scene.object not in ("ball", "balloon", "kite", "star", "butterfly"):
            canvas.scale(-1, 1)
        objects.DRAW[scene.object](canvas, radius, colour, 0.75 * number)
        canvas.restore()

    def clip(self, scene, frames=world.FRAMES):
        """The first frames of a scene, `[frames, height, width, 3]`."""
        return np.stack([self.frame(scene, number) for number in range(frames)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=9)
    arguments = parser.parse_args()
    renderer = Renderer()
    rows = []
    for row in range(arguments.rows):
        scene = world.sample(arguments.seed + row)
        print(captions.caption(scene, arguments.seed + row)[0])
        rows.append(np.concatenate([renderer.frame(scene, number) for number in (0, 16, 32, 48)], 1))
    skia.Image.fromarray(np.concatenate([np.concatenate(rows), np.full((288 * len(rows), 1920, 1), 255, np.uint8)], 2),
                         colorType=skia.kRGBA_8888_ColorType).save(arguments.out)


if __name__ == "__main__":
    main()
