# SPDX-License-Identifier: MPL-2.0
"""Writes a run of the family as a safetensors file (f16), and starts runs from such files and from the models before it.

    python -m family.export RUN OUT.safetensors [--fixture FIXTURE.safetensors]

The file has the averaged weights only.  Kernels keep PyTorch's [out, in, 3, 3]; heads are `heads.1`, `heads.2` and `heads.4`.  These read x (16 luma,
4 Cb, 4 Cr), then luma of the previous, the current and the next small frame, then Cb and Cr, then the state; where a plane has several
values at a place they are its rows one after another, as PyTorch's pixel_unshuffle puts them.
In a chain the identity branches are merged into the kernels.  The fixture holds inputs and outputs of the exported (f16-rounded) weights
in f32 arithmetic, three frames for each factor, for the parity test of other implementations.
"""

import argparse

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import export as compact
import runs
from family import model

FORMAT = "flashvideo-family"


def config_of(metadata):
    flags, numbers = ("residual", "echo"), ("channels", "layers", "frames", "state")
    return {k: int(metadata[k]) for k in numbers} | {k: metadata[k] == "true" for k in flags}


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def load(source):
    """The network of a run's folder (its averaged weights) or of an exported file."""
    if source.endswith(".safetensors"):
        config = config_of(metadata_of(source))
        weights = compact.unmerged(load_file(source), config)
    else:
        state = runs.load(f"{source}/state.pt")
        config, weights = state["config"], state["average"]
    net = model.Family(**config)
    net.load_state_dict(weights)
    return net.to(memory_format=torch.channels_last).eval()


def initialise(net, path):
    """Starts `net` from an exported file of this family, or from as much as fits of one of the family before it (models/builtin.safetensors)."""
    if metadata_of(path)["format"] == FORMAT:
        net.load_state_dict(load(path).state_dict())
        return
    weights, config = compact.start_from(path)
    if config["channels"] != net.channels or config["residual"] != net.residual:
        raise SystemExit(f"{path} has {config['channels']} channels, residual {config['residual']}: expected those of the new network")
    own = net.state_dict()
    for index in range(min(config["layers"], len(net.body))):
        for part in ("weight", "bias"):
            own[f"body.{index}.{part}"].copy_(weights[f"body.{index}.{part}"])
    for index in range(min(len(net.acts), config["layers"] // (2 if net.residual else 1))):
        own[f"acts.{index}.weight"].copy_(weights[f"acts.{index}.weight"])
    own["head_act.weight"].copy_(weights["head_act.weight"])
    # The state x is as it was, chroma beside it; of the small frames only those of the factor 4 are.
    luma, frames = model.LUMA, config["frames"]
    for factor in model.SCALES:
        head = own[f"heads.{factor}.weight"]
        head.mul_(0.1)
        head[:, :luma].copy_(weights["head.weight"][:, :luma])
        if factor == 4 and net.echo and net.frames == frames:
            head[:, model.LATENT : model.LATENT + frames].copy_(weights["head.weight"][:, luma:])
        own[f"heads.{factor}.bias"].copy_(weights["head.bias"])
    own["tail.weight"][:luma].copy_(weights["tail.weight"])
    own["tail.bias"][:luma].copy_(weights["tail.bias"])
    # What the old condition was at t = 0 without noise.
    film = F.linear(F.silu(F.linear(torch.zeros(2), weights["embed.weight"], weights["embed.bias"])), weights["film.weight"], weights["film.bias"])
    shared = min(len(film), len(own["film.bias"]))
    own["film.bias"][:shared].copy_(film[:shared])
    net.load_state_dict(own)


def fixture(net):
    """{name: tensor}: small frames of each factor, the start of the flow, and velocity and state of three frames in order."""
    generator, out = torch.Generator().manual_seed(11), {}
    rows, columns, count = 12, 14, 3
    for factor in model.SCALES:
        side = model.BLOCK // factor
        waves = torch.sin(torch.linspace(0, 9, rows * side)[:, None] + torch.linspace(0, 13, columns * side)) * 0.5
        y = (waves + 0.1 * torch.randn(count, 1, *waves.shape, generator=generator)).clamp(-0.87, 0.84)
        c = (0.3 * torch.randn(count, 2, rows * side // 2, columns * side // 2, generator=generator)).clamp(-0.87, 0.88)
        conditions = [model.condition(factor, measures=[0.2, 0.3, 0.5]), model.condition(factor), model.condition(factor, 0.5, 0.25, [1.0, 0.5, 0.1])]
        out |= {f"x{factor}.y": y, f"x{factor}.c": c, f"x{factor}.condition": torch.tensor(conditions)}
        state = net.first_state(1, rows, columns)
        with torch.no_grad():
            for index, around in enumerate(model.window(y, net.frames)):
                x = model.plain(y[index][None], c[index][None], factor)
                small = model.small_picture(y[around].transpose(0, 1), c[index][None], factor)
                velocity, state = net([(factor, x, small, torch.tensor([conditions[index]]))], state)
                out |= {f"x{factor}.{index}.{k}": v for k, v in dict(plain=x, small=small, velocity=velocity, state=state).items()}
    return {k: v.contiguous() for k, v in out.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("out")
    parser.add_argument("--fixture")
    args = parser.parse_args()
    net = load(args.run)
    weights = compact.merged(net.state_dict(), net.config)
    metadata = dict(format=FORMAT, version="1") | {k: str(v).lower() for k, v in net.config.items()}
    save_file({k: v.to(torch.float16).contiguous() for k, v in weights.items()}, args.out, metadata)
    if args.fixture:
        save_file(fixture(load(args.out)), args.fixture, metadata)


if __name__ == "__main__":
    main()
