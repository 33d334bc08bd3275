# SPDX-License-Identifier: MPL-2.0
"""Trains the compact flow model in its faithful mode (no noise in the start of the flow).

    train.py DATA RUN --channels 48 --layers 12 --frames 3 --residual --seconds 5400

Writes RUN/state.pt every two minutes and goes on from it when started again; the learning rate follows
the seconds already trained, so a run may be cut into any number of sittings.  Trains on a GPU if there is one; prepare.py
may go on beside it: new sequences are taken in at each validation.
"""

import argparse
import copy
import json
import os
import time

import torch
import torch.nn.functional as F

import data
import export
import losses
import model
import optim
import runs


def psnr(a, b):
    """Of pictures in model units, measured on 0..255 codes."""
    codes = lambda x: ((x + 1) * 127.5).round().clamp(0, 255)
    return (10 * torch.log10(255**2 / ((codes(a) - codes(b)) ** 2).mean().clamp_min(1e-9))).item()


@torch.no_grad()
def validate(net, sets):
    """Mean gain over the reference (plain Catmull-Rom), in dB, for each variant."""
    gains = {}
    for name, pairs in sets.items():
        total = 0.0
        for hr, lr in pairs:
            with runs.half(lr.device):
                ours = model.sample(net, lr)
            middle = lr.shape[1] // 2
            plain = F.pixel_shuffle(model.reference_latent(lr[:, middle : middle + 1]), model.FACTOR)
            total += psnr(ours, hr) - psnr(plain, hr)
        gains[name] = round(total / len(pairs), 3)
    return gains


def flow_batch(net, hr, lr, again):
    """Start, position and times of one training batch.

    Mostly t = 0. With `again`, x_t is a place that the solver really visits at t > 0: on the straight
    line from x0 along the network's own first velocity, not along the true one, which would give the
    answer away.
    """
    x1 = F.pixel_unshuffle(hr, model.FACTOR)
    middle = lr.shape[1] // 2
    x0 = model.reference_latent(lr[:, middle : middle + 1])
    n = hr.shape[0]
    t, sigma = torch.zeros(n, device=lr.device), torch.zeros(n, device=lr.device)
    xt = x0
    if again:
        with torch.no_grad(), runs.half(lr.device):
            first = net(x0, lr, t, sigma).float()
        t = 0.1 + 0.75 * torch.rand(n, device=lr.device)
        xt = x0 + t[:, None, None, None] * first
    return x0, x1, xt, t, sigma


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("run")
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--residual", action="store_true")
    parser.add_argument("--init", help="run folder or exported file to start from; must have the same shape")
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--texture", type=float, default=0.0, help="weight of losses.TextureEnergy")
    parser.add_argument("--softness", type=float, default=1e-3, help="of losses.charbonnier")
    parser.add_argument("--plain", type=float, default=data.PLAIN, help="share of crops of one value or slope")
    parser.add_argument("--optimizer", choices=("adam", "muon"), default="muon")
    parser.add_argument("--seconds", type=float, default=5400)
    parser.add_argument("--validate-every", type=float, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default=runs.fastest_device())
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(args.seed)
    os.makedirs(args.run, exist_ok=True)
    net = model.Compact(args.channels, args.layers, args.frames, args.residual)
    net = net.to(args.device, memory_format=torch.channels_last)
    if args.init:
        net.load_state_dict(export.start_from(args.init)[0])
    optimizers = optim.build(net, args.optimizer, args.lr)
    base = [[g["lr"] for g in o.param_groups] for o in optimizers]
    average = {k: v.clone() for k, v in net.state_dict().items()}
    spent, step, log = 0.0, 0, []
    state_path = f"{args.run}/state.pt"
    if os.path.exists(state_path):
        average, spent, step, log = runs.resume(state_path, net, optimizers)
        average = {k: v.to(args.device) for k, v in average.items()}
    sequences = data.Sequences(args.data, args.seed + step, args.device, args.plain)
    held_out = data.validation(args.data, args.frames, args.device)
    texture = losses.TextureEnergy()
    averaged = copy.deepcopy(net)
    velocity_of = torch.compile(net) if args.device.startswith("cuda") else net

    def save():
        runs.save(
            state_path,
            net=net.state_dict(),
            average=average,
            optimizers=[o.state_dict() for o in optimizers],
            spent=spent,
            step=step,
            log=log,
            config=net.config,
            args=vars(args),
        )

    print(f"{sum(p.numel() for p in net.parameters())} parameters, {net.macs_per_pixel()} MAC per pixel", flush=True)
    last, saved, validated, running = time.time(), spent, spent, None
    while spent < args.seconds:
        progress = spent / args.seconds
        factor = min(1.0, (step + 1) / 100) * max(0.01, 1 - progress**1.5)
        for o, lrs in zip(optimizers, base):
            for g, lr in zip(o.param_groups, lrs):
                g["lr"] = lr * factor
        hr, lr = sequences.batch(args.batch, args.patch, args.frames)
        x0, x1, xt, t, sigma = flow_batch(net, hr, lr, again=step % 8 == 7)
        with runs.half(args.device):
            velocity = velocity_of(xt, lr, t, sigma).float()
        loss = losses.charbonnier(velocity - (x1 - x0), args.softness)
        if args.texture > 0:
            end = F.pixel_shuffle(x0 + velocity, model.FACTOR)
            loss = loss + args.texture * texture(end, hr)
        for o in optimizers:
            o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for o in optimizers:
            o.step()
        runs.blend(average, net, step, 0.998)
        running = runs.smoothed(running, loss.detach())
        step += 1
        now = time.time()
        spent += now - last
        last = now
        if spent - validated > args.validate_every or spent >= args.seconds:
            averaged.load_state_dict(average)
            gains = validate(averaged, held_out)
            log.append(dict(step=step, seconds=round(spent), loss=round(running.item(), 5), **gains))
            print(json.dumps(log[-1]), flush=True)
            sequences.refresh()
            validated, last = spent, time.time()
        if spent - saved > 120 or spent >= args.seconds:
            save()
            saved = spent


if __name__ == "__main__":
    main()
