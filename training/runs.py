"""What every training run does: a moving average of the weights, and a state that survives the process."""

import os

import torch

HALF = torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
"""The type that this CPU multiplies fastest."""


@torch.no_grad()
def blend(average, net, step, longest):
    """Moves the averaged weights towards the network's; the average is short at first and grows to `longest`."""
    decay = min(longest, (step + 1) / (step + 10))
    for key, value in net.state_dict().items():
        average[key].lerp_(value, 1 - decay)


def save(path, **state):
    """Writes a state so that there is a whole one at `path` at any moment."""
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def smoothed(running, loss):
    """The loss as it is shown; `running` is None at the start of each sitting."""
    return loss if running is None else 0.98 * running + 0.02 * loss


def half():
    """Autocast to bf16, where that saves time."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=HALF == torch.bfloat16)
