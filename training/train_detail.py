# SPDX-License-Identifier: MPL-2.0
"""Trains the detail expert: the network that is used when the flow starts from noise.

    train_detail.py DATA RUN --init FAITHFUL_RUN --seconds 3600

Starts from the faithful weights. The end point x1 that a velocity points at is asked to be near the truth (Charbonnier), to look like it
(perceptual.distance, .texture_distance), to have its spectrum, no grid and no specks (losses.spectral_distance, .grid_distance, .speck_distance), and to pass for a
true picture (perceptual.Discriminator); states at t > 0 are those that the solver visits. How much looks weigh is steered so that
pictures lose `--lose` dB against the faithful network's. Noise of a random strength up to sigma, so that the strength stays a knob.
"""

import argparse
import copy
import json
import math
import os
import random
import time

import torch
import torch.nn.functional as F

import data
import export
import losses
import model
import optim
import perceptual
import runs
import train

STEPS = 4
"""Evaluations that the detail mode is made for."""
LOOKS = dict(distance=1.0, texture=0.7, adversary=0.8, grid=0.4, spectrum=0.7, specks=0.4)
"""Gradients at the picture, relative to each other."""
CRITIC_EVERY = 2
"""Steps from one with the discriminator to the next: it costs a quarter of a step. Divides Balance.EVERY."""
MOST = 8.0
"""How much looks may weigh against nearness."""
CALM_EVERY = 4
"""Steps from one comparison with the faithful network to the next."""


@torch.no_grad()
def validate(net, sets, sigma, features):
    """Gain over plain enlargement in dB, and distances of looks and texture relative to the plain one's, with all steps."""
    result = {}
    generator = torch.Generator().manual_seed(5)
    for name, pairs in sets.items():
        gain, ours_looks, plain_looks = 0.0, [0.0, 0.0], [0.0, 0.0]
        for hr, lr in pairs:
            middle = lr.shape[1] // 2
            reference = model.reference_latent(lr[:, middle : middle + 1])
            noise = torch.randn(reference.shape, generator=generator).to(lr.device)
            with runs.half(lr.device):
                ours = model.sample(net, lr, STEPS if sigma > 0 else 1, sigma, noise)
            plain = F.pixel_shuffle(reference, model.FACTOR)
            gain += train.psnr(ours, hr) - train.psnr(plain, hr)
            wanted = features(hr)
            for picture, sums in ((ours, ours_looks), (plain, plain_looks)):
                maps = features(picture)
                sums[0] += perceptual.distance(maps, wanted).item()
                sums[1] += perceptual.texture_distance(maps, wanted).item()
        result[name] = round(gain / len(pairs), 3)
        result[f"{name}_looks"] = round(ours_looks[0] / plain_looks[0], 3)
        result[f"{name}_texture"] = round(ours_looks[1] / plain_looks[1], 3)
    return result


class Balance:
    """Factors for losses so that their gradients at the picture have given sizes relative to the fidelity's; measured anew every few steps."""

    EVERY = 8

    def __init__(self, shares):
        self.shares, self.factors = shares, {name: 0.0 for name in shares}

    def measure(self, end, fidelity, others, step):
        if step % self.EVERY:
            return
        size = torch.autograd.grad(fidelity, end, retain_graph=True)[0].norm().item()
        for name, loss in others.items():
            own = torch.autograd.grad(loss, end, retain_graph=True)[0].norm().item()
            factor = self.shares[name] * size / (own + 1e-12)
            old = self.factors[name] or factor
            self.factors[name] = old * math.exp(max(-0.2, min(0.2, math.log(factor / old))))


def decibels(picture, truth):
    """Of each [n, ...]: the error in dB."""
    return 10 * torch.log10((picture - truth).square().flatten(1).mean(1) + 1e-5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("run")
    parser.add_argument("--init", required=True, help="faithful run folder, or exported file")
    parser.add_argument("--begin", help="run folder of a detail expert to start from instead")
    parser.add_argument("--sigma", type=float, default=0.005)
    parser.add_argument("--lose", type=float, default=0.55, help="dB that looks may cost on a training crop")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seconds", type=float, default=1500)
    parser.add_argument("--validate-every", type=float, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default=runs.fastest_device())
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    os.makedirs(args.run, exist_ok=True)
    weights, config = export.start_from(args.init)
    place = lambda module: module.to(args.device, memory_format=torch.channels_last)
    faithful = place(model.Compact(**config))
    faithful.load_state_dict(weights)
    net = copy.deepcopy(faithful)
    critic, features = place(perceptual.Discriminator()), perceptual.Features(args.device)
    if args.begin:
        net.load_state_dict(export.averaged(args.begin)[0])
        critic.load_state_dict(runs.load(f"{args.begin}/state.pt")["critic"])
    optimizers = [
        *optim.build(net, "muon", args.lr),
        torch.optim.AdamW(critic.parameters(), 2 * args.lr, betas=(0.5, 0.99), weight_decay=1e-4),
    ]
    base = [[g["lr"] for g in o.param_groups] for o in optimizers]
    average = {k: v.clone() for k, v in net.state_dict().items()}
    spent, step, log, weight, lost = 0.0, 0, [], 0.5, 0.0
    state_path = f"{args.run}/state.pt"
    if os.path.exists(state_path):
        state = runs.load(state_path)
        net.load_state_dict(state["net"])
        critic.load_state_dict(state["critic"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        average, spent, step, log = state["average"], state["spent"], state["step"], state["log"]
        average = {k: v.to(args.device) for k, v in average.items()}
        weight, lost = state["weight"], state["lost"]
    sequences = data.Sequences(args.data, args.seed + step, args.device)
    held_out = {k: v[:12] for k, v in data.validation(args.data, config["frames"], args.device).items()}
    grid, balance = model.time_grid(STEPS).to(args.device), Balance(LOOKS)
    averaged = copy.deepcopy(net)
    if step == 0:
        print(json.dumps(validate(faithful, held_out, 0.0, features)), flush=True)

    last, saved, validated, running = time.time(), spent, spent, [None] * 4
    calm = judged = None
    while spent < args.seconds:
        factor = min(1.0, (step + 1) / 50) * max(0.02, 1 - (spent / args.seconds) ** 1.5)
        for optimizer, rates in zip(optimizers, base):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * factor
        hr, lr = sequences.batch(args.batch, args.patch, config["frames"])
        n, middle = hr.shape[0], config["frames"] // 2
        sigma = args.sigma * (0.25 + 0.75 * torch.rand(n, device=args.device))
        reference = model.reference_latent(lr[:, middle : middle + 1])
        x = reference + sigma[:, None, None, None] * torch.randn_like(reference)
        visited = random.choice((0, 0, 0, 0, 1, 2, 3))
        # Features are taken every few pixels: always at the same ones of each 4x4, they would teach a grid.
        down, right, side = random.randrange(8), random.randrange(8), model.FACTOR * args.patch - 8
        seen = lambda picture: features(picture[..., down : down + side, right : right + side])
        with torch.no_grad(), runs.half(args.device):
            for at, after in zip(grid[:visited], grid[1:]):
                x = x + (after - at) * net(x, lr, at.expand(n), sigma).float()
            if step % CALM_EVERY == 0 or calm is None:
                zero = torch.zeros(n, device=args.device)
                calm = F.pixel_shuffle(reference + faithful(reference, lr, zero, zero).float(), model.FACTOR)
            wanted, plain = seen(hr), seen(F.pixel_shuffle(reference, model.FACTOR))
        with runs.half(args.device):
            latent = x + (1 - grid[visited]) * net(x, lr, grid[visited].expand(n), sigma).float()
            end = F.pixel_shuffle(latent, model.FACTOR)
            maps = seen(end)
        fidelity = losses.charbonnier(end - hr)
        looks, texture = perceptual.distance(maps, wanted), perceptual.texture_distance(maps, wanted)
        others = dict(distance=looks, texture=texture, grid=losses.grid_distance(end, hr))
        others |= dict(spectrum=losses.spectral_distance(end, hr), specks=losses.speck_distance(end, hr))
        if step % CRITIC_EVERY == 0 or judged is None:
            with runs.half(args.device):
                made = [m.detach() for m in maps]
                judged = perceptual.preferred(critic(wanted, plain), critic(made, plain))
            optimizers[-1].zero_grad(set_to_none=True)
            judged.backward()
            optimizers[-1].step()
            with runs.half(args.device):
                with torch.no_grad():
                    true_scores = critic(wanted, plain)
                others["adversary"] = perceptual.preferred(critic(maps, plain), true_scores)
        balance.measure(end, fidelity, others, step)
        loss = fidelity + weight * sum(balance.factors[name] * other for name, other in others.items())
        for optimizer in optimizers[:-1]:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimizer in optimizers[:-1]:
            optimizer.step()
        runs.blend(average, net, step, 0.998)
        busy = hr.flatten(1).std(1) > 0.01
        if busy.any() and step % CALM_EVERY == 0:
            lost += 0.08 * ((decibels(end.detach(), hr) - decibels(calm, hr))[busy].mean().item() - lost)
        weight = min(MOST, weight * math.exp(0.01 * max(-1.0, min(1.0, args.lose - lost))))
        running = [runs.smoothed(old, new.item()) for old, new in zip(running, (fidelity, judged, looks, texture))]
        step += 1
        now = time.time()
        spent += now - last
        last = now
        if spent - validated > args.validate_every or spent >= args.seconds:
            averaged.load_state_dict(average)
            names = ("loss", "critic", "looks", "texture")
            log.append(dict(step=step, seconds=round(spent), weight=round(weight, 3), lost=round(lost, 3)))
            log[-1] |= {k: round(v, 5) for k, v in zip(names, running)}
            log[-1] |= validate(averaged, held_out, args.sigma, features)
            print(json.dumps(log[-1]), flush=True)
            sequences.refresh()
            validated, last = spent, time.time()
        if spent - saved > 120 or spent >= args.seconds:
            runs.save(
                state_path,
                net=net.state_dict(),
                average=average,
                critic=critic.state_dict(),
                optimizers=[o.state_dict() for o in optimizers],
                spent=spent,
                step=step,
                weight=weight,
                lost=lost,
                log=log,
                config=config,
                args=vars(args),
            )
            saved = spent


if __name__ == "__main__":
    main()
