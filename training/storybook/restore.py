# SPDX-License-Identifier: MPL-2.0
"""Makes a RUN folder of the file that is built into the plugin, to go on training from.

    python -m storybook.restore ../models/builtin-source.safetensors RUN

The optimisers' states are not in the file; they are found again in the first few hundred steps.
"""

import argparse
import json
import os

import torch
from safetensors import safe_open

from . import train_dit, train_vae


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file")
    parser.add_argument("run")
    a = parser.parse_args()
    os.makedirs(a.run, exist_ok=True)
    parts = {"dit": {}, "vae": {}, "text": {}}
    with safe_open(a.file, "pt") as file:
        about = json.loads(file.metadata()["flashvideo"])
        for name in file.keys():
            part, _, rest = name.partition(".")
            if part in parts:
                parts[part][rest] = file.get_tensor(name).float()
        with open(os.path.join(a.run, "spiece.model"), "wb") as spiece:
            spiece.write(file.get_tensor("tokenizer").numpy().tobytes())
    fresh = {"dit": train_dit.build(0, None)[1], "vae": train_vae.build(False)[1]}
    for part, more in (("dit", {"scale": about["latent_scale"]}), ("vae", {"decoder_only": False})):
        state = dict(net=parts[part], average=parts[part], step=10_000, spent=0.0, log=[], optimisers=[o.state_dict() for o in fresh[part]])
        torch.save(state | more, os.path.join(a.run, f"{part}.pt"))
    torch.save(dict(net=parts["text"], step=0, vocabulary=len(parts["text"]["shared.weight"])), os.path.join(a.run, "t5.pt"))


if __name__ == "__main__":
    main()
