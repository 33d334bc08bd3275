# SPDX-License-Identifier: MPL-2.0
"""Cuts the tokens of a trained transformer smaller, to go on training.

    python -m storybook.repatch RUN 6

RUN/dit.pt, which was trained with patches of 6x6 latent positions, gets those of `Dit.CONFIG`. Large patches learn places and motion at a fraction of the cost;
small ones learn shapes, because fewer numbers of a token have to go through its features. The first layer keeps the middle of its kernels, the last one the
middle of its patches; the layers between stay as they are. What is lost is found again in a few hundred steps.
"""

import argparse
import os

import torch

import runs

from . import train_dit
from .dit import Dit


def smaller(net, old):
    """The state dict `net` with patches of `Dit.CONFIG` instead of `old` x `old`."""
    new, channels = Dit.CONFIG["patch"], Dit.CONFIG["channels"]
    first = (old - new) // 2
    middle = slice(first, first + new)
    net = dict(net)
    # Fewer values to sum, of noise mostly: their deviation falls with the root of their number.
    net["mixins.patch_embed.proj.weight"] = net["mixins.patch_embed.proj.weight"][:, :, middle, middle] * (old / new)
    for name in ("weight", "bias"):
        name = f"mixins.final_layer.linear.{name}"
        rows = net[name].unflatten(0, (channels, old, old))[:, middle, middle]
        net[name] = rows.flatten(0, 2)
    return {name: value.clone() for name, value in net.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("old", type=int, help="latent positions along a side of a patch so far")
    a = parser.parse_args()
    path = os.path.join(a.run, "dit.pt")
    state = torch.load(path, weights_only=True)
    net = smaller(state["average"], a.old)
    fresh = [optimiser.state_dict() for optimiser in train_dit.build(0, None)[1]]
    runs.save(path, **{**state, "net": net, "average": net, "optimisers": fresh})


if __name__ == "__main__":
    main()
