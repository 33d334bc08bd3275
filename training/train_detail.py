"""Trains the detail expert: the network that is used when the flow starts from noise.

    train_detail.py DATA RUN --init FAITHFUL_RUN --sigma 0.1 --texture 1.0 --seconds 1500

Starts from the faithful weights. The end point x1 that a velocity points at is asked to be near the truth
(Charbonnier) and to have the truth's texture energy (losses.TextureEnergy); states at t > 0 lie on the network's own
path, as in train.py. Noise of a random strength up to sigma, so that the strength stays a knob.
"""

import argparse
import json
import os
import time

import torch
import torch.nn.functional as F

import data
import export
import losses
import model
import runs
import train


@torch.no_grad()
def validate(net, sets, sigma, texture):
    """Gain over plain enlargement in dB, and texture distance relative to the plain one's, with 4 steps."""
    result = {}
    generator = torch.Generator().manual_seed(5)
    for name, pairs in sets.items():
        gain, distance, plain_distance = 0.0, 0.0, 0.0
        for hr, lr in pairs:
            middle = lr.shape[1] // 2
            reference = model.reference_latent(lr[:, middle : middle + 1])
            noise = torch.randn(reference.shape, generator=generator)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                ours = model.sample(net, lr, 4, sigma, noise)
            plain = F.pixel_shuffle(reference, model.FACTOR)
            gain += train.psnr(ours, hr) - train.psnr(plain, hr)
            distance += texture(ours, hr).item()
            plain_distance += texture(plain, hr).item()
        result[name] = round(gain / len(pairs), 3)
        result[f"{name}_texture"] = round(distance / plain_distance, 3)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("run")
    parser.add_argument("--init", required=True, help="faithful run folder, or exported file")
    parser.add_argument("--sigma", type=float, default=0.1)
    parser.add_argument("--texture", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seconds", type=float, default=1500)
    parser.add_argument("--validate-every", type=float, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    os.makedirs(args.run, exist_ok=True)
    weights, config = export.start_from(args.init)
    net = model.Compact(**config).to(memory_format=torch.channels_last)
    net.load_state_dict(weights)
    optimizer = torch.optim.AdamW(net.parameters(), args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    average = {k: v.clone() for k, v in net.state_dict().items()}
    spent, step, log = 0.0, 0, []
    state_path = f"{args.run}/state.pt"
    if os.path.exists(state_path):
        state = torch.load(state_path, weights_only=False)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        average, spent, step, log = state["average"], state["spent"], state["step"], state["log"]
    sequences = data.Sequences(args.data, args.seed + step)
    held_out = {k: v[:12] for k, v in data.validation(args.data, config["frames"]).items()}
    texture = losses.TextureEnergy()
    averaged = model.Compact(**config).to(memory_format=torch.channels_last)

    last, saved, validated, running = time.time(), spent, spent, None
    while spent < args.seconds:
        factor = min(1.0, (step + 1) / 50) * max(0.02, 1 - (spent / args.seconds) ** 1.5)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * factor
        hr, lr = sequences.batch(args.batch, args.patch, config["frames"])
        n, middle = hr.shape[0], config["frames"] // 2
        sigma = args.sigma * (0.25 + 0.75 * torch.rand(n))
        x0 = model.reference_latent(lr[:, middle : middle + 1])
        x0 = x0 + sigma[:, None, None, None] * torch.randn_like(x0)
        t, xt = torch.zeros(n), x0
        if step % 3 == 2:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                first = net(x0, lr, t, sigma).float()
            t = 0.1 + 0.5 * torch.rand(n)
            xt = x0 + t[:, None, None, None] * first
        with torch.autocast("cpu", dtype=torch.bfloat16):
            velocity = net(xt, lr, t, sigma).float()
        end = F.pixel_shuffle(xt + (1 - t)[:, None, None, None] * velocity, model.FACTOR)
        loss = losses.charbonnier(end - hr) + args.texture * texture(end, hr)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        runs.blend(average, net, step, 0.995)
        running = runs.smoothed(running, loss.item())
        step += 1
        now = time.time()
        spent += now - last
        last = now
        if spent - validated > args.validate_every or spent >= args.seconds:
            averaged.load_state_dict(average)
            log.append(dict(step=step, seconds=round(spent), loss=round(running, 5)))
            log[-1] |= validate(averaged, held_out, args.sigma, texture)
            print(json.dumps(log[-1]), flush=True)
            validated, last = spent, time.time()
        if spent - saved > 120 or spent >= args.seconds:
            runs.save(
                state_path,
                net=net.state_dict(),
                average=average,
                optimizer=optimizer.state_dict(),
                spent=spent,
                step=step,
                log=log,
                config=config,
                args=vars(args),
            )
            saved = spent


if __name__ == "__main__":
    main()
