# SPDX-License-Identifier: MPL-2.0
"""The objects of the world, each drawn around (0, 0) with a radius of about one pixel times `r`.

Every object is mostly its own colour, with a dark outline that keeps it apart from a background of the same colour. `way` is -1 when it faces left, else 1;
`beat` is a time in radians that moves wings and fins.
"""

import math

import skia

from .paint import ball_shade, ink, mix, polygon, star_path

WHITE, DARK = (255, 255, 255), (34, 30, 40)


def _edge(colour, r):
    return ink(mix(colour, (0, 0, 0), 0.5), width=max(1.4, 0.045 * r))


def _shape(canvas, path, colour, r, paint=None):
    canvas.drawPath(path, paint or ink(colour))
    canvas.drawPath(path, _edge(colour, r))


def _circle(x, y, r):
    path = skia.Path()
    path.addCircle(x, y, r)
    return path


def _oval(x, y, rx, ry):
    path = skia.Path()
    path.addOval(skia.Rect.MakeLTRB(x - rx, y - ry, x + rx, y + ry))
    return path


def _eye(canvas, x, y, r):
    canvas.drawCircle(x, y, r, ink(WHITE))
    canvas.drawCircle(x + 0.25 * r, y, 0.55 * r, ink(DARK))


def ball(canvas, r, colour, beat):
    """A beach ball: two pale stripes on its colour."""
    _shape(canvas, _circle(0, 0, r), colour, r, ball_shade(0, 0, r, colour))
    canvas.save()
    canvas.rotate(math.degrees(0.35 * beat))
    pale = ink(mix(colour, WHITE, 0.72), width=0.13 * r)
    for bend in (-0.55, 0.55):
        path = skia.Path()
        path.moveTo(0, -0.93 * r)
        path.quadTo(1.55 * bend * r, 0, 0, 0.93 * r)
        canvas.drawPath(path, pale)
    canvas.restore()


def balloon(canvas, r, colour, beat):
    """A toy balloon on a string."""
    line = skia.Path()
    line.moveTo(0, 0.98 * r)
    line.cubicTo(0.25 * r * math.sin(beat), 1.25 * r, -0.25 * r * math.sin(beat), 1.5 * r, 0, 1.75 * r)
    canvas.drawPath(line, ink((245, 240, 232), width=max(1.2, 0.04 * r)))
    _shape(canvas, polygon([(0, 0.84 * r), (0.16 * r, 1.06 * r), (-0.16 * r, 1.06 * r)]), mix(colour, (0, 0, 0), 0.15), r)
    path = skia.Path()
    path.moveTo(0, 0.9 * r)
    path.cubicTo(-0.75 * r, 0.55 * r, -0.98 * r, -0.95 * r, 0, -0.97 * r)
    path.cubicTo(0.98 * r, -0.95 * r, 0.75 * r, 0.55 * r, 0, 0.9 * r)
    _shape(canvas, path, colour, r, ball_shade(0, -0.2 * r, 0.95 * r, colour))
    canvas.drawPath(_oval(-0.3 * r, -0.5 * r, 0.12 * r, 0.2 * r), ink(WHITE, 0.7))


def boat(canvas, r, colour, beat):
    """A sailing boat: hull and sail in its colour."""
    canvas.rotate(3 * math.sin(beat))
    canvas.drawRect(skia.Rect.MakeLTRB(-0.04 * r, -1.0 * r, 0.04 * r, 0.4 * r), ink((110, 74, 42)))
    _shape(canvas, polygon([(0.08 * r, -0.95 * r), (0.85 * r, 0.3 * r), (0.08 * r, 0.3 * r)]), colour, r)
    _shape(canvas, polygon([(-0.08 * r, -0.75 * r), (-0.62 * r, 0.3 * r), (-0.08 * r, 0.3 * r)]), mix(colour, WHITE, 0.45), r)
    hull = skia.Path()
    hull.moveTo(-1.0 * r, 0.42 * r)
    hull.lineTo(1.05 * r, 0.42 * r)
    hull.quadTo(0.8 * r, 0.92 * r, 0.45 * r, 0.92 * r)
    hull.lineTo(-0.55 * r, 0.92 * r)
    hull.quadTo(-0.85 * r, 0.85 * r, -1.0 * r, 0.42 * r)
    _shape(canvas, hull, mix(colour, (0, 0, 0), 0.12), r)
    canvas.drawRect(skia.Rect.MakeLTRB(-0.93 * r, 0.47 * r, 0.97 * r, 0.57 * r), ink(WHITE, 0.85))


def bird(canvas, r, colour, beat):
    """A plump bird that beats its wing."""
    _shape(canvas, polygon([(-0.6 * r, 0.0), (-1.15 * r, -0.3 * r), (-1.1 * r, 0.25 * r)]), mix(colour, (0, 0, 0), 0.2), r)
    _shape(canvas, _oval(-0.05 * r, 0.1 * r, 0.78 * r, 0.52 * r), colour, r)
    _shape(canvas, polygon([(0.82 * r, -0.38 * r), (1.2 * r, -0.24 * r), (0.82 * r, -0.1 * r)]), (250, 176, 40), r)
    _shape(canvas, _circle(0.55 * r, -0.25 * r, 0.36 * r), colour, r)
    canvas.drawPath(_oval(0.1 * r, 0.34 * r, 0.45 * r, 0.22 * r), ink(mix(colour, WHITE, 0.6)))
    _eye(canvas, 0.66 * r, -0.32 * r, 0.1 * r)
    lift = math.sin(2.2 * beat)
    wing = skia.Path()
    wing.moveTo(0.22 * r, 0.0)
    wing.quadTo(-0.1 * r, -1.0 * r * lift, -0.72 * r, -0.95 * r * lift)
    wing.quadTo(-0.62 * r, -0.2 * r * lift + 0.1 * r, -0.32 * r, 0.12 * r)
    wing.close()
    _shape(canvas, wing, mix(colour, (0, 0, 0), 0.12), r)


def fish(canvas, r, colour, beat):
    """A round fish with a waving tail and pale bands."""
    wave = 0.25 * math.sin(1.8 * beat) * r
    tail = skia.Path()
    tail.moveTo(-0.6 * r, 0)
    tail.quadTo(-0.95 * r, -0.2 * r, -1.15 * r, -0.55 * r + wave)
    tail.quadTo(-0.98 * r, wave, -1.15 * r, 0.55 * r + wave)
    tail.quadTo(-0.95 * r, 0.2 * r, -0.6 * r, 0)
    _shape(canvas, tail, mix(colour, (0, 0, 0), 0.15), r)
    _shape(canvas, polygon([(-0.35 * r, -0.45 * r), (0.0, -0.88 * r), (0.3 * r, -0.45 * r)]), mix(colour, (0, 0, 0), 0.15), r)
    body = skia.Path()
    body.moveTo(0.98 * r, 0)
    body.cubicTo(0.6 * r, -0.75 * r, -0.35 * r, -0.72 * r, -0.75 * r, 0)
    body.cubicTo(-0.35 * r, 0.72 * r, 0.6 * r, 0.75 * r, 0.98 * r, 0)
    _shape(canvas, body, colour, r)
    canvas.save()
    canvas.clipPath(body, doAntiAlias=True)
    for x in (-0.35, 0.05):
        canvas.drawRect(skia.Rect.MakeLTRB(x * r, -r, (x + 0.16) * r, r), ink(mix(colour, WHITE, 0.65)))
    canvas.restore()
    _eye(canvas, 0.6 * r, -0.14 * r, 0.13 * r)


def car(canvas, r, colour, beat):
    """A small round car; the wheels turn."""
    cabin = skia.Path()
    cabin.moveTo(-0.62 * r, 0.05 * r)
    cabin.quadTo(-0.5 * r, -0.62 * r, -0.05 * r, -0.62 * r)
    cabin.quadTo(0.4 * r, -0.62 * r, 0.6 * r, 0.05 * r)
    cabin.close()
    _shape(canvas, cabin, colour, r)
    window = skia.Path()
    window.moveTo(-0.45 * r, 0.0)
    window.quadTo(-0.36 * r, -0.45 * r, -0.05 * r, -0.45 * r)
    window.quadTo(0.28 * r, -0.45 * r, 0.42 * r, 0.0)
    window.close()
    canvas.drawPath(window, ink((206, 232, 246)))
    canvas.drawRect(skia.Rect.MakeLTRB(-0.06 * r, -0.5 * r, 0.02 * r, 0.02 * r), ink(colour))
    body = skia.Path()
    body.addRoundRect(skia.Rect.MakeLTRB(-1.05 * r, -0.02 * r, 1.05 * r, 0.55 * r), 0.26 * r, 0.26 * r)
    _shape(canvas, body, colour, r)
    canvas.drawCircle(0.92 * r, 0.18 * r, 0.1 * r, ink((255, 246, 190)))
    for x in (-0.58, 0.58):
        canvas.drawCircle(x * r, 0.56 * r, 0.27 * r, ink(DARK))
        canvas.drawCircle(x * r, 0.56 * r, 0.12 * r, ink((200, 200, 206)))
        turn = 1.5 * beat
        canvas.drawLine(
            x * r - 0.2 * r * math.cos(turn), 0.56 * r - 0.2 * r * math.sin(turn),
            x * r + 0.2 * r * math.cos(turn), 0.56 * r + 0.2 * r * math.sin(turn), ink((120, 120, 126), width=0.05 * r),
        )


def kite(canvas, r, colour, beat):
    """A diamond kite with a tail of bows."""
    canvas.rotate(10 + 5 * math.sin(beat))
    tail = skia.Path()
    tail.moveTo(0, 0.85 * r)
    bows = []
    for i in range(1, 7):
        x, y = 0.16 * r * math.sin(beat + 1.1 * i), 0.85 * r + 0.14 * r * i
        tail.lineTo(x, y)
        if i % 2 == 0:
            bows.append((x, y))
    canvas.drawPath(tail, ink((240, 236, 226), width=max(1.2, 0.04 * r)))
    for x, y in bows:
        s = 0.14 * r
        canvas.drawPath(polygon([(x, y), (x - s, y - 0.6 * s), (x - s, y + 0.6 * s)]), ink(colour))
        canvas.drawPath(polygon([(x, y), (x + s, y - 0.6 * s), (x + s, y + 0.6 * s)]), ink(colour))
    top, left, right, bottom = (0, -0.98 * r), (-0.68 * r, -0.18 * r), (0.68 * r, -0.18 * r), (0, 0.88 * r)
    _shape(canvas, polygon([top, right, bottom, left]), colour, r)
    canvas.drawPath(polygon([top, right, (0, -0.18 * r)]), ink(mix(colour, WHITE, 0.4)))
    canvas.drawPath(polygon([left, (0, -0.18 * r), bottom]), ink(mix(colour, WHITE, 0.22)))
    canvas.drawLine(*top, *bottom, _edge(colour, r))
    canvas.drawLine(*left, *right, _edge(colour, r))


def star(canvas, r, colour, beat):
    """A friendly star that rocks and twinkles."""
    canvas.drawCircle(0, 0, 1.25 * r, skia.Paint(AntiAlias=True, Shader=_halo(r, colour)))
    _shape(canvas, star_path(0, 0.05 * r, r, 0.47 * r, turn=0.14 * math.sin(beat)), colour, r)
    for x in (-0.17, 0.17):
        canvas.drawCircle(x * r, -0.04 * r, 0.07 * r, ink(DARK))
    smile = skia.Path()
    smile.moveTo(-0.14 * r, 0.16 * r)
    smile.quadTo(0, 0.3 * r, 0.14 * r, 0.16 * r)
    canvas.drawPath(smile, ink(DARK, width=max(1.2, 0.045 * r)))


def _halo(r, colour):
    pale = mix(colour, WHITE, 0.5)
    stops = [skia.Color(*(round(c) for c in pale), a) for a in (110, 0)]
    return skia.GradientShader.MakeRadial((0, 0), 1.25 * r, stops)


def butterfly(canvas, r, colour, beat):
    """Seen from above; the wings open and close."""
    canvas.rotate(14)
    open_ = 0.66 + 0.34 * math.sin(1.7 * beat)
    for side in (-1, 1):
        canvas.save()
        canvas.scale(side * open_, 1)
        lower = _oval(0.42 * r, 0.42 * r, 0.36 * r, 0.42 * r)
        upper = skia.Path()
        upper.moveTo(0.03 * r, 0.1 * r)
        upper.cubicTo(0.1 * r, -0.7 * r, 0.75 * r, -1.0 * r, 0.98 * r, -0.68 * r)
        upper.cubicTo(1.12 * r, -0.2 * r, 0.6 * r, 0.2 * r, 0.03 * r, 0.1 * r)
        _shape(canvas, lower, mix(colour, (0, 0, 0), 0.14), r)
        _shape(canvas, upper, colour, r)
        canvas.drawCircle(0.66 * r, -0.46 * r, 0.16 * r, ink(mix(colour, WHITE, 0.65)))
        canvas.drawCircle(0.44 * r, 0.48 * r, 0.12 * r, ink(mix(colour, WHITE, 0.65)))
        canvas.restore()
    canvas.drawPath(_oval(0, 0.05 * r, 0.09 * r, 0.58 * r), ink(DARK))
    for side in (-1, 1):
        horn = skia.Path()
        horn.moveTo(0, -0.45 * r)
        horn.quadTo(side * 0.08 * r, -0.8 * r, side * 0.26 * r, -0.88 * r)
        canvas.drawPath(horn, ink(DARK, width=max(1.2, 0.04 * r)))


DRAW = {f.__name__: f for f in (ball, balloon, boat, bird, fish, car, kite, star, butterfly)}
"""The function of each object."""
