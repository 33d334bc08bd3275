# SPDX-License-Identifier: MPL-2.0
"""The diffusion transformer of FlashVideo's Stage I, with names as in the release's checkpoint, and its noise schedule.

Latents are `[batch, time, channels, height, width]`.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F


def schedule(n=1000):
    """Signal rates `A[t]`, cleanest first: scaled-linear betas, rescaled so that the last one is exactly zero."""
    i = torch.arange(1000, dtype=torch.float64)
    beta = (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i / 999) ** 2
    signal = torch.cumprod(1 - beta, 0)
    steps = torch.linspace(999, 0, n + 1, dtype=torch.float64)[:-1].long().flip(0) if n < 1000 else torch.arange(1000)
    rate = signal[steps].float().sqrt()
    return steps, (rate - rate[-1]) * (rate[0] / (rate[0] - rate[-1]))


def sinusoid(t, width):
    """`[cos, sin]` of the timestep, `[batch, width]`."""
    half = width // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half) / half)
    angle = t.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], 1)


def rope_table(time, rows, columns, head):
    """Angles `[tokens, head / 2]`: a quarter of the pairs for time, three eighths each for rows and columns."""
    axes = []
    grid = torch.meshgrid(torch.arange(time), torch.arange(rows), torch.arange(columns), indexing="ij")
    for position, width in zip(grid, (head // 4, head * 3 // 8, head * 3 // 8)):
        frequency = 10_000 ** (-torch.arange(0, width, 2).float() / width)
        axes.append(position.flatten()[:, None].float() * frequency)
    return torch.cat(axes, 1)


def rotate(x, cos, sin):
    """Rotates neighbouring pairs of `x` `[batch, heads, tokens, head]`."""
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


def patches(x, patch):
    """Latents cut into one row `[channels * patch * patch]` per image token, `[batch, tokens, row]`."""
    batch, time, channels, height, width = x.shape
    x = x.view(batch, time, channels, height // patch, patch, width // patch, patch)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, -1, channels * patch * patch)


def pick(rows, keep):
    """The `keep` `[batch, kept]` of `rows` `[batch, tokens, width]`."""
    return rows.gather(1, keep[..., None].expand(-1, -1, rows.shape[-1]))


class LoraLinear(nn.Module):
    """A frozen linear layer with low-rank additions, one for each of `parts` groups of its rows."""

    def __init__(self, linear, rank, parts):
        super().__init__()
        self.original, self.rank = linear.requires_grad_(False), rank
        rows = linear.out_features // parts
        self.matrix_A = nn.ParameterList(nn.Parameter(torch.randn(rank, linear.in_features) / rank**0.5) for _ in range(parts))
        self.matrix_B = nn.ParameterList(nn.Parameter(torch.zeros(rows, rank)) for _ in range(parts))
        self.alpha = float(rank)

    def forward(self, x):
        added = torch.cat([x @ a.T @ b.T for a, b in zip(self.matrix_A, self.matrix_B)], -1)
        return self.original(x) + added * (self.alpha / self.rank)


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, x, heads, query_norm, key_norm, text, table):
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in self.query_key_value(x).chunk(3, -1))
        cos, sin = table
        turn = lambda y: torch.cat([y[:, :, :text], rotate(y[:, :, text:], cos, sin)], 2).to(v.dtype)
        y = F.scaled_dot_product_attention(turn(query_norm(q)), turn(key_norm(k)), v)
        return self.dense(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(width, inner)
        self.dense_4h_to_h = nn.Linear(inner, width)

    def forward(self, x):
        return self.dense_4h_to_h(F.gelu(self.dense_h_to_4h(x), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.input_layernorm = nn.LayerNorm(width, eps=1e-5)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=1e-5)
        self.attention = Attention(width)
        self.mlp = Mlp(width, inner)


class Dit(nn.Module):
    """`CONFIG` is that of the built-in model."""

    CONFIG = dict(hidden=256, heads=4, layers=8, inner=1024, time=64, text=128, channels=4, patch=4)

    def __init__(self, hidden, heads, layers, inner, time, text, channels, patch):
        super().__init__()
        self.hidden, self.heads, self.patch, self.channels = hidden, heads, patch, channels
        head = hidden // heads
        self.mixins = nn.Module()
        self.mixins.patch_embed = nn.Module()
        self.mixins.patch_embed.proj = nn.Conv2d(channels, hidden, patch, patch)
        self.mixins.patch_embed.text_proj = nn.Linear(text, hidden)
        self.time_embed = nn.Sequential(nn.Linear(hidden, time), nn.SiLU(), nn.Linear(time, time))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(Layer(hidden, inner) for _ in range(layers))
        self.transformer.final_layernorm = nn.LayerNorm(hidden, eps=1e-5)
        adaln = self.mixins.adaln_layer = nn.Module()
        adaln.adaLN_modulations = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(time, 12 * hidden)) for _ in range(layers))
        adaln.query_layernorm_list = nn.ModuleList(nn.LayerNorm(head, eps=1e-6) for _ in range(layers))
        adaln.key_layernorm_list = nn.ModuleList(nn.LayerNorm(head, eps=1e-6) for _ in range(layers))
        final = self.mixins.final_layer = nn.Module()
        final.norm_final = nn.LayerNorm(hidden, eps=1e-6)
        final.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * hidden))
        final.linear = nn.Linear(hidden, channels * patch * patch)
        for linear in (final.linear, final.adaLN_modulation[1], *(m[1] for m in adaln.adaLN_modulations)):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        self._tables = {}

    def table(self, time, rows, columns):
        key = time, rows, columns
        if key not in self._tables:
            angle = rope_table(*key, self.hidden // self.heads)
            self._tables[key] = angle.cos(), angle.sin()
        return self._tables[key]

    def forward(self, x, t, context, keep=None):
        """The velocity of latents `x` at timesteps `t` `[batch]` with text features `context` `[batch, length, text]`.

        With `keep` `[batch, kept]`, only those image tokens are looked at, and their part of the velocity comes back as `patches` has it.
        """
        batch, time, _, height, width = x.shape
        rows, columns, text = height // self.patch, width // self.patch, context.shape[1]
        emb = self.time_embed(sinusoid(t, self.hidden))
        image = self.mixins.patch_embed.proj(x.flatten(0, 1)).flatten(2).transpose(1, 2).reshape(batch, -1, self.hidden)
        table = self.table(time, rows, columns)
        if keep is not None:
            image = pick(image, keep)
            table = tuple(part[keep][:, None] for part in table)
        h = torch.cat([self.mixins.patch_embed.text_proj(context), image], 1).float()
        adaln = self.mixins.adaln_layer
        for i, layer in enumerate(self.transformer.layers):
            parts = adaln.adaLN_modulations[i](emb)[:, None].float().chunk(12, -1)
            # One row for text and one for image tokens, each in front of its own tokens.
            sh_a, sc_a, g_a, sh_m, sc_m, g_m = (
                torch.cat([b.expand(-1, text, -1), a.expand(-1, h.shape[1] - text, -1)], 1) for a, b in zip(parts[:6], parts[6:])
            )
            y = layer.input_layernorm(h) * (1 + sc_a) + sh_a
            h = h + g_a * layer.attention(y, self.heads, adaln.query_layernorm_list[i], adaln.key_layernorm_list[i], text, table)
            y = layer.post_attention_layernorm(h) * (1 + sc_m) + sh_m
            h = h + g_m * layer.mlp(y)
        h = self.mixins.final_layer.norm_final(self.transformer.final_layernorm(h)[:, text:])
        shift, scale = self.mixins.final_layer.adaLN_modulation(emb)[:, None].float().chunk(2, -1)
        y = self.mixins.final_layer.linear(h * (1 + scale) + shift).float()
        if keep is not None:
            return y
        y = y.view(batch, time, rows, columns, self.channels, self.patch, self.patch)
        return y.permute(0, 1, 4, 2, 5, 3, 6).reshape(x.shape)


def add_lora(net, rank):
    """Freezes the network and gives it adapters where the release has them: attention and adaLN."""
    net.requires_grad_(False)
    for i, layer in enumerate(net.transformer.layers):
        attention = layer.attention
        attention.query_key_value = LoraLinear(attention.query_key_value, rank, 3)
        attention.dense = LoraLinear(attention.dense, rank, 1)
        modulation = net.mixins.adaln_layer.adaLN_modulations[i]
        modulation[1] = LoraLinear(modulation[1], rank, 1)
    return [p for p in net.parameters() if p.requires_grad]


def falling(strength):
    """The guidance scale by timestep: high while it is decided what is shown and where, none when shapes and edges are drawn."""
    return lambda t: strength if t >= 700 else min(strength, max(strength / 2, 1)) if t >= 300 else min(strength, 1)


@torch.no_grad()
def sample(net, context, start, steps, guidance, noise):
    """DPM++(2M) SDE with v-prediction; `guidance(timestep)` gives the guidance scale and `noise(step)` the gaussian of a step."""
    times, rates = schedule(steps)
    table = schedule()[1]
    rates = torch.cat([rates.flip(0), torch.ones(1)]).double()
    times = times.flip(0)
    x, before = start, None
    level = lambda q: torch.log(torch.sqrt(q**2 / (1 - q**2)))
    for i in range(steps):
        a, b = rates[i], rates[i + 1]
        snapped = table[(table - a.float()).abs().argmin()]
        v = net(torch.cat([x, x]), times[i].expand(2 * len(x)), torch.cat([torch.zeros_like(context), context])).float()
        clean = snapped * torch.cat([x, x]) - torch.sqrt(1 - snapped**2) * v
        free, told = clean.chunk(2)
        guided = free + guidance(int(times[i])) * (told - free)
        if i == steps - 1:
            return guided
        h = level(b) - level(a)
        m1 = torch.sqrt((1 - b**2) / (1 - a**2)) * torch.exp(-h)
        m2, mn = torch.expm1(-2 * h) * b, torch.sqrt(1 - b**2) * torch.sqrt(1 - torch.exp(-2 * h))
        ahead = guided
        if before is not None and torch.isfinite(level(rates[i - 1])):
            r = (level(a) - level(rates[i - 1])) / h
            ahead = (1 + 1 / (2 * r)).float() * guided - before / (2 * r).float()
        x = m1.float() * x - m2.float() * ahead + mn.float() * noise(i)
        before = guided
