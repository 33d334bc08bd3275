# SPDX-License-Identifier: MPL-2.0
"""Turns a folder of photographs into short moving sequences with their degraded low-resolution versions.

    prepare.py PHOTOS OUT [--per-photo 4] [--graphics 90] [--recorded 0.6] [--jobs 2]

Every sequence is a camera path over one photograph (pan, zoom, rotation, stillness; sometimes with an
object that moves on its own), cut to FRAMES frames.  Most of them are then recorded: blurred by lens and motion and
coded, as the originals of real clips are, which are softer than photographs.  Of it are kept

    hr.npy     [FRAMES-2, 4h, 4w]      luma of the inner frames, the targets
    lr.npy     [VARIANTS, FRAMES, h, w] luma of all frames at a quarter of the size

with three variants: clean (swscale bicubic), H.264 (the same through libx264 at crf 18 to 36), and mixed
(random blur, resize kernel, noise, JPEG or H.264): the pixel degradation of the FlashVideo paper, section
3.3, carried to the codecs that real clips went through.  The split into training and validation is by photograph.
Started again, it goes on where it stopped.
"""

import argparse
import glob
import multiprocessing
import os
import random

import av
import cv2
import numpy as np

import graphics

FRAMES = 5
ENCODED = 12
WIDTH, HEIGHT = 1152, 640
VALIDATION_EVERY = 12


def downscale(luma, kind):
    """One of the antialiased reductions by four that real pipelines use."""
    height, width = luma.shape
    size = (width // 4, height // 4)
    if kind == "area":
        return cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    frame = av.VideoFrame.from_ndarray(luma, format="gray")
    small = frame.reformat(width=size[0], height=size[1], interpolation=kind)
    return small.to_ndarray().copy()


def h264(frames, crf, preset):
    """The frames after a round trip through libx264 (luma only matters; chroma is flat)."""
    height, width = frames[0].shape
    buffer = io_buffer()
    with av.open(buffer, "w", format="matroska") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": preset, "threads": "1"}
        for luma in frames:
            planes = np.concatenate([luma, np.full((height // 2, width), 128, np.uint8)])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        out.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as coded:
        return [f.to_ndarray()[:height].copy() for f in coded.decode(video=0)]


def io_buffer():
    import io

    return io.BytesIO()


def mixed(frames, small, rng):
    """Blur, kernel, noise and a codec chosen at random, fixed for the sequence as in a real recording."""
    noise_rng = np.random.default_rng(rng.randrange(1 << 30))
    if rng.random() < 0.6:
        sigma = rng.uniform(0.3, 1.8)
        frames = [cv2.GaussianBlur(f, (0, 0), sigma) for f in frames]
    kind = rng.choice(("area", "BICUBIC", "LANCZOS", "BILINEAR"))
    small = [downscale(f, kind) for f in frames]
    if rng.random() < 0.5:
        strength = rng.uniform(1, 7)
        small = [np.clip(f + noise_rng.normal(0, strength, f.shape), 0, 255).astype(np.uint8) for f in small]
    if rng.random() < 0.35:
        quality = rng.randrange(40, 95)
        return [cv2.imdecode(cv2.imencode(".jpg", f, [1, quality])[1], 0) for f in small]
    return h264(small, rng.randrange(16, 34), "veryfast")


def motion_kernel(dx, dy):
    """What a point leaves behind on its way of (dx, dy) pixels: a line, drawn sixteen times as large and reduced."""
    reach, fine = int(max(abs(dx), abs(dy)) / 2) + 1, 16
    size = 2 * reach + 1
    centre = size * fine / 2
    ends = [(round(centre + s * dx * fine / 2), round(centre + s * dy * fine / 2)) for s in (-1, 1)]
    drawn = cv2.line(np.zeros((size * fine, size * fine), np.float32), *ends, 1.0, fine)
    kernel = cv2.resize(drawn, (size, size), interpolation=cv2.INTER_AREA)
    return kernel / kernel.sum()


def recorded(frames, velocity, rng):
    """The frames as a camera records them: blurred by the motion while its shutter is open and by its lens, and coded well."""
    shutter = rng.uniform(0.1, 0.6)
    if max(abs(v) for v in velocity) * shutter > 0.5:
        kernel = motion_kernel(velocity[0] * shutter, velocity[1] * shutter)
        frames = [cv2.filter2D(f, -1, kernel, borderType=cv2.BORDER_REFLECT) for f in frames]
    sigma = rng.uniform(0.1, 0.7)
    frames = [cv2.GaussianBlur(f, (0, 0), sigma) for f in frames]
    return h264(frames, rng.randrange(14, 24), "veryfast") if rng.random() < 0.7 else frames


def camera_path(rng, picture, window=(WIDTH, HEIGHT), count=ENCODED):
    """The picture scaled to a random size, for each of `count` frames an affine map from the window into it, whether these move it by whole pixels,
    and its velocity in pixels a frame."""
    height, width = picture.shape[:2]
    least = max(window[0] / width, window[1] / height)
    scale = min(max(least * 1.03, rng.uniform(0.5, 1.05)), max(least * 1.03, 1.0))
    size = (int(width * scale + 1), int(height * scale + 1))
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    free_x, free_y = picture.shape[1] - window[0], picture.shape[0] - window[1]
    x, y = rng.uniform(0, free_x), rng.uniform(0, free_y)
    style = rng.random()
    speed = 0.0 if style < 0.2 else rng.choice((1.5, 4.0, 9.0, 20.0))
    angle = rng.uniform(0, 2 * np.pi)
    step = (speed * np.cos(angle), speed * np.sin(angle))
    turn = rng.uniform(-0.004, 0.004) if style > 0.75 else 0.0
    zoom = rng.uniform(-0.008, 0.008) if style > 0.75 else 0.0
    whole = style < 0.6
    maps = []
    for i in range(count):
        shake = rng.uniform(-0.7, 0.7) if style > 0.4 else 0.0
        px = np.clip(x + step[0] * (i - count / 2) + shake, 0, free_x)
        py = np.clip(y + step[1] * (i - count / 2) + shake, 0, free_y)
        if whole:
            px, py = round(px), round(py)
        z, a = 1 + zoom * i, turn * i
        c, s = z * np.cos(a), z * np.sin(a)
        cx, cy = window[0] / 2, window[1] / 2
        maps.append(np.float32([[c, -s, px + cx - c * cx + s * cy], [s, c, py + cy - s * cx - c * cy]]))
    return picture, maps, whole, step


def moving_object(rng, frames, other):
    """Lays an elliptical cut-out of another picture over the frames, on a path of its own."""
    h, w = rng.randrange(80, 300), rng.randrange(80, 300)
    oy, ox = rng.randrange(other.shape[0] - h), rng.randrange(other.shape[1] - w)
    cut = other[oy : oy + h, ox : ox + w].astype(np.float32)
    mask = np.zeros((h, w), np.float32)
    cv2.ellipse(mask, (w // 2, h // 2), (w // 2 - 3, h // 2 - 3), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.8)
    x, y = rng.uniform(50, WIDTH - w - 50), rng.uniform(50, HEIGHT - h - 50)
    vx, vy = rng.uniform(-8, 8), rng.uniform(-8, 8)
    for i, frame in enumerate(frames):
        px = int(np.clip(x + vx * i, 0, WIDTH - w))
        py = int(np.clip(y + vy * i, 0, HEIGHT - h))
        view = frame[py : py + h, px : px + w]
        view[:] = np.rint(view * (1 - mask) + cut * mask).astype(np.uint8)


def sequence(task):
    picture_path, other_path, seed, folder, recorded_share = task
    if os.path.exists(folder):
        return
    rng = random.Random(seed)
    if picture_path is None:
        drawn = graphics.draw(seed, 1600, 900, graphics.fonts())
        luma = cv2.cvtColor(np.asarray(drawn), cv2.COLOR_RGB2YCrCb)[..., 0]
    else:
        luma = cv2.cvtColor(cv2.imread(picture_path), cv2.COLOR_BGR2YCrCb)[..., 0]
    # Video luma has limited range; training on it keeps the statistics of real planes.
    luma = np.rint(luma.astype(np.float32) * (219 / 255) + 16).astype(np.uint8)
    luma, maps, whole, velocity = camera_path(rng, luma)
    how = cv2.INTER_NEAREST if whole and maps[0][0, 1] == 0 and maps[-1][0, 0] == 1 else cv2.INTER_LANCZOS4
    frames = [
        cv2.warpAffine(luma, m, (WIDTH, HEIGHT), flags=how | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
        for m in maps
    ]
    if other_path is not None:
        other = cv2.cvtColor(cv2.imread(other_path), cv2.COLOR_BGR2YCrCb)[..., 0]
        moving_object(rng, frames, other)
    if rng.random() < recorded_share:
        frames = recorded(frames, velocity, rng)
    start = rng.choice((0, 2, 4, 5, 6, 7))
    keep = slice(start, start + FRAMES)
    small = [downscale(f, "BICUBIC") for f in frames]
    crf = int(np.clip(round(rng.gauss(27, 4)), 18, 36))
    coded = h264(small, crf, rng.choice(("medium", "medium", "veryfast")))
    worn = mixed(frames, small, rng)
    # A training run that goes on meanwhile must see whole sequences only.
    part = f"{folder}.part"
    os.makedirs(part, exist_ok=True)
    np.save(f"{part}/hr.npy", np.stack(frames[keep][1:-1]))
    np.save(f"{part}/lr.npy", np.stack([np.stack(v[keep]) for v in (small, coded, worn)]))
    os.rename(part, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("out")
    parser.add_argument("--per-photo", type=int, default=4)
    parser.add_argument("--graphics", type=int, default=90)
    parser.add_argument("--recorded", type=float, default=0.6, help="share of the sequences that are recorded; none for the detail expert")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    photos = sorted(glob.glob(f"{args.photos}/*"))
    rng = random.Random(7)
    tasks = []
    for index, path in enumerate(photos):
        split = "validation" if index % VALIDATION_EVERY == 5 else "training"
        for part in range(1 if split == "validation" else args.per_photo):
            other = rng.choice(photos) if rng.random() < 0.3 and split == "training" else None
            tasks.append((path, other, 1000 * index + part, f"{args.out}/{split}/{index:04}_{part}", args.recorded))
    for index in range(args.graphics):
        split = "validation" if index % VALIDATION_EVERY == 5 else "training"
        tasks.append((None, None, 900_000 + index, f"{args.out}/{split}/g{index:04}", args.recorded))
    rng.shuffle(tasks)
    # Validation first: training can begin before all is done.
    tasks.sort(key=lambda task: "/training/" in task[3])
    with multiprocessing.Pool(args.jobs) as pool:
        for done, _ in enumerate(pool.imap_unordered(sequence, tasks, chunksize=2), 1):
            if done % 50 == 0:
                print(f"{done}/{len(tasks)}", flush=True)


if __name__ == "__main__":
    main()
