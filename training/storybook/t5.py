# SPDX-License-Identifier: MPL-2.0
"""A T5 v1.1 encoder with Hugging Face's names, and the tokenizer before it."""

import math

import torch
from torch import nn
from torch.nn import functional as F

TOKENS = 48
"""Tokens of a prompt, end and padding included."""
BUCKETS, DISTANCE = 32, 128


class RmsNorm(nn.Module):
    """Root-mean-square norm without a bias."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-6)


def _linear(inputs, outputs):
    return nn.Linear(inputs, outputs, bias=False)


class SelfAttention(nn.Module):
    """Attention without scaling; the bias of relative positions comes from the first block."""

    def __init__(self, width, heads, has_bias):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (_linear(width, width) for _ in range(4))
        if has_bias:
            self.relative_attention_bias = nn.Embedding(BUCKETS, heads)

    def bias(self, length):
        """`[1, heads, length, length]`."""
        position = torch.arange(length)
        relative = position[None, :] - position[:, None]
        half = BUCKETS // 2
        exact = half // 2
        distance = relative.abs()
        far = exact + (torch.log(distance.clamp_min(1) / exact) / math.log(DISTANCE / exact) * (half - exact)).long()
        bucket = torch.where(distance < exact, distance, far.clamp_max(half - 1)) + half * (relative > 0)
        return self.relative_attention_bias(bucket).permute(2, 0, 1)[None]

    def forward(self, x, bias):
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = split(self.q(x)), split(self.k(x)), split(self.v(x))
        weights = (q @ k.transpose(2, 3) + bias).softmax(-1)
        return self.o((weights @ v).transpose(1, 2).flatten(2))


class GatedMlp(nn.Module):
    """wo(gelu(wi_0 x) * wi_1 x)."""

    def __init__(self, width, inner):
        super().__init__()
        self.wi_0, self.wi_1, self.wo = _linear(width, inner), _linear(width, inner), _linear(inner, width)

    def forward(self, x):
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class Block(nn.Module):
    def __init__(self, width, heads, inner, first):
        super().__init__()
        attention, mlp = nn.Module(), nn.Module()
        attention.SelfAttention, attention.layer_norm = SelfAttention(width, heads, first), RmsNorm(width)
        mlp.DenseReluDense, mlp.layer_norm = GatedMlp(width, inner), RmsNorm(width)
        self.layer = nn.ModuleList([attention, mlp])

    def forward(self, x, bias):
        attention, mlp = self.layer
        x = x + attention.SelfAttention(attention.layer_norm(x), bias)
        return x + mlp.DenseReluDense(mlp.layer_norm(x))


class T5Encoder(nn.Module):
    """Token numbers `[batch, length]` to features `[batch, length, width]`; padding is attended like any token."""

    CONFIG = dict(vocabulary=2000, width=128, heads=4, layers=4, inner=320)

    def __init__(self, vocabulary, width, heads, layers, inner):
        super().__init__()
        self.shared = nn.Embedding(vocabulary, width)
        self.encoder = nn.Module()
        self.encoder.block = nn.ModuleList(Block(width, heads, inner, i == 0) for i in range(layers))
        self.encoder.final_layer_norm = RmsNorm(width)

    def forward(self, ids):
        x = self.shared(ids)
        bias = self.encoder.block[0].layer[0].SelfAttention.bias(ids.shape[1])
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)


def encode(tokenizer, text, length=TOKENS):
    """Cut to `length - 1`, end (1), padding (0)."""
    ids = tokenizer.encode(text)[: length - 1] + [1]
    return ids + [0] * (length - len(ids))
