# SPDX-License-Identifier: MPL-2.0
"""Trains the causal VAE on drawn scenes and photographs.

    python -m storybook.train_vae RUN [--photos FOLDER] --seconds 1500 [--decoder-only]

Writes RUN/vae.pt every two minutes and goes on from it when started again. With --decoder-only the latents stay as they are, so that a transformer
trained on them stays valid while the pictures get better.
"""

import argparse
import glob
import json
import os
import random
import time

import cv2
import numpy as np
import torch
import torch.nn.functional as F

import optim
import runs

from . import world
from .render import Renderer
from .vae import Vae


class Pictures:
    """Batches `[n, 3, time, height, width]` in -1..1: single frames, whole or cropped, and cropped clips."""

    def __init__(self, photos, seed):
        self.draw = random.Random(seed)
        self.renderer = Renderer()
        self.photos = [cv2.imread(path) for path in sorted(glob.glob(os.path.join(photos, "*.webp")))] if photos else []
        self.photos = [cv2.cvtColor(p, cv2.COLOR_BGR2RGB) for p in self.photos if p is not None]

    def frame(self):
        if self.photos and self.draw.random() < 0.15:
            photo = self.draw.choice(self.photos)
            height, width = photo.shape[:2]
            share = self.draw.uniform(0.5, 1)
            h = min(int(share * height), int(share * width * 0.6))
            w = int(h / 0.6)
            y, x = self.draw.randrange(height - h + 1), self.draw.randrange(width - w + 1)
            return cv2.resize(photo[y : y + h, x : x + w], (world.WIDTH, world.HEIGHT), interpolation=cv2.INTER_AREA)
        return self.renderer.frame(world.sample(self.draw.randrange(1 << 40)), self.draw.randrange(world.FRAMES))

    def crop(self, height, width):
        """A corner on the grid of latents."""
        return 16 * self.draw.randrange((world.HEIGHT - height) // 16 + 1), 16 * self.draw.randrange((world.WIDTH - width) // 16 + 1)

    def batch(self, kind):
        if kind == "whole":
            frames = np.stack([self.frame()])[None]
        elif kind == "crops":
            # Small and many: early on the number of steps counts, and every pixel teaches.
            frames = []
            for _ in range(2):
                frame = self.frame()
                for _ in range(2):
                    y, x = self.crop(96, 96)
                    frames.append(frame[None, y : y + 96, x : x + 96])
            frames = np.stack(frames)
        else:
            scene, first = world.sample(self.draw.randrange(1 << 40)), self.draw.randrange(40)
            y, x = self.crop(96, 112)
            # Where the object is, as often as elsewhere: it is what moves.
            if self.draw.random() < 0.7:
                ox, oy, _ = scene.path()(first + 4)
                y, x = int(np.clip(oy - 48, 0, 192)) // 16 * 16, int(np.clip(ox - 56, 0, 368)) // 16 * 16
            frames = np.stack([self.renderer.frame(scene, first + i)[y : y + 96, x : x + 112] for i in range(9)])[None]
        x = torch.from_numpy(frames).float().permute(0, 4, 1, 2, 3)
        return x / 127.5 - 1


def picture_loss(y, x):
    """Absolute error of the pixels and of their differences, so that edges stay sharp."""
    loss = (y - x).abs().mean()
    for axis in (3, 4):
        loss = loss + (y.diff(dim=axis) - x.diff(dim=axis)).abs().mean()
    return loss


def build(decoder_only):
    net = Vae(**Vae.CONFIG)
    if decoder_only:
        net.encoder.requires_grad_(False)
    kernels = [p for name, p in net.named_parameters() if p.dim() > 3 and p.shape[2:].numel() > 1 and p.requires_grad]
    rest = [p for p in net.parameters() if p.requires_grad and not any(p is k for k in kernels)]
    return net, [optim.Muon(kernels, 0.01, weight_decay=0.01), torch.optim.AdamW(rest, 1e-3, betas=(0.9, 0.99), weight_decay=1e-4)], [0.01, 1e-3]


@torch.no_grad()
def validate(net):
    """Mean PSNR over whole unseen frames and one unseen clip, in dB."""
    renderer, result = Renderer(), {}
    for name, frames, seeds in (("frames", 1, range(8)), ("clip", 9, range(1))):
        errors = []
        for seed in seeds:
            clip = renderer.clip(world.sample(seed, test=True), frames)
            x = torch.from_numpy(clip).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
            with runs.half():
                y = net.decode(net.moments(x)[0]).float().clamp(-1, 1)
            errors.append(-10 * torch.log10(F.mse_loss(y, x) / 4).item())
        result[name] = round(sum(errors) / len(errors), 2)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("--photos", default="")
    parser.add_argument("--seconds", type=float, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kl", type=float, default=5e-4)
    parser.add_argument("--decoder-only", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    os.makedirs(a.run, exist_ok=True)
    path = os.path.join(a.run, "vae.pt")
    net, optimisers, rates = build(a.decoder_only)
    average, step, spent, log = {k: v.clone() for k, v in net.state_dict().items()}, 0, 0.0, []
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        average, step, log = state["average"], state["step"], state["log"]
        if state["decoder_only"] == a.decoder_only:
            spent = state["spent"]
            for optimiser, saved in zip(optimisers, state["optimisers"]):
                optimiser.load_state_dict(saved)
    pictures, running = Pictures(a.photos, step + 1), None
    saved = begun = time.time()
    earlier = spent
    while spent < a.seconds:
        share = spent / a.seconds
        rate = min(1, (step + 1) / 50) * (1 if share < 0.5 else max(0.02, 2 * (1 - share)))
        for optimiser, peak in zip(optimisers, rates):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate
        kind = "crops" if share < 0.35 else ("clip", "crops", "clip", "whole", "clip", "crops")[step % 6]
        x = pictures.batch(kind)
        with runs.half():
            mean, logvar = net.moments(x)
            z = mean if a.decoder_only else mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
            y = net.decode(z)
        loss = picture_loss(y.float(), x)
        kl = 0.5 * (mean.float() ** 2 + logvar.float().exp() - 1 - logvar.float()).mean()
        total = loss if a.decoder_only else loss + a.kl * kl
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        runs.blend(average, net, step, 0.998)
        running = runs.smoothed(running, loss.item())
        step += 1
        spent = earlier + time.time() - begun
        if time.time() - saved > 120 or spent >= a.seconds:
            test, _, _ = build(True)
            test.load_state_dict(average)
            entry = dict(step=step, spent=round(spent), loss=round(running, 4), kl=round(kl.item(), 2), std=round(mean.float().std().item(), 3), **validate(test))
            log.append(entry)
            print(json.dumps(entry), flush=True)
            runs.save(path, net=net.state_dict(), average=average, step=step, spent=spent, log=log, decoder_only=a.decoder_only, optimisers=[o.state_dict() for o in optimisers])
            saved = time.time()


if __name__ == "__main__":
    main()
