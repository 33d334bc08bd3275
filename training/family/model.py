# SPDX-License-Identifier: MPL-2.0
"""The family: one velocity field for the factors 1, 2 and 4, on a grid of a quarter of the output, with chroma and a memory.

Latent      x      [n, 24, h, w]   4x4 luma, 2x2 Cb and 2x2 Cr values of the output (4:2:0) for each place of the grid
Small luma  y      [n, F, h k, w k]  of the previous, current and next frame (or of the current one); k = 4 / factor places a side
Small chroma c     [n, 2, h k / 2, w k / 2]
State       s      [n, S, h, w]    what the network remembers of the frames before, in (-1, 1); zero at a scene's start
Condition   q      [n, 10]         see `condition`
Velocity    v      [n, 24, h, w]   estimate of x1 - x0 (FlashVideo, arXiv 2502.05179, section 3.3)

Values are 8-bit video codes c as c / 127.5 - 1.  Chroma is sited as in MPEG-2 and H.264: between the rows of luma, on its even columns.
"""

import functools

import torch
import torch.nn.functional as F
from torch import nn

import model as compact

SCALES = (4, 2, 1)
BLOCK = 4
LUMA, CHROMA = BLOCK**2, 2 * (BLOCK // 2) ** 2
LATENT = LUMA + CHROMA
HIDDEN = 64
CONDITION = 10


@functools.cache
def enlarging_kernel(factor, siting):
    """[factor^2, 1, 5, 5] Catmull-Rom interpolation by `factor`; `siting` is the place of the samples in their columns' width: 0.5 for luma and
    for chroma between two columns, 0.25 for chroma on the even columns of luma."""

    def taps(at):
        phases = [(p + at) / factor - at for p in range(factor)]
        return torch.tensor([[compact.catmull_rom(tap - phase) for tap in range(-2, 3)] for phase in phases])

    return torch.einsum("ai,bj->abij", taps(0.5), taps(siting)).reshape(factor**2, 1, 5, 5)


def enlarge(plane, factor, siting=0.5):
    """[n, 1, h, w] to [n, 1, factor h, factor w], edges repeated."""
    if factor == 1:
        return plane
    kernel = enlarging_kernel(factor, siting).to(plane)
    return F.pixel_shuffle(F.conv2d(F.pad(plane, (2, 2, 2, 2), mode="replicate"), kernel), factor)


def each_plane(function, planes):
    """A function of [n, 1, h, w] on every plane of [n, c, h, w]."""
    n, c = planes.shape[:2]
    done = function(planes.flatten(0, 1)[:, None])
    return done.view(n, c, *done.shape[-2:])


def latent(y, c):
    """[n, 24, h, w] of the output's luma [n, 1, 4h, 4w] and chroma [n, 2, 2h, 2w]."""
    return torch.cat([F.pixel_unshuffle(y, BLOCK), F.pixel_unshuffle(c, BLOCK // 2)], 1)


def planes(x):
    """Luma and chroma of a latent."""
    return F.pixel_shuffle(x[:, :LUMA], BLOCK), F.pixel_shuffle(x[:, LUMA:], BLOCK // 2)


def plain(y, c, factor):
    """The start of the flow: the Catmull-Rom enlargement of luma [n, 1, ...] and chroma [n, 2, ...] as a latent."""
    return latent(enlarge(y, factor), each_plane(lambda p: enlarge(p, factor, 0.25), c))


@functools.cache
def to_luma_kernel():
    """[4, 1, 5, 5] chroma to the places of its luma: on the even columns, between the rows."""
    rows = [[compact.catmull_rom(tap - phase) for tap in range(-2, 3)] for phase in (-0.25, 0.25)]
    columns = [[compact.catmull_rom(tap - phase) for tap in range(-2, 3)] for phase in (0.0, 0.5)]
    return torch.einsum("ai,bj->abij", torch.tensor(rows), torch.tensor(columns)).reshape(4, 1, 5, 5)


def at_luma(plane):
    """Chroma [n, 1, h, w] interpolated to the places of luma, [n, 1, 2h, 2w]."""
    return F.pixel_shuffle(F.conv2d(F.pad(plane, (2, 2, 2, 2), mode="replicate"), to_luma_kernel().to(plane)), 2)


def small_picture(y, c, factor):
    """Luma [n, F, h k, w k] and chroma [n, 2, h k / 2, w k / 2] of the small frames on the grid.

    Space-to-depth; for the factor 4 chroma has half of the grid's places and is interpolated to them.
    """
    if factor == 4:
        return torch.cat([y, each_plane(at_luma, c)], 1)
    side = BLOCK // factor
    return torch.cat([F.pixel_unshuffle(y, side), F.pixel_unshuffle(c, side // 2) if side > 2 else c], 1)


def small_channels(factor, frames):
    side = BLOCK // factor
    return frames * side**2 + (2 if side < 4 else CHROMA)


def condition(factor, keep=0.0, soft=0.0, measures=None, t=0.0, sigma=0.0):
    """One row of q: flow time, noise at the flow's start, the shares of the noise to leave and of the softness to leave (0 and 0: restore all),
    whether the input was measured, the three numbers of `measure.measures`, and the factor."""
    known = [0.0] * 4 if measures is None else [1.0, *measures]
    return [t, sigma, keep, soft, *known, float(factor == 1), float(factor == 2)]


class Family(nn.Module):
    """head conv for each factor, `layers` body convs, tail conv, all 3x3.

    residual=True   body convs in pairs: h + conv(prelu(film(conv(h))))
    residual=False  a plain chain; while training each conv has an identity branch, merged on export
    frames          1 or 3 small frames of luma
    state           channels that are carried to the next frame: the body's first ones, softsign, read by the head; 0 for none
    echo            whether the heads read the small frame beside x; without noise at t = 0 x is a linear function of it
    """

    def __init__(self, channels=64, layers=10, residual=True, frames=3, state=16, echo=True):
        super().__init__()
        self.config = dict(channels=channels, layers=layers, residual=residual, frames=frames, state=state, echo=echo)
        self.channels, self.residual, self.frames, self.state, self.echo = channels, residual, frames, state, echo
        inputs = {f: LATENT + state + (small_channels(f, frames) if echo else 0) for f in SCALES}
        self.heads = nn.ModuleDict({str(f): nn.Conv2d(inputs[f], channels, 3, padding=1) for f in SCALES})
        self.head_act = nn.PReLU(channels, init=0.2)
        self.body = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(layers))
        acts = layers // 2 if residual else layers
        self.acts = nn.ModuleList(nn.PReLU(channels, init=0.2) for _ in range(acts))
        self.embed = nn.Linear(CONDITION, HIDDEN)
        self.film = nn.Linear(HIDDEN, acts * 2 * channels)
        self.tail = nn.Conv2d(channels, LATENT, 3, padding=1)
        compact.begin_still(self)

    def first_state(self, count, h, w):
        return torch.zeros(count, self.state, h, w)

    def forward(self, groups, state):
        """Velocity and next state of one frame.

        `groups` is a list of (factor, x, small, q), which share the body; `state` [n, S, h, w] of all groups in their order.
        """
        parts = []
        for factor, x, small, _ in groups:
            part = [x, small] if self.echo else [x]
            if self.state:
                part.append(state[: len(x)])
                state = state[len(x) :]
            parts.append(self.heads[str(factor)](torch.cat(part, 1).contiguous(memory_format=torch.channels_last)))
        h = self.head_act(torch.cat(parts))
        film = self.film(F.silu(self.embed(torch.cat([q for *_, q in groups]))))
        film = film.view(len(h), -1, 2, self.channels, 1, 1)
        for index, act in enumerate(self.acts):
            gain, shift = 1 + film[:, index, 0], film[:, index, 1]
            if self.residual:
                inner = act(self.body[2 * index](h) * gain + shift)
                h = h + self.body[2 * index + 1](inner)
            else:
                h = act((self.body[index](h) + h) * gain + shift)
        return self.tail(h), F.softsign(h[:, : self.state])

    def macs_per_pixel(self, factor):
        """Multiply-adds of the convolutions for one pixel of the output, channels filled up to multiples of 16 as kernels do."""
        full = lambda count: (count + 15) // 16 * 16
        convs = [self.heads[str(factor)], *self.body, self.tail]
        return sum(9 * full(m.in_channels) * full(m.out_channels) for m in convs) / BLOCK**2


def window(y, frames):
    """Indices [count, frames] of the small frames read for each of `count`; the ends are repeated."""
    count = len(y)
    reach = frames // 2
    return [[min(max(i + d, 0), count - 1) for d in range(-reach, reach + 1)] for i in range(count)]


@torch.no_grad()
def enhance(net, y, c, factor, conditions):
    """Luma [T, 1, ...] and chroma [T, 2, ...] of a scene's frames enlarged by `factor`, one evaluation each, in order.

    `conditions` has a row of `condition` for each frame. The grid must be whole: luma sides are multiples of 4 / factor, even.
    """
    state, out = None, []
    for index, around in enumerate(window(y, net.frames)):
        x = plain(y[index][None], c[index][None], factor)
        small = small_picture(y[around].transpose(0, 1), c[index][None], factor)
        if state is None:
            state = net.first_state(1, *x.shape[-2:])
        velocity, state = net([(factor, x, small, torch.tensor([conditions[index]]))], state)
        state = state.float()
        out.append(planes(x + velocity.float()))
    return torch.cat([y for y, _ in out]), torch.cat([c for _, c in out])
