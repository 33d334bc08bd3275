# SPDX-License-Identifier: MPL-2.0
"""Looks at frames alone and says what they show: object, colour, motion, place, time.

    python -m storybook.checker RUN --seconds 1500       trains the classifier on drawn scenes, prints its accuracy on unseen ones

Started again it goes on from the last one.

A small convolutional classifier tells all five from three frames. It may lean on where an object begins to tell its motion; measure.py, which
follows what moves, may not.
"""

import argparse
import os
import random
import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import runs

from . import world
from .render import Renderer

SIZE = (144, 240)
"""Rows and columns that the classifier looks at."""


class Looker(nn.Module):
    """Three frames of a clip `[batch, 9, 144, 240]` in -1..1 to attribute scores."""

    def __init__(self):
        super().__init__()
        widths = (9, 24, 48, 96, 128, 160)
        self.body = nn.Sequential(*(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.SiLU(), nn.Conv2d(b, b, 3, 1, 1), nn.GroupNorm(8, b), nn.SiLU())
            for a, b in zip(widths, widths[1:])
        ))
        self.heads = nn.ModuleDict({name: nn.Linear(2 * widths[-1], len(values)) for name, values in world.ATTRIBUTES.items()})

    def forward(self, x):
        h = self.body(x)
        h = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        return {name: head(h) for name, head in self.heads.items()}


def prepare(clip):
    """First, middle and last frame of `[frames, height, width, 3]` bytes, small, as the classifier wants them."""
    frames = [cv2.resize(clip[i], SIZE[::-1], interpolation=cv2.INTER_AREA) for i in (0, len(clip) // 2, len(clip) - 1)]
    return torch.from_numpy(np.concatenate(frames, 2)).float().permute(2, 0, 1) / 127.5 - 1


def bend(frame, draw, reach):
    """The frame with its points moved by up to about `reach` pixels, smoothly: shapes as an unsure hand draws them."""
    rows, columns = frame.shape[:2]
    coarse = np.random.default_rng(draw.randrange(1 << 30)).normal(0, 0.6 * reach, (2, rows // 18, columns // 18)).astype(np.float32)
    x, y = (cv2.resize(part, (columns, rows), interpolation=cv2.INTER_CUBIC) for part in coarse)
    grid_y, grid_x = np.mgrid[:rows, :columns].astype(np.float32)
    return cv2.remap(frame, grid_x + x, grid_y + y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def soften(clip, draw):
    """What a model and its decoder may do to frames: bent shapes, blur, a little noise, another contrast."""
    out = []
    sigma, gain, bias, grain = draw.uniform(0, 2.2), draw.uniform(0.85, 1.12), draw.uniform(-12, 12), draw.uniform(0, 7)
    reach = draw.uniform(0, 0.018) * clip.shape[2]
    for frame in clip:
        frame = bend(frame, draw, reach)
        frame = cv2.GaussianBlur(frame, (0, 0), sigma) if sigma > 0.3 else frame
        noise = np.random.default_rng(draw.randrange(1 << 30)).normal(0, grain, frame.shape) if grain > 1 else 0
        out.append(np.clip(frame * gain + bias + noise, 0, 255).astype(np.uint8))
    return np.stack(out)


def drawn(renderer, draw, test):
    """Three frames of a random scene, prepared, and its attributes as class numbers."""
    scene = world.sample(draw.randrange(1 << 40), test)
    clip = np.stack([renderer.frame(scene, number) for number in (0, 24, 48)])
    x = prepare(soften(clip, draw))
    return x, torch.tensor([values.index(getattr(scene, name)) for name, values in world.ATTRIBUTES.items()])


@torch.no_grad()
def look(net, clip):
    """What the classifier sees in a clip, by attribute."""
    said = net(prepare(clip)[None])
    return {name: values[said[name][0].argmax()] for name, values in world.ATTRIBUTES.items()}


def load(run):
    net = Looker()
    net.load_state_dict(torch.load(os.path.join(run, "looker.pt"), weights_only=True))
    return net.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--seconds", type=float, default=400)
    a = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net, renderer = Looker(), Renderer(*SIZE[::-1])
    path = os.path.join(a.run, "looker.pt")
    draw = random.Random(3)
    if os.path.exists(path):
        net.load_state_dict(torch.load(path, weights_only=True))
        draw = random.Random()
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=1e-3)
    begun, step = time.time(), 0
    while (spent := time.time() - begun) < a.seconds:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - spent / a.seconds)
        pairs = [drawn(renderer, draw, draw.random() < 1 / 9) for _ in range(16)]
        x, truth = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
        with runs.half():
            said = net(x.contiguous(memory_format=torch.channels_last))
        loss = sum(F.cross_entropy(said[name].float(), truth[:, i]) for i, name in enumerate(world.ATTRIBUTES))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        step += 1
        if step % 100 == 0:
            print(step, round(spent), round(loss.item(), 3), flush=True)
    net.eval()
    torch.save(net.state_dict(), path)
    renderer, right = Renderer(), {name: 0 for name in world.ATTRIBUTES}
    for seed in range(200):
        scene = world.sample(90_000_000 + seed, test=True)
        said = look(net, soften(np.stack([renderer.frame(scene, n) for n in (0, 24, 48)]), random.Random(seed)))
        for name in right:
            right[name] += said[name] == getattr(scene, name)
    print(step, "accuracy on 200 drawn scenes:", {name: n / 200 for name, n in right.items()})


if __name__ == "__main__":
    main()
