# SPDX-License-Identifier: MPL-2.0
"""The places of the world: backgrounds in the light of a time of day, with what moves in them by itself.

A place is drawn in two calls: `behind` everything and, where it has one, `before` the object. Numbers that differ from scene to scene come from `draw`, a seeded
random.Random that is the same for all frames of a clip; `s` is the time in seconds.
"""

import math
import random

import skia

from .paint import glow, ink, lit, mix, polygon, ridge, star_path, vertical
from .world import HEIGHT, WIDTH

SKY = {
    "day": ((76, 158, 236), (196, 230, 250)),
    "sunset": ((112, 72, 150), (255, 158, 84)),
    "night": ((10, 14, 46), (38, 52, 104)),
    "rain": ((112, 122, 134), (172, 180, 186)),
}


def _sky(canvas, time, draw, s, horizon):
    top, bottom = SKY[time]
    canvas.drawRect(skia.Rect.MakeWH(WIDTH, HEIGHT), vertical(top, bottom, 0, horizon))
    x = draw.choice((0.16, 0.84)) * WIDTH + draw.uniform(-16, 16)
    if time == "day":
        canvas.drawCircle(x, 52, 70, glow(x, 52, 70, (255, 250, 200), 0.75))
        canvas.drawCircle(x, 52, 24, ink((255, 240, 130)))
    elif time == "sunset":
        y = horizon - 16
        canvas.drawCircle(x, y, 120, glow(x, y, 120, (255, 206, 110), 0.8))
        canvas.drawCircle(x, y, 32, ink((255, 224, 132)))
    elif time == "night":
        _stars(canvas, draw, s, 26, horizon * 0.8)
        canvas.drawCircle(x, 54, 60, glow(x, 54, 60, (220, 226, 255), 0.35))
        canvas.drawCircle(x, 54, 23, ink((244, 242, 214)))
        canvas.drawCircle(x + 9, 48, 20, ink(mix(*SKY["night"], 0.15)))
    shade = {"day": (255, 255, 255), "sunset": (255, 190, 160), "night": (70, 84, 134), "rain": (132, 140, 150)}[time]
    for _ in range(5 if time == "rain" else 3):
        cx, cy, size = draw.uniform(0, WIDTH + 120), draw.uniform(24, 84), draw.uniform(14, 22)
        speed = draw.uniform(3, 7)
        _cloud(canvas, (cx + speed * s) % (WIDTH + 120) - 60, cy, size, shade, 0.75 if time != "night" else 0.5)


def _cloud(canvas, x, y, size, colour, alpha):
    path = skia.Path()
    for dx, dy, r in ((-1.5, 0.2, 0.8), (-0.6, -0.35, 1.05), (0.5, -0.2, 1.15), (1.5, 0.25, 0.75)):
        path.addCircle(x + dx * size, y + dy * size, r * size)
    path.addRoundRect(skia.Rect.MakeLTRB(x - 2.2 * size, y, x + 2.2 * size, y + size), size / 2, size / 2)
    path.setFillType(skia.PathFillType.kWinding)
    canvas.drawPath(path, ink(colour, alpha))


def _stars(canvas, draw, s, count, depth):
    for _ in range(count):
        x, y, size, phase = draw.uniform(0, WIDTH), draw.uniform(4, depth), draw.uniform(0.8, 2.0), draw.uniform(0, 6)
        canvas.drawCircle(x, y, size, ink((255, 252, 226), 0.7 + 0.3 * math.sin(phase + 2 * s)))


def _hills(draw, count, level, swing):
    return [level + draw.uniform(-swing, swing) for _ in range(count)]


def meadow(canvas, time, draw, s):
    """Rolling green hills with flowers."""
    _sky(canvas, time, draw, s, 190)
    canvas.drawPath(ridge(_hills(draw, 5, 178, 16), WIDTH, HEIGHT), ink(lit((122, 190, 98), time)))
    near = ridge(_hills(draw, 4, 214, 12), WIDTH, HEIGHT)
    canvas.drawPath(near, vertical(lit((104, 190, 66), time), lit((58, 138, 46), time), 200, HEIGHT))
    for _ in range(26):
        x, y = draw.uniform(0, WIDTH), draw.uniform(232, HEIGHT - 4)
        petal = draw.choice(((255, 255, 255), (255, 226, 90), (255, 150, 180)))
        lean = 1.2 * math.sin(1.5 * s + x / 40)
        canvas.drawLine(x, y + 7, x + lean, y, ink(lit((40, 110, 40), time), width=1.4))
        canvas.drawCircle(x + lean, y, 3, ink(lit(petal, time)))


def sea(canvas, time, draw, s):
    """Waves up to the horizon."""
    _sky(canvas, time, draw, s, 170)
    base = {"day": ((60, 150, 208), (18, 82, 150)), "sunset": ((226, 130, 104), (78, 48, 104)), "night": ((26, 42, 92), (8, 14, 44)), "rain": ((104, 126, 140), (62, 80, 96))}[time]
    canvas.drawRect(skia.Rect.MakeLTRB(0, 166, WIDTH, HEIGHT), vertical(*base, 166, HEIGHT))
    phase = draw.uniform(0, 6)
    for row in range(7):
        y = 174 + row * row * 2.1 + row * 3
        size = 1 + row * 0.55
        crest = skia.Path()
        shift = (14 * s * (1 if row % 2 else -1) + 37 * row + 30 * phase) % 60
        for i in range(-1, 9):
            x = i * 60 + shift
            crest.moveTo(x, y)
            crest.quadTo(x + 12, y - 3 * size, x + 26, y)
        canvas.drawPath(crest, ink(mix(base[0], (255, 255, 255), 0.45), 0.75, width=1.2 + 0.25 * row))


def desert(canvas, time, draw, s):
    """Dunes and cactuses."""
    _sky(canvas, time, draw, s, 185)
    canvas.drawPath(ridge(_hills(draw, 4, 184, 12), WIDTH, HEIGHT), ink(lit((236, 200, 130), time)))
    canvas.drawPath(ridge(_hills(draw, 3, 206, 16), WIDTH, HEIGHT), ink(lit((226, 180, 104), time)))
    front = _hills(draw, 4, 242, 10)
    canvas.drawPath(ridge(front, WIDTH, HEIGHT), vertical(lit((214, 162, 84), time), lit((188, 132, 62), time), 232, HEIGHT))
    green = lit((64, 130, 70), time)
    for side in (0, 1):
        x, y, h = (draw.uniform(30, 90), draw.uniform(372, 450))[side], 236, draw.uniform(46, 64)
        pen = ink(green, width=h / 5)
        canvas.drawLine(x, y, x, y - h, pen)
        arm = skia.Path()
        arm.moveTo(x, y - 0.4 * h)
        arm.lineTo(x + 0.34 * h, y - 0.4 * h)
        arm.lineTo(x + 0.34 * h, y - 0.72 * h)
        arm.moveTo(x, y - 0.28 * h)
        arm.lineTo(x - 0.32 * h, y - 0.28 * h)
        arm.lineTo(x - 0.32 * h, y - 0.56 * h)
        canvas.drawPath(arm, ink(green, width=h / 7))


def mountains(canvas, time, draw, s):
    """Two ranges with snow on their peaks."""
    _sky(canvas, time, draw, s, 210)
    far = [(i * WIDTH / 5, draw.uniform(104, 132) if i % 2 else draw.uniform(164, 180)) for i in range(6)]
    canvas.drawPath(polygon([(0, HEIGHT), *far, (WIDTH, HEIGHT)]), ink(lit((150, 168, 198), time)))
    shift = draw.uniform(-24, 24)
    peaks = ((80 + shift, 96), (236 + shift, 72), (400 + shift, 88))
    for i in (0, 2, 1):
        x, y = peaks[i]
        w, foot = 150, 262
        canvas.drawPath(polygon([(x, y), (x + w, foot), (x - w, foot)]), ink(lit((98, 114, 150), time)))
        canvas.drawPath(polygon([(x, y), (x + w, foot), (x + 16, foot)]), ink(lit((76, 90, 126), time)))
        t = 0.36
        left, right = (x - w * t, y + (foot - y) * t), (x + w * t, y + (foot - y) * t)
        snow = [(x, y), right, (x + w * 0.2, y + (foot - y) * 0.3), (x + 4, y + (foot - y) * 0.42), (x - w * 0.18, y + (foot - y) * 0.29), left]
        canvas.drawPath(polygon(snow), ink(lit((250, 252, 255), time, 0.85)))
    ground = ridge(_hills(draw, 5, 250, 6), WIDTH, HEIGHT)
    canvas.drawPath(ground, vertical(lit((238, 244, 250), time, 0.9), lit((190, 206, 224), time, 0.9), 244, HEIGHT))


def city(canvas, time, draw, s):
    """A skyline with windows."""
    _sky(canvas, time, draw, s, 220)
    x = -10.0
    while x < WIDTH:
        w, top = draw.uniform(30, 52), draw.uniform(118, 176)
        canvas.drawRect(skia.Rect.MakeLTRB(x, top, x + w, HEIGHT), ink(lit((148, 160, 184), time)))
        x += w
    x = -draw.uniform(0, 30)
    bright = time in ("night", "sunset", "rain")
    while x < WIDTH:
        w, top = draw.uniform(46, 70), draw.uniform(150, 212)
        wall = draw.choice(((92, 98, 122), (112, 92, 100), (84, 108, 118)))
        canvas.drawRect(skia.Rect.MakeLTRB(x, top, x + w - 4, HEIGHT), ink(lit(wall, time)))
        for row in range(int((HEIGHT - 34 - top) // 17)):
            for column in range(int((w - 10) // 13)):
                on = draw.random() < 0.7
                pane = (255, 222, 120) if bright and on else lit((190, 214, 232), time)
                left, y = x + 6 + 13 * column, top + 8 + 17 * row
                canvas.drawRect(skia.Rect.MakeXYWH(left, y, 8, 10), ink(pane, 1.0 if on else 0.35))
        x += w
    canvas.drawRect(skia.Rect.MakeLTRB(0, HEIGHT - 26, WIDTH, HEIGHT), ink(lit((70, 72, 80), time)))
    for i in range(9):
        canvas.drawRect(skia.Rect.MakeXYWH(i * 58 + 10, HEIGHT - 15, 28, 3), ink(lit((232, 228, 206), time)))


def forest(canvas, time, draw, s):
    """Rows of fir trees, larger towards the front."""
    _sky(canvas, time, draw, s, 180)
    for row, (level, size, tone) in enumerate((((176, 56, (112, 158, 124))), (214, 84, (64, 124, 78)), (262, 108, (34, 88, 52)))):
        ground = lit(mix(tone, (20, 50, 24), 0.15), time)
        canvas.drawRect(skia.Rect.MakeLTRB(0, level - 4, WIDTH, HEIGHT), ink(ground))
        gap = size * 0.62
        x = -draw.uniform(0, gap)
        while x < WIDTH + gap:
            # In the front row trees stand at the sides only: the middle is a clearing.
            if row < 2 or abs(x - WIDTH / 2) > 130:
                h, lean = size * draw.uniform(0.85, 1.15), 1.5 * math.sin(s + x / 50)
                _fir(canvas, x, level + 8, h, lit(tone, time), lit((92, 64, 44), time), lean)
            x += gap * draw.uniform(0.85, 1.15)
    canvas.drawRect(skia.Rect.MakeLTRB(0, 266, WIDTH, HEIGHT), ink(lit((46, 92, 50), time)))


def _fir(canvas, x, y, h, green, trunk, lean):
    canvas.drawRect(skia.Rect.MakeLTRB(x - 0.05 * h, y - 0.2 * h, x + 0.05 * h, y), ink(trunk))
    for i in range(3):
        low, high, half = y - 0.14 * h - 0.26 * h * i, y - 0.14 * h - 0.26 * h * i - 0.42 * h, (0.34 - 0.07 * i) * h
        canvas.drawPath(polygon([(x - half, low), (x + half, low), (x + lean * (i + 1) / 3, high)]), ink(mix(green, (255, 255, 255), 0.05 * i)))


def sky(canvas, time, draw, s):
    """The starry sky above the earth's dark rim."""
    canvas.drawRect(skia.Rect.MakeWH(WIDTH, HEIGHT), vertical((8, 8, 34), (58, 36, 100), 0, HEIGHT))
    for _ in range(2):
        x, y = draw.uniform(60, 420), draw.uniform(60, 220)
        canvas.drawCircle(x, y, 130, glow(x, y, 130, draw.choice(((110, 70, 170), (50, 90, 170))), 0.4))
    _stars(canvas, draw, s, 60, HEIGHT)
    for _ in range(5):
        x, y, phase = draw.uniform(0, WIDTH), draw.uniform(0, HEIGHT), draw.uniform(0, 6)
        canvas.drawPath(star_path(x, y, 6 + 1.2 * math.sin(phase + 2 * s), 1.6, points=4), ink((255, 248, 214)))
    x = draw.choice((74, 406))
    canvas.drawCircle(x, 62, 84, glow(x, 62, 84, (220, 226, 255), 0.35))
    canvas.drawCircle(x, 62, 32, ink((246, 242, 214)))
    for dx, dy, r in ((-10, -6, 7), (9, 8, 9), (6, -14, 5)):
        canvas.drawCircle(x + dx, 62 + dy, r, ink((222, 216, 184)))


def underwater(canvas, time, draw, s):
    """Below the waves: light from above, weeds and bubbles over sand."""
    deep = {"day": ((70, 190, 214), (10, 74, 130)), "sunset": ((176, 132, 150), (34, 50, 104)), "night": ((22, 50, 100), (4, 12, 44)), "rain": ((88, 140, 150), (26, 66, 92))}[time]
    canvas.drawRect(skia.Rect.MakeWH(WIDTH, HEIGHT), vertical(*deep, 0, HEIGHT))
    for i in range(4):
        x = 40 + 125 * i + draw.uniform(-30, 30) + 8 * math.sin(0.7 * s + i)
        shader = skia.GradientShader.MakeLinear([(0, 0), (0, 220)], [skia.Color(255, 255, 255, 0 if time == "night" else 46), skia.Color(255, 255, 255, 0)])
        canvas.drawPath(polygon([(x, -2), (x + 36, -2), (x + 92, 220), (x - 4, 220)]), skia.Paint(AntiAlias=True, Shader=shader))
    canvas.drawPath(ridge(_hills(draw, 5, 254, 7), WIDTH, HEIGHT), vertical(lit((226, 204, 150), time, 0.8), lit((172, 146, 104), time, 0.8), 246, HEIGHT))
    for _ in range(9):
        x, h = draw.uniform(0, WIDTH), draw.uniform(34, 80)
        weed = skia.Path()
        weed.moveTo(x, 268)
        bend = 9 * math.sin(1.3 * s + x)
        weed.cubicTo(x - 10, 268 - h / 3, x + 10 + bend, 268 - 2 * h / 3, x + bend, 268 - h)
        canvas.drawPath(weed, ink(lit(draw.choice(((46, 140, 84), (70, 160, 70), (176, 84, 110))), time, 0.8), width=6))
    for _ in range(10):
        x, y, r, v = draw.uniform(0, WIDTH), draw.uniform(0, HEIGHT), draw.uniform(2, 5), draw.uniform(12, 26)
        y = (y - v * s) % (HEIGHT + 20) - 10
        canvas.drawCircle(x + 3 * math.sin(s + x), y, r, ink((235, 250, 255), 0.7, width=1.3))


def rain(canvas, draw, s):
    """Drops over the whole picture."""
    pen = ink((214, 226, 238), 0.5, width=1.5)
    for _ in range(90):
        x, y, v = draw.uniform(-30, WIDTH + 60), draw.uniform(0, HEIGHT), draw.uniform(300, 380)
        y = (y + v * s) % (HEIGHT + 40) - 20
        canvas.drawLine(x - 0.2 * y, y, x - 0.2 * y - 3, y + 14, pen)


DRAW = {f.__name__: f for f in (meadow, sea, desert, mountains, city, forest, sky, underwater)}
"""The function of each place."""


def behind(canvas, scene, s):
    """All that is behind the object."""
    DRAW[scene.place](canvas, scene.time, random.Random(f"place {scene.seed}"), s)


def before(canvas, scene, s):
    """All that is before the object."""
    if scene.time == "rain" and scene.place != "underwater":
        rain(canvas, random.Random(f"rain {scene.seed}"), s)
