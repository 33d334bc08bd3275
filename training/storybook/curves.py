# SPDX-License-Identifier: MPL-2.0
"""Draws the training curves of a run.

    python -m storybook.curves RUN OUT.png
"""

import argparse
import os

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run")
    parser.add_argument("out")
    a = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    log = torch.load(os.path.join(a.run, "vae.pt"), weights_only=True)["log"]
    for key, label in (("frames", "still frames"), ("clip", "9-frame clip")):
        left.plot([e["step"] for e in log], [e[key] for e in log], label=label)
    left.set(title="VAE: unseen scenes", xlabel="step", ylabel="PSNR, dB")
    log = torch.load(os.path.join(a.run, "dit.pt"), weights_only=True)["log"]
    for time, label in ((1, "images"), (5, "17 frames"), (13, "49 frames")):
        part = [e for e in log if f"loss{time}" in e]
        if part:
            right.plot([e["spent"] / 60 for e in part], [e[f"loss{time}"] for e in part], label=label)
    right.set(title="transformer", xlabel="minutes", ylabel="velocity error", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(a.out, dpi=90)


if __name__ == "__main__":
    main()
