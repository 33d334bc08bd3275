# SPDX-License-Identifier: MPL-2.0
"""Measures the ranges of a compact model's activations, which int8 needs, and adds them to its file.

    calibrate.py MODEL.safetensors DATA [--count 160]

DATA is what prepare.py made.  The tensor `ranges` [layers + 1, 2, channels] holds the least and the largest value of
each channel of what every body convolution and the tail read, in the faithful mode at t = 0.  Of each picture the
outermost SHARE of the pixels does not count: codes for values that hardly occur would be missing everywhere else.
All other tensors of the file stay as they are.  Run it again after export.py.
"""

import argparse
import glob

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import export
import model

SHARE = 1e-4


def extremes(x):
    """[2, channels] of activations [1, channels, h, w], without the outermost SHARE of the pixels on both sides."""
    values = x[0].flatten(1)
    inside = 1 + int(values.shape[1] * SHARE)
    return torch.stack([values.topk(inside, largest=largest).values[:, -1] for largest in (False, True)])


@torch.no_grad()
def ranges(net, pictures):
    """[layers + 1, 2, channels] over `pictures`, each [1, frames, h, w] in model units."""
    found = [None] * (len(net.body) + 1)

    def see(index):
        def hook(_, inputs):
            new = extremes(inputs[0])
            old = found[index]
            found[index] = new if old is None else torch.stack([old[0].minimum(new[0]), old[1].maximum(new[1])])

        return hook

    hooks = [m.register_forward_pre_hook(see(i)) for i, m in enumerate([*net.body, net.tail])]
    zero = torch.zeros(1)
    for lr in pictures:
        middle = lr.shape[1] // 2
        net(model.reference_latent(lr[:, middle : middle + 1]), lr, zero, zero)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


def pictures(folder, count, frames):
    """Windows of `count` sequences of prepare.py, whose three variants take turns."""
    paths = sorted(glob.glob(f"{folder}/*/*/lr.npy"))
    if not paths:
        raise SystemExit(f"no sequences in {folder}: run prepare.py first")
    for index, path in enumerate(paths[:: max(1, len(paths) // count)]):
        small = np.load(path)
        first = (small.shape[1] - frames) // 2
        window = small[index % len(small), first : first + frames]
        yield torch.from_numpy(window)[None].float() / 127.5 - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--count", type=int, default=160, help="sequences to look at")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with safe_open(args.model, "pt") as file:
        metadata = file.metadata()
    _, config = export.start_from(args.model)
    net = export.load_exported(args.model, config).to(memory_format=torch.channels_last)
    tensors = load_file(args.model)
    tensors["ranges"] = ranges(net, pictures(args.data, args.count, config["frames"])).contiguous()
    save_file(tensors, args.model, metadata)


if __name__ == "__main__":
    main()
