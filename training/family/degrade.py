# SPDX-License-Identifier: MPL-2.0
"""What happens to pictures on their way to a viewer: reduction, lenses, sensors, codecs, deinterlacers, tapes.

A frame is (y, cb, cr), 4:2:0 with chroma on the even columns and between the rows (MPEG-2, H.264), limited range; float32 within a
chain, uint8 where it is coded or kept.  Every chain is drawn once for a sequence, as in a real recording; only noise is new in each frame.
"""

import functools
import io

import av
import cv2
import numpy as np

from family import noise

# Support and weight at a distance, both in widths of the larger sample; `stretch` is its width in samples of the picture.
KERNELS = {
    "area": (1, lambda d, stretch: np.clip(0.5 + 0.5 / stretch - np.abs(d), 0, 1 / stretch)),
    "bilinear": (1, lambda d, stretch: np.maximum(1 - np.abs(d), 0)),
    "bicubic": (2, lambda d, stretch: _cubic(np.abs(d), -0.6)),
    "lanczos": (3, lambda d, stretch: np.sinc(d) * np.sinc(d / 3) * (np.abs(d) < 3)),
}


def _cubic(d, a):
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d < 1, near, np.where(d < 2, far, 0))


@functools.lru_cache(256)
def resize_matrix(before, after, kernel, siting=0.5):
    """[after, before] antialiased resampling; `siting` is where samples lie in their own width (0.25: chroma on even columns)."""
    ratio = before / after
    stretch = max(ratio, 1)
    support, weight = KERNELS[kernel]
    centre = (np.arange(after) + siting) * ratio - siting
    reach = int(np.ceil(support * stretch)) + 1
    at = np.floor(centre)[:, None] + np.arange(-reach, reach + 1)
    weights = weight((at - centre[:, None]) / stretch, stretch)
    weights /= weights.sum(1, keepdims=True)
    matrix = np.zeros((after, before))
    np.add.at(matrix, (np.arange(after)[:, None], np.clip(at, 0, before - 1).astype(int)), weights)
    return matrix.astype(np.float32)


def resize(frame, width, height, kernel):
    """A frame at another even size, each plane by its siting."""

    def plane(p, w, h, siting):
        down = resize_matrix(p.shape[0], h, kernel)
        across = resize_matrix(p.shape[1], w, kernel, siting)
        return down @ p.astype(np.float32) @ across.T

    y, u, v = frame
    return plane(y, width, height, 0.5), plane(u, width // 2, height // 2, 0.25), plane(v, width // 2, height // 2, 0.25)


def blur(frame, sigma, chroma=None):
    """Gaussian blur; that of chroma is half as wide in its own samples unless given."""
    chroma = sigma / 2 if chroma is None else chroma
    soft = lambda p, s: cv2.GaussianBlur(p, (0, 0), s) if s > 0.15 else p
    return soft(frame[0], sigma), soft(frame[1], chroma), soft(frame[2], chroma)


def rounded(frame):
    return tuple(np.clip(np.rint(p), 0, 255).astype(np.uint8) for p in frame)


def as_float(frame):
    return tuple(p.astype(np.float32) for p in frame)


OPTIONS = {
    "libx264": lambda q: {"crf": str(q), "preset": "veryfast", "threads": "1"},
    "libx265": lambda q: {"crf": str(q), "preset": "ultrafast", "x265-params": "pools=1:frame-threads=1:log-level=none"},
    "mpeg2video": lambda q: {"qmin": str(q), "qmax": str(q), "bf": "2", "g": "15", "threads": "1"},
    "mpeg4": lambda q: {"qmin": str(q), "qmax": str(q), "g": "50", "threads": "1"},
    "mjpeg": lambda q: {"qmin": str(q), "qmax": str(q), "threads": "1"},
}


def coded(frames, codec, quality, **more):
    """The frames after a round trip through a codec at a constant quality (crf, or the quantiser's scale)."""
    height, width = frames[0][0].shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = OPTIONS[codec](quality) | more
        for frame in frames:
            packed = np.concatenate([p.reshape(-1) for p in rounded(frame)]).reshape(height * 3 // 2, width)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(packed, format=stream.pix_fmt)))
        out.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as file:
        decoded = [_planes(f) for f in file.decode(video=0)]
    if len(decoded) != len(frames):
        raise ValueError(f"{codec} gave {len(decoded)} of {len(frames)} frames back")
    return decoded


def _planes(frame):
    def plane(p):
        return np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width].astype(np.float32)

    return tuple(plane(p) for p in frame.planes)


def any_codec(frames, rng, low=False):
    """One of the codecs that clips are found in; `low` leaves out their good qualities. Returns the frames and what was done."""
    codec = rng.choices(("libx264", "libx265", "mpeg2video", "mpeg4", "mjpeg"), (5, 2, 2, 1, 2))[0]
    quality = {
        "libx264": lambda: int(np.clip(rng.gauss(28 if low else 25, 4), 16, 38)),
        "libx265": lambda: int(np.clip(rng.gauss(30 if low else 27, 4), 18, 40)),
    }.get(codec, lambda: rng.randrange(5 if low else 2, 18 if low else 10))()
    return coded(frames, codec, quality), f"{codec} {quality}"


def smeared(frames, rng, strength):
    """A camera's denoising: recursive in time where little moves, bilateral in space, chroma blurred; then its sharpening."""
    share, spread = rng.uniform(0, 0.7), strength * rng.uniform(1.5, 4) + 2
    chroma, sharpen = rng.uniform(0, 2.5), rng.uniform(0, 1) * (rng.random() < 0.5)
    bilateral = rng.random() < 0.7
    out, last = [], None
    for y, u, v in frames:
        if last is not None and share > 0.1:
            still = np.exp(-((cv2.GaussianBlur(y - last, (0, 0), 1.5) / (strength + 2)) ** 2))
            y = y + share * still * (last - y)
        last = y
        if bilateral:
            y = cv2.bilateralFilter(y, 5, spread, 1.5)
        if sharpen:
            y = y + sharpen * (y - cv2.GaussianBlur(y, (0, 0), 1.2))
        _, u, v = blur((y, u, v), 0, chroma)
        out.append((y, u, v))
    return out


def taped(frames, rng, generator):
    """A tape: bandwidth of luma and chroma, delay of chroma, dot crawl and false colour, streaks of noise."""
    luma, chroma = rng.uniform(0.5, 1.5), rng.uniform(1.5, 4)
    delay, streak, colour = rng.uniform(-1.5, 1.5), rng.uniform(0.5, 5), rng.uniform(1, 7)
    crawl = rng.uniform(0.1, 0.5) * (rng.random() < 0.5)
    out = []
    for t, (y, u, v) in enumerate(frames):
        h, w = y.shape
        if crawl:
            rows, columns = np.mgrid[:h, :w].astype(np.float32)
            phase = np.pi * (columns * 0.5 + rows + t)
            edges = [np.repeat(np.repeat(p - cv2.GaussianBlur(p, (0, 0), 2), 2, 0), 2, 1) for p in (u, v)]
            fine = y - cv2.GaussianBlur(y, (0, 0), 1)
            y = y + crawl * (edges[0] * np.sin(phase) + edges[1] * np.cos(phase))
            u = u + crawl * cv2.GaussianBlur(fine * np.sin(phase), (0, 0), 2)[::2, ::2]
            v = v + crawl * cv2.GaussianBlur(fine * np.cos(phase), (0, 0), 2)[::2, ::2]
        y = cv2.GaussianBlur(y, (0, 0), sigmaX=luma, sigmaY=0.01)
        y = y + streak * noise.unit(cv2.GaussianBlur(noise.white((h, w), generator), (0, 0), sigmaX=1.2, sigmaY=0.4))
        move = np.float32([[1, 0, delay], [0, 1, 0]])
        soft = []
        for p in (u, v):
            p = cv2.GaussianBlur(cv2.warpAffine(p, move, p.shape[::-1], borderMode=cv2.BORDER_REPLICATE), (0, 0), sigmaX=chroma, sigmaY=0.7)
            soft.append(p + colour * noise.unit(cv2.GaussianBlur(noise.white(p.shape, generator), (0, 0), sigmaX=4, sigmaY=0.6)))
        out.append((y, *soft))
    return out


def combed(frames, rng):
    """What a deinterlacer misses: odd rows of the next moment where little seemed to move."""
    share, threshold = rng.uniform(0.3, 1), rng.uniform(3, 15)
    out = []
    for now, after in zip(frames, frames[1:] + frames[-1:]):
        missed = []
        for p, q in zip(now, after):
            change = cv2.GaussianBlur(np.abs(q - p), (0, 0), 2)
            mixed = p.copy()
            mixed[1::2] += (share * (change < threshold) * (q - p))[1::2]
            missed.append(mixed)
        out.append(tuple(missed))
    return out


def soft(frames, rng):
    """A lens out of focus, or a picture that was made larger before: 0.3 to 2 small pixels of blur in all."""
    if rng.random() < 0.5:
        sigma = rng.uniform(0.3, 2)
        return [blur(f, sigma) for f in frames]
    h, w = frames[0][0].shape
    by, down, up = rng.uniform(1.2, 3), rng.choice(list(KERNELS)), rng.choice(("bilinear", "bicubic", "lanczos"))
    size = [int(n / by / 2) * 2 for n in (w, h)]
    return [resize(resize(f, *size, down), w, h, up) for f in frames]


def additive(frames, rng, generator):
    """Noise of one strength everywhere: film grain, weak cameras after brightening."""
    strength, colour = rng.choice((rng.uniform(1, 6), rng.uniform(3, 14))), rng.uniform(0, 8) * (rng.random() < 0.6)
    spread, spread_colour = rng.choice((0, rng.uniform(0.4, 1.3))), rng.uniform(0, 1.5)
    out = []
    for y, u, v in frames:
        y = y + strength * noise.correlated(y.shape, spread, generator)
        u, v = (p + colour * noise.correlated(p.shape, spread_colour, generator) for p in (u, v))
        out.append((y, u, v))
    return out, f"noise {strength:.1f} of width {spread:.1f}"


KINDS = ("clean", "coded", "camera", "noisy", "soft", "old", "tape", "combed")
SHARE = (10, 26, 24, 12, 12, 8, 4, 4)


def degraded(small, rng, generator, kind):
    """(frames, quiet, noisy, words) of small float frames through a chain of one kind.

    `quiet` is the picture before noise and codecs, `noisy` what the noise made of it, or None without.
    """
    quiet, noisy, words = small, None, kind
    if kind == "clean":
        return [rounded(f) for f in small], quiet, None, kind
    if kind == "soft" or kind in ("camera", "noisy", "old", "coded") and rng.random() < 0.3:
        quiet = soft(small, rng) if kind == "soft" else [blur(f, s) for s in [rng.uniform(0.3, 1.0)] for f in small]
        words += "" if kind == "soft" else ", soft"
    frames = quiet
    if kind == "camera":
        a, b = noise.profile(rng)
        size = rng.choice((0.5, 1, 1, 1.5, 2))
        frames = noisy = noise.sensor(quiet, a, b, size, generator)
        words += f", sensor {a[1]:.1e} of size {size}"
        if rng.random() < 0.6:
            strength = float(np.std(frames[0][0] - quiet[0][0]))
            frames = smeared(frames, rng, strength)
            words += ", smeared"
        frames, how = any_codec(frames, rng) if rng.random() < 0.8 else (frames, "")
        words += f", {how}"
    elif kind == "noisy":
        noisy, how = additive(quiet, rng, generator)
        frames = noisy
        words += f", {how}"
        if rng.random() < 0.4:
            crf = rng.randrange(12, 26)
            frames = coded(frames, "libx264", crf)
            words += f", libx264 {crf}"
    elif kind == "tape":
        frames = noisy = taped(quiet, rng, generator)
    elif kind == "combed":
        frames = combed(quiet, rng)
    if kind in ("coded", "old", "tape", "combed") or kind == "soft" and rng.random() < 0.6:
        if kind == "coded":
            crf = int(np.clip(round(rng.gauss(27, 4)), 17, 36))
            frames, how = coded(frames, "libx264", crf, preset=rng.choice(("medium", "veryfast"))), f"libx264 {crf}"
        else:
            frames, how = any_codec(frames, rng, low=kind == "old")
        words += f", {how}"
    if kind in ("camera", "old", "tape") and rng.random() < 0.35 or kind == "coded" and rng.random() < 0.15:
        frames, how = any_codec(frames, rng)
        words += f", {how}"
    if kind == "tape":
        # What a tape does to a line is no grain that somebody may want to keep.
        noisy = None
    return [rounded(f) for f in frames], quiet, noisy, words
