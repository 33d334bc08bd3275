# SPDX-License-Identifier: MPL-2.0
"""Draws scenes and keeps their latents on disk, so that training does neither.

    python -m storybook.encode RUN OUT --frames 1 --count 40000

Writes OUT/f<frames>_<first seed>.npy, `[scenes, latents, channels, height, width]` in float16, a file per 512 (images) or 64 scenes; goes on where it stopped.
"""

import argparse
import os

import numpy as np
import torch

import runs

from . import styles, world
from .render import Renderer
from .vae import Vae


def load_vae(run):
    """The averaged VAE of a run, to look at and not to train."""
    vae = Vae(**Vae.CONFIG)
    vae.load_state_dict(torch.load(os.path.join(run, "vae.pt"), weights_only=True)["average"])
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def latents(vae, clip):
    """`[latents, channels, height, width]` of frames `[frames, height, width, 3]` in bytes."""
    x = torch.from_numpy(clip).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
    with runs.half():
        mean, _ = vae.moments(x)
    return mean[0].transpose(0, 1).half().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("out")
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--style", choices=styles.STYLES, help="another look, for an adapter")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    os.makedirs(a.out, exist_ok=True)
    vae, renderer = load_vae(a.run), Renderer()
    look = styles.STYLES.get(a.style, lambda clip: clip)
    size = 512 if a.frames == 1 else 64
    for first in range(a.first, a.first + a.count, size):
        path = os.path.join(a.out, f"f{a.frames}_{first}.npy")
        if os.path.exists(path):
            continue
        rows = [latents(vae, look(renderer.clip(world.sample(seed), a.frames))) for seed in range(first, first + size)]
        np.save(path + ".new.npy", np.stack(rows))
        os.replace(path + ".new.npy", path)


if __name__ == "__main__":
    main()
