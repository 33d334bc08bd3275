# SPDX-License-Identifier: MPL-2.0
"""Small helpers around Skia: colours that follow the light, gradients, paths."""

import math

import skia

# How each time of day tints what it lights: (multiplier, added light), per colour channel.
LIGHT = {
    "day": ((1.0, 1.0, 1.0), (0, 0, 0)),
    "sunset": ((0.92, 0.70, 0.62), (34, 8, 6)),
    "night": ((0.30, 0.36, 0.52), (4, 8, 22)),
    "rain": ((0.58, 0.62, 0.66), (18, 22, 26)),
}


def lit(colour, time, share=1.0):
    """`colour` in the light of `time`; `share` less than one keeps part of it as it is."""
    scale, add = LIGHT[time]
    return tuple(
        max(0, min(255, (1 - share) * c + share * (c * s + a))) for c, s, a in zip(colour, scale, add)
    )


def mix(a, b, t):
    """From `a` to `b` by `t`."""
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def ink(colour, alpha=1.0, width=None):
    """An anti-aliased paint; with `width` a line instead of a filled shape."""
    r, g, b = (round(c) for c in colour)
    paint = skia.Paint(AntiAlias=True, Color=skia.Color(r, g, b, round(255 * alpha)))
    if width:
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(width)
        paint.setStrokeCap(skia.Paint.kRound_Cap)
        paint.setStrokeJoin(skia.Paint.kRound_Join)
    return paint


def _stop(colour, alpha=1.0):
    r, g, b = (round(c) for c in colour[:3])
    return skia.Color(r, g, b, round(255 * alpha))


def vertical(top, bottom, y0, y1):
    """A paint that goes from one colour to another, downwards."""
    shader = skia.GradientShader.MakeLinear([(0, y0), (0, y1)], [_stop(top), _stop(bottom)])
    return skia.Paint(AntiAlias=True, Dither=True, Shader=shader)


def glow(x, y, radius, colour, inner=1.0, outer=0.0):
    """A paint that fades from the centre to the rim."""
    shader = skia.GradientShader.MakeRadial((x, y), radius, [_stop(colour, inner), _stop(colour, outer)])
    return skia.Paint(AntiAlias=True, Dither=True, Shader=shader)


def ball_shade(x, y, radius, colour):
    """A paint that makes a disc look round: light from the upper left."""
    bright, dark = mix(colour, (255, 255, 255), 0.38), mix(colour, (0, 0, 0), 0.18)
    shader = skia.GradientShader.MakeRadial(
        (x - 0.35 * radius, y - 0.4 * radius), 1.5 * radius, [_stop(bright), _stop(colour), _stop(dark)], [0, 0.45, 1]
    )
    return skia.Paint(AntiAlias=True, Dither=True, Shader=shader)


def polygon(points):
    """A closed path through `points`."""
    path = skia.Path()
    path.addPoly([skia.Point(x, y) for x, y in points], True)
    return path


def ridge(heights, width, bottom, smooth=True):
    """The area below a line of equally spaced heights."""
    path = skia.Path()
    step = width / (len(heights) - 1)
    path.moveTo(0, bottom)
    path.lineTo(0, heights[0])
    for i in range(1, len(heights)):
        x0, x1 = (i - 1) * step, i * step
        if smooth:
            middle = (x0 + x1) / 2
            path.cubicTo(middle, heights[i - 1], middle, heights[i], x1, heights[i])
        else:
            path.lineTo(x1, heights[i])
    path.lineTo(width, bottom)
    path.close()
    return path


def star_path(x, y, outer, inner, points=5, turn=0.0):
    """A star with its first point upwards."""
    return polygon(
        [
            (x + r * math.sin(a), y - r * math.cos(a))
            for i in range(2 * points)
            for r, a in [((outer, inner)[i % 2], turn + i * math.pi / points)]
        ]
    )
