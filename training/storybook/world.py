# SPDX-License-Identifier: MPL-2.0
"""What there is in the storybook world, and how a scene is put together.

A scene is an object of one colour that moves in a place at a time of day. Everything else about it (where clouds stand, how large the object is)
comes from the scene's seed.
"""

import dataclasses
import math
import random

WIDTH, HEIGHT = 480, 288
"""Size of a drawn frame; the middle 270 rows of it are shown."""
FRAMES, FPS = 49, 8

COLOURS = {
    "red": (222, 38, 38),
    "orange": (250, 132, 20),
    "yellow": (252, 220, 40),
    "green": (52, 176, 62),
    "blue": (40, 96, 226),
    "purple": (138, 60, 196),
    "pink": (250, 122, 186),
}
OBJECTS = ("ball", "balloon", "boat", "bird", "fish", "car", "kite", "star", "butterfly")
MOTIONS = ("left", "right", "up", "down", "growing", "staying")
PLACES = ("meadow", "sea", "desert", "mountains", "city", "forest", "sky", "underwater")
TIMES = ("day", "sunset", "night", "rain")
ATTRIBUTES = {"object": OBJECTS, "colour": tuple(COLOURS), "motion": MOTIONS, "place": PLACES, "time": TIMES}


@dataclasses.dataclass(frozen=True)
class Scene:
    """What a clip shows."""

    object: str
    colour: str
    motion: str
    place: str
    time: str
    seed: int

    def __post_init__(self):
        for name, values in ATTRIBUTES.items():
            assert getattr(self, name) in values, (name, getattr(self, name))

    def path(self):
        """The function from a frame's number to the object's (x, y, radius), in pixels."""
        draw = random.Random(f"path {self.seed}")
        radius = draw.uniform(40, 54)
        x, y = WIDTH / 2 + draw.uniform(-60, 60), HEIGHT / 2 + draw.uniform(-30, 24)
        phase = draw.uniform(0, 2 * math.pi)
        sway = draw.uniform(2, 5)
        side = WIDTH / 2 - 62
        if self.motion in ("left", "right"):
            way = -1 if self.motion == "left" else 1
            x, reach = WIDTH / 2 - way * side * draw.uniform(0.85, 1), 2 * side * draw.uniform(0.85, 1)
            return lambda f: (x + way * reach * f / 48, y + sway * math.sin(phase + f / 5), radius)
        if self.motion in ("up", "down"):
            way = -1 if self.motion == "up" else 1
            radius *= 0.88
            top = HEIGHT / 2 - 62
            y, reach = HEIGHT / 2 - way * top * draw.uniform(0.9, 1), 2 * top * draw.uniform(0.9, 1)
            x = WIDTH / 2 + draw.uniform(-120, 120)
            return lambda f: (x + sway * math.sin(phase + f / 5), y + way * reach * f / 48, radius)
        if self.motion == "growing":
            start, end = draw.uniform(20, 26), draw.uniform(76, 92)
            return lambda f: (x, y, start * (end / start) ** (f / 48))
        return lambda f: (x + 1.5 * math.sin(phase + f / 7), y + sway * math.sin(phase + f / 5), radius)


def natural_time(place, time):
    """The time at which a place is shown: the starry sky is there at night only."""
    return "night" if place == "sky" else time


def held_out(object, colour, place):
    """Whether the combination is kept from training, to be tested on: about one in nine."""
    a, b, c = OBJECTS.index(object), tuple(COLOURS).index(colour), PLACES.index(place)
    return (2 * a + 5 * b + 4 * c) % 9 == 0


def sample(seed, test=False):
    """A random scene: of the combinations that are held out, or of the others."""
    draw = random.Random(f"scene {seed}")
    while True:
        object, colour, place = draw.choice(OBJECTS), draw.choice(tuple(COLOURS)), draw.choice(PLACES)
        if held_out(object, colour, place) == test:
            break
    time = natural_time(place, draw.choice(TIMES))
    return Scene(object, colour, draw.choice(MOTIONS), place, time, seed)
