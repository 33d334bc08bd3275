# SPDX-License-Identifier: MPL-2.0
"""Writes the small models and answers that the compact model's parity tests read.

    python make_compact_fixtures.py        (needs torch and safetensors; run once, the results are in the repository)

For each shape of network: random f16 weights as the trainer exports them, and inputs and outputs of these weights in
f32 arithmetic by the trainer's own definition.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "training"))
import model  # noqa: E402

HEIGHT, WIDTH, SIGMA = 7, 9, 0.2


def random_net(config):
    net = model.Compact(**config)
    for name, value in net.named_parameters():
        if name.startswith(("film", "tail")) or name.endswith("bias"):
            torch.nn.init.normal_(value, std=0.1)
    for value in net.parameters():
        value.data = value.data.half().float()
    return net.eval()


def exported(net):
    tensors = {k: v.clone() for k, v in net.state_dict().items()}
    if not net.residual:
        for index in range(len(net.body)):
            for channel in range(net.channels):
                tensors[f"body.{index}.weight"][channel, channel, 1, 1] += 1
    return tensors


def adopt(net, tensors):
    """Gives `net` the numbers that the file holds: f16 after the identity branch was merged."""
    tensors = {k: v.half().float() for k, v in tensors.items()}
    if not net.residual:
        for index in range(len(net.body)):
            for channel in range(net.channels):
                tensors[f"body.{index}.weight"][channel, channel, 1, 1] -= 1
    net.load_state_dict(tensors)


@torch.no_grad()
def main():
    for name, residual, frames in [("residual", True, 3), ("chain", False, 1)]:
        torch.manual_seed(5)
        config = dict(channels=16, layers=2, frames=frames, residual=residual)
        experts = {"faithful": (random_net(config), 0.0), "detail": (random_net(config), SIGMA)}
        tensors = {}
        for expert, (net, _) in experts.items():
            weights = exported(net)
            adopt(net, weights)
            prefix = "detail." if expert == "detail" else ""
            tensors |= {prefix + k: v.half().contiguous() for k, v in weights.items()}
        metadata = dict(format="flashvideo-compact", version="1", default_steps="1", detail_sigma=str(SIGMA))
        metadata |= {k: str(v).lower() for k, v in config.items()}
        save_file(tensors, HERE / f"compact-{name}.safetensors", metadata)

        lr = torch.rand(1, frames, HEIGHT, WIDTH) * 1.6 - 0.8
        noise = torch.randn(1, 16, HEIGHT, WIDTH)
        reference = model.reference_latent(lr[:, frames // 2 : frames // 2 + 1])
        out = {"lr": lr, "noise": noise, "reference": reference}
        for expert, (net, sigma) in experts.items():
            x = reference + sigma * noise
            for t in (0.0, 0.375):
                out[f"{expert}.velocity.t{t}"] = net(x, lr, torch.tensor([t]), torch.tensor([sigma]))
            for steps in (1, 4):
                out[f"{expert}.sample.steps{steps}"] = model.sample(net, lr, steps, sigma, noise)
        save_file({k: v.contiguous() for k, v in out.items()}, HERE / f"compact-{name}-answers.safetensors")


main()
