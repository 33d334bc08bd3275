# SPDX-License-Identifier: MPL-2.0
"""Makes clips with the trained parts, in PyTorch.

    python -m storybook.sample RUN OUT.png [--latents 1] [--count 8] [--prompts FILE] [--check]

draws a sheet: a row per prompt, five frames each. With --check it is told how many of the clips show what was asked for, by the classifier
(checker.py) and, of colour and motion, by arithmetic (measure.py; colour only where something moves).
"""

import argparse
import json
import os
import random

import cv2
import numpy as np
import torch

import runs

from . import captions, checker, measure, world
from .dit import Dit, falling, sample
from .encode import load_vae
from .train_dit import Prompts

STEPS, GUIDANCE = 24, 6.0


class Storyteller:
    """All parts of a run."""

    def __init__(self, run):
        state = torch.load(os.path.join(run, "dit.pt"), weights_only=True)
        self.dit = Dit(**Dit.CONFIG)
        self.dit.load_state_dict(state["average"])
        self.dit.eval().requires_grad_(False)
        self.scale, self.vae, self.prompts = state["scale"], load_vae(run), Prompts(run)

    @torch.no_grad()
    def clips(self, texts, latents, seed=0, steps=STEPS, guidance=GUIDANCE):
        """A list of `[frames, height, width, 3]` bytes."""
        draw = torch.Generator().manual_seed(seed)
        shape = (len(texts), latents, self.vae.latent, world.HEIGHT // 8, world.WIDTH // 8)
        gauss = lambda *_: torch.randn(shape, generator=draw)
        with runs.half():
            x = sample(self.dit, self.prompts.features(texts), gauss(), steps, falling(guidance), gauss)
            frames = [self.vae.decode(z[None].transpose(1, 2) / self.scale)[0].float() for z in x]
        return [((f.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy() for f in frames]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("out")
    parser.add_argument("--latents", type=int, default=1)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--first", type=int, default=50_000_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--prompts")
    parser.add_argument("--empty", action="store_true", help="without any prompt: what chance scores")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    teller, scenes = Storyteller(a.run), None
    if a.prompts:
        texts = [line.strip() for line in open(a.prompts) if line.strip()][: a.count]
    else:
        scenes = [world.sample(a.first + i, test=True) for i in range(a.count)]
        texts = [plain(scene, a.first + i) for i, scene in enumerate(scenes)]
    clips = []
    for i in range(0, len(texts), a.batch):
        part = texts[i : i + a.batch]
        clips += teller.clips(part, a.latents, seed=i, steps=a.steps, guidance=0.0 if a.empty else a.guidance)
    rows = []
    for text, clip in zip(texts, clips):
        picks = [clip[i] for i in np.linspace(0, len(clip) - 1, 5 if len(clip) > 1 else 1).round().astype(int)]
        rows.append(np.concatenate([cv2.resize(p, (240, 144), interpolation=cv2.INTER_AREA) for p in picks], 1))
        print(text)
    columns = 1 if a.latents > 1 else 4
    rows = [np.concatenate(rows[i : i + columns], 1) for i in range(0, len(rows) - len(rows) % columns, columns)]
    cv2.imwrite(a.out, np.concatenate(rows[:40])[..., ::-1])
    if a.check and scenes:
        net, right, wrong = checker.load(a.run), {}, []
        for scene, text, clip in zip(scenes, texts, clips):
            said = checker.look(net, clip)
            for name in world.ATTRIBUTES:
                right.setdefault(name, []).append(said[name] == getattr(scene, name))
            motion, colour = measure.measure(clip)
            right.setdefault("measured motion", []).append(motion == scene.motion)
            if colour:
                right.setdefault("measured colour", []).append(colour == scene.colour)
            if any(said[n] != getattr(scene, n) for n in world.ATTRIBUTES):
                wrong.append((text, {n: v for n, v in said.items() if v != getattr(scene, n)}))
        for item in wrong[:20]:
            print("  wrong:", *item)
        print(json.dumps({name: round(sum(r) / len(r), 3) for name, r in right.items()}))


def plain(scene, seed):
    """A caption that tells all five attributes."""
    draw = random.Random(seed)
    while True:
        text, said = captions.caption(scene, draw.randrange(1 << 40))
        if all(said[name] for name in ("object", "colour", "motion", "place")) and (said["time"] or scene.place == "sky"):
            return text


if __name__ == "__main__":
    main()
