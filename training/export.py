# SPDX-License-Identifier: MPL-2.0
"""Writes a trained compact model as the safetensors file that is built into the plugin.

    export.py RUN OUT.safetensors [--soup RUN ...] [--detail RUN2 --detail-share 0.6] [--default-steps 1] [--fixture FIXTURE.safetensors]

RUN is a run's folder, or an exported file whose faithful weights and ranges (calibrate.py) are to stay.  RUN2 likewise: of an
exported file the detail expert stays as it is.  --soup takes the mean of the weights of several runs that went on from one.

Weights are stored in f16.  The identity branches of a plain chain are merged into its kernels.  A second expert,
used when the flow starts from noise, goes under the prefix `detail.`.  The fixture holds inputs and outputs of the
exported (f16-rounded) weights in f32 arithmetic, for the parity test of other implementations.
"""

import argparse

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import model
import runs


def averaged(run):
    state = runs.load(f"{run}/state.pt")
    return state["average"], state["config"]


def merged(weights, config):
    """The state dict with every body convolution's identity branch inside its kernel."""
    weights = {k: v.clone() for k, v in weights.items()}
    if not config["residual"]:
        for index in range(config["layers"]):
            kernel = weights[f"body.{index}.weight"]
            for channel in range(config["channels"]):
                kernel[channel, channel, 1, 1] += 1
    return weights


def unmerged(weights, config):
    """The inverse of `merged`: what `model.Compact` takes."""
    weights = {k: v.clone().float() for k, v in weights.items()}
    if not config["residual"]:
        for index in range(config["layers"]):
            for channel in range(config["channels"]):
                weights[f"body.{index}.weight"][channel, channel, 1, 1] -= 1
    return weights


def load_exported(path, config, prefix=""):
    """A `model.Compact` holding exactly the numbers of an exported file."""
    tensors = {k[len(prefix) :]: v for k, v in load_file(path).items() if k.startswith(prefix)}
    net = model.Compact(**config)
    net.load_state_dict(unmerged({k: tensors[k] for k in net.state_dict()}, config))
    return net.eval()


def start_from(path):
    """Weights and configuration of a run's folder or of an exported file, to go on training from."""
    if not path.endswith(".safetensors"):
        return averaged(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    config = {k: int(metadata[k]) for k in ("channels", "layers", "frames")}
    config["residual"] = metadata["residual"] == "true"
    return load_exported(path, config).state_dict(), config


def between(start, end, share):
    """Weights that lie `share` of the way from `start` to `end`: how much of what training added is used (Wortsman et al. 2022)."""
    return {k: torch.lerp(start[k].float(), end[k].float(), share) for k in start}


def soup(states):
    """The mean of the weights of runs that parted late (Wortsman et al. 2022, Model soups)."""
    return {k: sum(s[k].float() for s in states) / len(states) for k in states[0]}


def detail_expert(source, share, sigma, start, config):
    """(weights, noise strength) of the second expert: `share` of the way from `start` to a run's, or an exported file's as they are."""
    if source.endswith(".safetensors"):
        with safe_open(source, "pt") as file:
            kept = float(file.metadata()["detail_sigma"])
        return load_exported(source, config, "detail.").state_dict(), sigma or kept
    end, end_config = averaged(source)
    assert end_config == config, "both experts have one architecture"
    trained = runs.load(f"{source}/state.pt")["args"]["sigma"]
    return between(start, end, share), sigma or trained


def kept_ranges(path):
    """The tensor that calibrate.py added to an exported file, if it is one and has it."""
    if not path.endswith(".safetensors"):
        return {}
    return {k: v for k, v in load_file(path).items() if k == "ranges"}


def fixture(path, config, sigma, has_detail):
    """Inputs and outputs of one evaluation at several times, and of whole flows."""
    generator = torch.Generator().manual_seed(11)
    h, w = 21, 26
    rows = torch.linspace(0, 9, 4 * h)[:, None] + torch.linspace(0, 13, 4 * w)[None]
    large = (torch.sin(rows) * 0.5 + 0.1 * torch.randn(4 * h, 4 * w, generator=generator)).clamp(-0.87, 0.84)
    lr = torch.nn.functional.avg_pool2d(large[None, None], 4)
    lr = (lr + 0.02 * torch.randn(1, config["frames"], h, w, generator=generator)).clamp(-0.87, 0.84)
    noise = torch.randn(1, 16, h, w, generator=generator)
    out = {"lr": lr, "noise": noise}
    middle = config["frames"] // 2
    x0 = model.reference_latent(lr[:, middle : middle + 1])
    out["reference"] = x0
    experts = [("", 0.0)] + ([("detail.", sigma)] if has_detail else [])
    with torch.no_grad():
        for prefix, level in experts:
            net = load_exported(path, config, prefix)
            name = "detail" if prefix else "faithful"
            x = x0 + level * noise
            for t in (0.0, 0.375):
                v = net(x, lr, torch.tensor([t]), torch.tensor([level]))
                out[f"{name}.velocity.t{t}"] = v
            for steps in (1, 4):
                out[f"{name}.sample.steps{steps}"] = model.sample(net, lr, steps, level, noise)
    return {k: v.contiguous() for k, v in out.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("out")
    parser.add_argument("--soup", nargs="+", default=[], help="more runs, whose weights and RUN's are averaged")
    parser.add_argument("--detail")
    parser.add_argument("--detail-share", type=float, default=1.0, help="of the way from the faithful weights to RUN2's")
    parser.add_argument("--detail-sigma", type=float, help="instead of what RUN2 was trained with")
    parser.add_argument("--default-steps", type=int, default=1)
    parser.add_argument("--fixture")
    args = parser.parse_args()
    weights, config = start_from(args.run)
    ranges, sigma = kept_ranges(args.run), 0.0
    if args.soup:
        others = [start_from(run) for run in args.soup]
        assert all(other == config for _, other in others), "runs that are averaged have one architecture"
        weights, ranges = soup([weights, *(other for other, _ in others)]), {}
    tensors = merged(weights, config)
    if args.detail:
        detail, sigma = detail_expert(args.detail, args.detail_share, args.detail_sigma, weights, config)
        tensors |= {f"detail.{k}": v for k, v in merged(detail, config).items()}
    tensors = {k: v.to(torch.float16).contiguous() for k, v in tensors.items()} | ranges
    metadata = dict(format="flashvideo-compact", version="1", default_steps=str(args.default_steps))
    metadata |= {k: str(v).lower() for k, v in config.items()}
    if args.detail:
        metadata["detail_sigma"] = str(sigma)
    save_file(tensors, args.out, metadata)
    if args.fixture:
        save_file(fixture(args.out, config, sigma, bool(args.detail)), args.fixture, metadata)


if __name__ == "__main__":
    main()
