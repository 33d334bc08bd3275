# SPDX-License-Identifier: MPL-2.0
"""Trains the family in its faithful mode: one evaluation at t = 0, frame after frame with the memory carried along.

    python -m family.train DATA RUN --length 2 --seconds 1800
    python -m family.train DATA RUN --length 6 --seconds 7200

Writes RUN/state.pt every three minutes and goes on from it when started again; --seconds counts all sittings.  The learning rate stays
as it is but for the first hundred steps and, with --anneal, the last so many seconds; so there is no end that must be known.  SIGTERM
saves and ends.  prepare.py may go on beside it: new sequences are taken in whenever the state is saved.
"""

import argparse
import copy
import json
import os
import signal
import time

import torch
import torch.nn.functional as F

import losses
import optim
import runs
from family import data, export, model

# Errors of chroma are about a third of luma's.
CHROMA_SOFTNESS = 1 / 3


def group_at(groups, t, frames):
    """What `Family.forward` takes of frame t of a batch."""
    inputs = []
    for factor, y, c, x0, _, conditions, _ in groups:
        around = y[:, t : t + 3, 0] if frames == 3 else y[:, t + 1, :1]
        inputs.append((factor, x0[:, t], model.small_picture(around, c[:, t], factor), conditions[:, t]))
    return inputs


def unrolled(net, groups):
    """Velocities [T, n, 24, h, w] of a batch's clips, each from an empty memory."""
    count, (h, w) = sum(len(g[1]) for g in groups), groups[0][3].shape[-2:]
    state, out = net.first_state(count, h, w), []
    for t in range(groups[0][3].shape[1]):
        with runs.half():
            velocity, state = net(group_at(groups, t, net.frames), state)
        state = state.float()
        out.append(velocity.float())
    return torch.stack(out)


def objective(velocity, groups, softness, chroma_weight, steadiness, texture, texture_weight):
    """Loss of a batch: velocity, its change from frame to frame, texture energy of luma.

    The change is what flickers: noise that stays, and detail that comes and goes. Across a cut it means nothing.
    """
    x0 = torch.cat([g[3] for g in groups]).transpose(0, 1)
    x1 = torch.cat([g[4] for g in groups]).transpose(0, 1)
    cut = torch.cat([g[6] for g in groups])

    def distance(d):
        luma, chroma = d[..., : model.LUMA, :, :], d[..., model.LUMA :, :, :]
        return losses.charbonnier(luma, softness) + chroma_weight * losses.charbonnier(chroma, softness * CHROMA_SOFTNESS)

    error = x0 + velocity - x1
    loss = distance(error)
    if steadiness and len(error) > 1:
        same_scene = torch.arange(1, len(error))[:, None] != cut
        loss = loss + steadiness * distance(error.diff(dim=0)[same_scene])
    if texture_weight:
        shown = lambda x: F.pixel_shuffle(x[-1, :, : model.LUMA], model.BLOCK)
        loss = loss + texture_weight * texture(shown(x0 + velocity), shown(x1))
    return loss


def psnr(a, b):
    """Of pictures in model units, measured on 0..255 codes."""
    codes = lambda x: ((x + 1) * 127.5).round().clamp(0, 255)
    return (10 * torch.log10(255**2 / ((codes(a) - codes(b)) ** 2).mean().clamp_min(1e-2))).item()


@torch.no_grad()
def validate(net, pairs, frames=4):
    """Mean gains over the plain enlargement in dB: {"x4 y": ..., "x4 c": ...} of the last of `frames` frames, `clean` apart."""
    gains = {}
    for folder, name, factor in pairs:
        y, c, large_y, large_c, measures = data.held_out(folder, name)
        y, c = y[: frames + 1], c[: frames + 1]
        conditions = [model.condition(factor, measures=m) for m in measures]
        with runs.half():
            ours = model.enhance(net, y, c, factor, conditions)
        start = model.planes(model.plain(y[frames - 1 : frames], c[frames - 1 : frames], factor))
        kind = "clean" if data.about(folder)[name]["kind"] == "clean" else "worn"
        for plane, (mine, plain, truth) in zip("yc", zip(ours, start, (large_y, large_c))):
            truth = truth[frames - 1 : frames]
            gains.setdefault(f"x{factor} {kind} {plane}", []).append(psnr(mine[frames - 1 : frames], truth) - psnr(plain, truth))
    return {k: round(sum(v) / len(v), 3) for k, v in sorted(gains.items())}


def counts_of(text):
    return {int(f): int(n) for f, n in (part.split(":") for part in text.split(","))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("run")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--chain", action="store_true", help="plain layers instead of residual pairs")
    parser.add_argument("--frames", type=int, choices=(1, 3), default=3)
    parser.add_argument("--state", type=int, default=16)
    parser.add_argument("--no-echo", action="store_true", help="heads read x and the state alone")
    parser.add_argument("--init", help="milestone of this family, or an exported model of the one before, to start a new run from")
    parser.add_argument("--counts", type=counts_of, default="4:4,2:2,1:2", help="clips of each factor in a batch")
    parser.add_argument("--patch", type=int, default=40, help="places of the grid, even")
    parser.add_argument("--length", type=int, default=6, help="frames of a clip, up to 8")
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--softness", type=float, default=0.01, help="of losses.charbonnier")
    parser.add_argument("--chroma", type=float, default=1.5, help="weight of chroma's error beside luma's")
    parser.add_argument("--steadiness", type=float, default=0.3, help="weight of the change from frame to frame")
    parser.add_argument("--texture", type=float, default=0.0, help="weight of losses.TextureEnergy")
    parser.add_argument("--plain", type=float, default=data.PLAIN, help="share of clips of one value or slope")
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument("--seconds", type=float, default=5400)
    parser.add_argument("--anneal", type=float, default=0, help="the learning rate falls to a hundredth over the last so many seconds")
    parser.add_argument("--validate-every", type=float, default=600)
    parser.add_argument("--validate-on", type=int, default=10, help="sequences")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.makedirs(args.run, exist_ok=True)
    net = model.Family(args.channels, args.layers, not args.chain, args.frames, args.state, not args.no_echo)
    net.to(memory_format=torch.channels_last)
    if args.init:
        export.initialise(net, args.init)
    optimizers = optim.build(net, "muon", args.lr)
    base = [[g["lr"] for g in o.param_groups] for o in optimizers]
    average = {k: v.clone() for k, v in net.state_dict().items()}
    spent, step, log = 0.0, 0, []
    state_path = f"{args.run}/state.pt"
    if os.path.exists(state_path):
        average, spent, step, log = runs.resume(state_path, net, optimizers)
    sequences = data.Sequences(args.data, args.seed + step, args.plain)
    texture, averaged = losses.TextureEnergy(), copy.deepcopy(net)

    def save():
        kept = dict(net=net.state_dict(), average=average, optimizers=[o.state_dict() for o in optimizers])
        runs.save(state_path, spent=spent, step=step, log=log, config=net.config, args=vars(args), **kept)

    ending = []
    signal.signal(signal.SIGTERM, lambda *_: ending.append(True))
    cost = ", ".join(f"x{f} {net.macs_per_pixel(f):.0f}" for f in model.SCALES)
    print(f"{sum(p.numel() for p in net.parameters())} parameters; multiply-adds for a pixel of the output: {cost}", flush=True)
    last, saved, validated, running = time.time(), spent, spent, None
    while spent < args.seconds and not ending:
        left = (args.seconds - spent) / args.anneal if args.anneal else 1
        factor = min(1.0, (step + 1) / 100) * min(1.0, max(0.01, left))
        for o, lrs in zip(optimizers, base):
            for g, lr in zip(o.param_groups, lrs):
                g["lr"] = lr * factor
        groups = sequences.batch(args.counts, args.patch, args.length)
        loss = objective(unrolled(net, groups), groups, args.softness, args.chroma, args.steadiness, texture, args.texture)
        for o in optimizers:
            o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for o in optimizers:
            o.step()
        runs.blend(average, net, step, args.average)
        running = runs.smoothed(running, loss.detach())
        step += 1
        now = time.time()
        # A process that was stopped in between did not train.
        spent += min(now - last, 60)
        last = now
        if spent - validated > args.validate_every or spent >= args.seconds or ending:
            averaged.load_state_dict(average)
            gains = validate(averaged, data.validation(args.data, args.validate_on)) if not ending else {}
            shape = dict(length=args.length, sequences=len(sequences.names))
            log.append(dict(step=step, seconds=round(spent), loss=round(running.item(), 5), **shape, **gains))
            print(json.dumps(log[-1]), flush=True)
            validated, last = spent, time.time()
        if spent - saved > 180:
            save()
            sequences.refresh()
            saved = spent
    save()


if __name__ == "__main__":
    main()
