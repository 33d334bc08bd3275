# SPDX-License-Identifier: MPL-2.0
"""Trains the transformer of the built-in text-to-video model on cached latents.

    python -m storybook.train_dit RUN LATENTS --mix 1:48:1                     images first,
    python -m storybook.train_dit RUN LATENTS --mix 1:32:1,5:8:1 --seconds N   then short clips,
    python -m storybook.train_dit RUN LATENTS --mix 13:12:2:20,13:2:1 --seconds N   full length last.

--mix is a list of latent frames : batch size : weight [: tokens of a frame that are kept, see `near`]. Writes RUN/dit.pt every few minutes and goes on from it when started again (with another mix, too); new files in LATENTS are
picked up while it runs. --lora R trains adapters of rank R on a style (see styles.py) instead, into RUN/lora.pt.
"""

import argparse
import glob
import json
import os
import random
import time

import numpy as np
import sentencepiece
import torch

import optim
import runs

from . import captions, world
from .dit import Dit, add_lora, patches, pick, schedule
from .t5 import T5Encoder, encode

FRAMES = {1: (1, 5, 13), 5: (5, 13), 13: (13,)}
"""Latent frames to how long the cached clips may be of which they are the beginning."""

LEARNT_FIRST = {"ball": 0.5, "balloon": 0.7, "boat": 0.7, "car": 0.4}
"""How often scenes with these objects are taken; others always."""


class Latents:
    """What lies in a folder of cached latents, by number of latent frames."""

    def __init__(self, folder):
        self.folder, self.seen, self.files = folder, set(), {1: [], 5: [], 13: []}

    def refresh(self):
        for path in sorted(glob.glob(os.path.join(self.folder, "f*_*.npy"))):
            if path in self.seen or path.endswith(".new.npy"):
                continue
            self.seen.add(path)
            frames, first = os.path.basename(path)[1:-4].split("_")
            self.files[(int(frames) + 3) // 4].append((np.load(path, mmap_mode="r"), int(first)))

    def counts(self):
        return {time: sum(len(data) for data, _ in files) for time, files in self.files.items()}

    def batch(self, time, count, draw):
        """Latents `[count, time, ...]` and the scenes' seeds."""
        # Single images come from the image files alone: their statistics are those of a one-frame clip.
        sources = self.files[time] if time == 1 else [f for length in FRAMES[time] for f in self.files[length]]
        weights = [len(data) for data, _ in sources]
        rows, seeds = [], []
        while len(rows) < count:
            data, first = draw.choices(sources, weights)[0]
            i = draw.randrange(len(data))
            if draw.random() < LEARNT_FIRST.get(world.sample(first + i).object, 1):
                rows.append(np.asarray(data[i][:time], np.float32))
                seeds.append(first + i)
        return torch.from_numpy(np.stack(rows)), seeds


class Prompts:
    """Features of random captions of scenes."""

    def __init__(self, run):
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_file=os.path.join(run, "spiece.model"))
        state = torch.load(os.path.join(run, "t5.pt"), weights_only=True)
        self.encoder = T5Encoder(**{**T5Encoder.CONFIG, "vocabulary": state["vocabulary"]})
        self.encoder.load_state_dict(state["net"])
        self.encoder.requires_grad_(False)

    @torch.no_grad()
    def features(self, texts):
        """`[texts, tokens, width]`."""
        return self.encoder(torch.tensor([encode(self.tokenizer, text) for text in texts]))


def emphasis(seeds, time, t):
    """Weights `[batch, time, 1, height, width]` of the error: four where the object is, else one.

    The object is a twentieth of the picture and most of what a prompt is about. Where the noise is so strong that its place must be guessed (t >= 650) all
    weights are one: there they would favour guesses with more objects.
    """
    rows, columns = np.mgrid[0 : world.HEIGHT // 8, 0 : world.WIDTH // 8] * 8 + 4
    weights = np.ones((len(seeds), time, 1, *rows.shape), np.float32)
    for sample, seed in enumerate(seeds):
        if t[sample] >= 650:
            continue
        path = world.sample(seed).path()
        for latent in range(time):
            x, y, radius = path(max(0, 4 * latent - 1.5))
            inside = (columns - x) ** 2 + (rows - y) ** 2 < (1.3 * radius) ** 2
            weights[sample, latent, 0][inside] = 4
    return torch.from_numpy(weights)


def near(seeds, time, count, patch):
    """Numbers `[batch, time * count]` of the tokens of each latent frame that are nearest to the object, or to where another scene's object would be.

    A frame is mostly background, which is learnt long before objects and motion are. Without the decoy, the choice itself would tell where the object is.
    """
    rows, columns = world.HEIGHT // 8 // patch, world.WIDTH // 8 // patch
    y, x = (np.mgrid[:rows, :columns] + 0.5) * (8 * patch)
    keep = np.empty((len(seeds), time, count), np.int64)
    for sample, seed in enumerate(seeds):
        paths = world.sample(seed).path(), world.sample(random.randrange(1 << 40)).path()
        jitter = np.random.rand(rows, columns) * 4 * patch
        for latent in range(time):
            centres = [path(max(0, 4 * latent - 1.5)) for path in paths]
            distance = np.minimum(*(np.hypot(x - cx, y - cy) - radius for cx, cy, radius in centres)) + jitter
            keep[sample, latent] = latent * rows * columns + np.sort(np.argpartition(distance.ravel(), count)[:count])
    return torch.from_numpy(keep).flatten(1)


def timesteps(count, whole):
    """`[count]` timesteps, one from each of `count` equal parts of their distribution: less noise in the gradient than free draws.

    Whole frames take most of theirs from 600 on, where it is decided how many objects there are and where. Tokens near an object take none from there: among
    them objects are more frequent than in a whole frame, and a model that learns from them where to put one puts two.
    """
    part = (torch.arange(count) + torch.rand(count)) / count
    if whole:
        # Density 0.5 below 600, 1.75 above.
        t = torch.where(part < 0.3, 2000 * part, 600 + (part - 0.3) * (400 / 0.7))
    else:
        t = 650 * part
    return t.long().clamp_max(999)


def parse_mix(text):
    """Rows of latent frames, batch size, weight and kept tokens (none: all)."""
    parts = [part.split(":") for part in text.split(",")]
    return [(int(p[0]), int(p[1]), float(p[2]), int(p[3]) if len(p) > 3 else None) for p in parts]


def build(lora, init):
    net = Dit(**Dit.CONFIG)
    if lora:
        net.load_state_dict(init)
        return net, [torch.optim.AdamW(add_lora(net, lora), 1e-3, weight_decay=0.0)], [1e-3]
    matrices = [p for name, p in net.transformer.layers.named_parameters() if p.dim() == 2]
    rest = [p for p in net.parameters() if not any(p is m for m in matrices)]
    optimisers = [optim.Muon(matrices, 0.01, weight_decay=0.02), torch.optim.AdamW(rest, 6e-4, betas=(0.9, 0.98), weight_decay=1e-3)]
    return net, optimisers, [0.01, 6e-4]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("latents")
    parser.add_argument("--mix", default="1:48:1")
    parser.add_argument("--seconds", type=float, default=3600, help="of this sitting")
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the learning rate")
    parser.add_argument("--anneal", action="store_true", help="let the learning rate fall to zero towards the end")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lora", type=int, default=0)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    path = os.path.join(a.run, "lora.pt" if a.lora else "dit.pt")
    base = torch.load(os.path.join(a.run, "dit.pt"), weights_only=True) if a.lora else None
    net, optimisers, rates = build(a.lora, base and base["average"])
    average, step, spent, log, scale = {k: v.clone() for k, v in net.state_dict().items()}, 0, 0.0, [], base and base["scale"]
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        average, step, spent, log, scale = state["average"], state["step"], state["spent"], state["log"], state["scale"]
        for optimiser, saved in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
    torch.manual_seed(step)
    random.seed(step)
    draw, data, prompts, mix = random.Random(step), Latents(a.latents), Prompts(a.run), parse_mix(a.mix)
    data.refresh()
    if scale is None:
        scale = 1 / data.batch(mix[0][0], 256, draw)[0].std().item()
    rate_table = schedule()[1]
    print(f"latents {data.counts()}, scale {scale:.4f}, from step {step}", flush=True)
    running, begun, earlier, saved = {}, time.time(), spent, time.time()
    while (now := time.time() - begun) < a.seconds:
        share = now / a.seconds
        rate = a.rate * min(1, (step + 1) / 100, (now + 20) / 60) * (max(0.02, 1 - share) if a.anneal else 1)
        for optimiser, peak in zip(optimisers, rates):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate
        time_, count, _, kept = draw.choices(mix, [m[2] for m in mix])[0]
        x, seeds = data.batch(time_, count, draw)
        x = x * scale
        context = prompts.features([captions.caption(world.sample(seed), draw.randrange(1 << 40))[0] for seed in seeds])
        if time_ < 13 or kept:
            # All tokens tell the whole: for small latents a few of them do, at a fraction of the cost.
            context = context[:, torch.randperm(context.shape[1])[:12]]
        context = context * (torch.rand(count, 1, 1) >= 0.1)
        t = timesteps(count, not kept)
        signal = rate_table[t].view(-1, 1, 1, 1, 1)
        noise = torch.randn_like(x)
        keep = near(seeds, time_, kept, net.patch) if kept else None
        with runs.half():
            v = net(signal * x + torch.sqrt(1 - signal**2) * noise, t, context, keep)
        target, weights = signal * noise - torch.sqrt(1 - signal**2) * x, emphasis(seeds, time_, t)
        if kept:
            target, weights = (pick(patches(part.expand_as(x), net.patch), keep) for part in (target, weights))
        error = (v - target).square()
        ((weights * error).mean() / weights.mean()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        runs.blend(average, net, step, 0.998)
        if not kept:
            running[time_] = runs.smoothed(running.get(time_), error.detach().mean().item())
        step += 1
        spent = earlier + time.time() - begun
        if time.time() - saved > 180 or now + 5 > a.seconds:
            entry = dict(step=step, spent=round(spent), **{f"loss{k}": round(v, 4) for k, v in sorted(running.items())})
            log.append(entry)
            print(json.dumps(entry), flush=True)
            runs.save(path, net=net.state_dict(), average=average, step=step, spent=spent, log=log, scale=scale, optimisers=[o.state_dict() for o in optimisers])
            saved = time.time()
            data.refresh()


if __name__ == "__main__":
    main()
