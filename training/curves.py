# SPDX-License-Identifier: MPL-2.0
"""Draws the training curves of one or more runs: curves.py OUT.png RUN [RUN ...]"""

import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import runs


def main():
    out, folders = sys.argv[1], sys.argv[2:]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for run in folders:
        log = runs.load(f"{run}/state.pt")["log"]
        minutes = [row["seconds"] / 60 for row in log]
        name = os.path.basename(run.rstrip("/"))
        left.plot(minutes, [row["loss"] for row in log], label=name)
        for variant in ("clean", "coded"):
            right.plot(minutes, [row[variant] for row in log], label=f"{name}, {variant}")
    left.set(xlabel="minutes of training", ylabel="loss")
    right.set(xlabel="minutes of training", ylabel="dB over plain enlargement (validation)")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main()
