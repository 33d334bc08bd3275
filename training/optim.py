# SPDX-License-Identifier: MPL-2.0
"""Muon for convolution kernels (orthogonalised momentum), AdamW for everything else."""

import torch

import runs


@torch.no_grad()
def orthogonalise(update, rounds=5):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix of each of [count, rows, ...].

    In bfloat16 where that is fast: the result is only a direction, and five rounds leave its singular values between 0.7 and 1.2 anyway.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.flatten(2).to(runs.half_type(update.device))
    turned = x.shape[1] > x.shape[2]
    x = x.mT if turned else x
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).contiguous()
    for _ in range(rounds):
        gram = x @ x.mT.contiguous()
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.mT if turned else x
    return x.reshape(update.shape).to(update.dtype)


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            same_shape = {}
            for p in group["params"]:
                if p.grad is not None:
                    same_shape.setdefault(p.shape, []).append(p)
            for params in same_shape.values():
                for p in params:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                grads, buffers = [p.grad for p in params], [self.state[p]["momentum"] for p in params]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                # Together: many small products of matrices cost a GPU more to start than to do.
                directions = orthogonalise(torch.stack(torch._foreach_lerp(grads, buffers, group["momentum"])))
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(directions), alpha=-group["lr"])


def build(net, kind, lr):
    """The optimisers of one training run, as a list."""
    if kind == "adam":
        return [torch.optim.AdamW(net.parameters(), lr, betas=(0.9, 0.99), weight_decay=1e-4)]
    kernels = [c.weight for c in net.body]
    chosen = {id(k) for k in kernels}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    return [
        Muon(kernels, lr * 10, weight_decay=0.01),
        torch.optim.AdamW(rest, lr, betas=(0.9, 0.99), weight_decay=1e-4),
    ]
