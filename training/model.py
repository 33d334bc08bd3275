# SPDX-License-Identifier: MPL-2.0
"""The compact flow model: a small convolutional velocity field on the space-to-depth latent of luma.

Latent        x   [n, 16, h, w]   4x4 luma pixels of the large picture for each pixel of the small one
Condition     lr  [n, F, h, w]    luma of the small frame and of its neighbours in time (F = 1 or 3)
Time, noise   t, sigma  [n]       flow time in [0, 1], strength of the noise in x at t = 0
Velocity      v   [n, 16, h, w]   estimate of x1 - x0 (FlashVideo, arXiv 2502.05179, section 3.3)

Values are video luma codes c in 0..255 as c / 127.5 - 1.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn

FACTOR = 4
EMBED = 32


def catmull_rom(distance):
    """The weight of a value at this distance."""
    d = abs(distance)
    if d < 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    if d < 2:
        return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return 0.0


@functools.cache
def catmull_rom_kernel(device=torch.device("cpu")):
    """[16, 1, 5, 5]: the reference latent as a convolution over the small picture."""

    phases = [(p + 0.5) / FACTOR - 0.5 for p in range(FACTOR)]
    rows = torch.tensor([[catmull_rom(tap - phase) for tap in range(-2, 3)] for phase in phases])
    return torch.einsum("ai,bj->abij", rows, rows).reshape(FACTOR * FACTOR, 1, 5, 5).to(device)


def reference_latent(lr):
    """Catmull-Rom enlargement of [n, 1, h, w], with edges repeated, in the latent space."""
    return F.conv2d(F.pad(lr, (2, 2, 2, 2), mode="replicate"), catmull_rom_kernel(lr.device).to(lr.dtype))


def begin_still(net):
    """Weights from which training starts: no velocity, nothing modulated, small steps from layer to layer."""
    for layer in (net.film, net.tail):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    for index, conv in enumerate(net.body):
        if net.residual and index % 2 == 1:
            conv.weight.data.mul_(0.2)
        if not net.residual:
            conv.weight.data.mul_(0.5)


class Compact(nn.Module):
    """head conv, `layers` body convs, tail conv, all 3x3.

    residual=True   body convs in pairs: h + conv(prelu(film(conv(h))))
    residual=False  a plain chain; while training each conv has an identity branch, merged on export
    """

    def __init__(self, channels, layers, frames, residual):
        super().__init__()
        self.config = dict(channels=channels, layers=layers, frames=frames, residual=residual)
        self.channels, self.frames, self.residual = channels, frames, residual
        self.head = nn.Conv2d(FACTOR**2 + frames, channels, 3, padding=1)
        self.head_act = nn.PReLU(channels, init=0.2)
        self.body = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(layers))
        acts = layers // 2 if residual else layers
        self.acts = nn.ModuleList(nn.PReLU(channels, init=0.2) for _ in range(acts))
        self.embed = nn.Linear(2, EMBED)
        self.film = nn.Linear(EMBED, acts * 2 * channels)
        self.tail = nn.Conv2d(channels, FACTOR**2, 3, padding=1)
        begin_still(self)

    def forward(self, x, lr, t, sigma):
        film = self.film(F.silu(self.embed(torch.stack([t, sigma], 1))))
        film = film.view(x.shape[0], -1, 2, self.channels, 1, 1)
        h = torch.cat([x, lr], 1).contiguous(memory_format=torch.channels_last)
        h = self.head_act(self.head(h))
        for index, act in enumerate(self.acts):
            gain, shift = 1 + film[:, index, 0], film[:, index, 1]
            if self.residual:
                inner = act(self.body[2 * index](h) * gain + shift)
                h = h + self.body[2 * index + 1](inner)
            else:
                h = act((self.body[index](h) + h) * gain + shift)
        return self.tail(h)

    def macs_per_pixel(self):
        """Multiply-adds of the convolutions for one pixel of the small picture."""
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Conv2d))


def time_grid(steps, shift=2.5):
    """steps + 1 flow times from 0 to 1, denser at the start (SPEC of the released model, shift 2.5)."""
    u = torch.linspace(0, 1, steps + 1)
    return 1 - shift * (1 - u) / (1 + (shift - 1) * (1 - u))


@torch.no_grad()
def sample(net, lr, steps=1, sigma=0.0, noise=None):
    """Euler steps from the (noised) reference latent; returns the large luma [n, 1, 4h, 4w]."""
    n = lr.shape[0]
    middle = lr.shape[1] // 2
    x = reference_latent(lr[:, middle : middle + 1])
    if sigma > 0:
        x = x + sigma * noise
    grid = time_grid(steps).to(lr.device)
    level = torch.full((n,), float(sigma), device=lr.device)
    for now, after in zip(grid[:-1], grid[1:]):
        x = x + (after - now) * net(x, lr, now.expand(n), level).float()
    return F.pixel_shuffle(x, FACTOR)
