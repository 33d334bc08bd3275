# SPDX-License-Identifier: MPL-2.0
"""What every training run does: where and in which numbers it computes, a moving average of the weights, and a state that survives the process."""

import os

import torch


def fastest_device():
    return "cuda" if torch.cuda.is_available() else "cpu"


def half_type(device="cpu"):
    """The type that a device multiplies fastest."""
    fast = torch.device(device).type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def half(device="cpu"):
    """Autocast to bf16, where that saves time."""
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=half_type(device) == torch.bfloat16)


@torch.no_grad()
def blend(average, net, step, longest):
    """Moves the averaged weights towards the network's; the average is short at first and grows to `longest`."""
    decay = min(longest, (step + 1) / (step + 10))
    state = net.state_dict()
    torch._foreach_lerp_([average[key] for key in state], list(state.values()), 1 - decay)


def save(path, **state):
    """Writes a state so that there is a whole one at `path` at any moment."""
    torch.save(state, path + ".new")
    os.replace(path + ".new", path)


def load(path):
    """A saved state in main memory, whatever device it was trained on."""
    return torch.load(path, weights_only=True, map_location="cpu")


def resume(path, net, optimizers):
    """Brings network and optimizers to the state saved at `path`; returns the averaged weights, the seconds spent, the steps and the log."""
    state = load(path)
    net.load_state_dict(state["net"])
    for optimizer, saved in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(saved)
    return state["average"], state["spent"], state["step"], state["log"]


def smoothed(running, loss):
    """The loss as it is shown; `running` is None at the start of each sitting."""
    return loss if running is None else 0.98 * running + 0.02 * loss
