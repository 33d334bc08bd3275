"""Muon for convolution kernels (orthogonalised momentum), AdamW for everything else."""

import torch

import runs


@torch.no_grad()
def orthogonalise(update, rounds=5):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix of [rows, cols].

    In bfloat16 where that is fast: the result is only a direction, and five rounds leave its singular values between 0.7 and 1.2 anyway.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = update.flatten(1).to(runs.HALF)
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    x = (x / (x.norm() + 1e-7)).contiguous()
    for _ in range(rounds):
        gram = x @ x.T.contiguous()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.T if turned else x
    return x.reshape(update.shape).to(update.dtype)


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"]
                buffer.lerp_(p.grad, 1 - group["momentum"])
                direction = orthogonalise(p.grad.lerp(buffer, group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(direction, alpha=-group["lr"])


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
