# SPDX-License-Identifier: MPL-2.0
"""The causal 3D VAE of CogVideoX and FlashVideo, with names as in the release's checkpoint.

Frames `[batch, 3, time, height, width]` in -1..1; latents `[batch, z, latent time, h, w]`. Convolutions over time look only back: the first
frame of a clip stands for the frames before it, later chunks see the last frames of the chunk before (`caches`).
"""

import torch
from torch import nn
from torch.nn import functional as F

TIME_LEVELS = 2
"""Levels on which time is halved too."""


class CausalConv3d(nn.Module):
    """A convolution that pads space with zeros and time with what came before."""

    def __init__(self, inputs, outputs, kernel=3):
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel)
        self.kernel = kernel

    def forward(self, x, caches=None):
        k = self.kernel
        if k == 1:
            return self.conv(x)
        before = caches.get(self) if caches is not None else None
        if before is None:
            if x.shape[2] == 1 and caches is None:
                # Three equal frames: the taps of time add up, at a third of the work.
                flat = F.conv2d(x.squeeze(2), self.conv.weight.sum(2), self.conv.bias, padding=k // 2)
                return flat.unsqueeze(2)
            before = x[:, :, :1].expand(-1, -1, k - 1, -1, -1)
        x = torch.cat([before, x], 2)
        if caches is not None:
            caches[self] = x[:, :, -(k - 1) :].detach()
        # As one convolution over space with the taps of time side by side: several times as fast on a CPU.
        time = x.shape[2] - k + 1
        taps = torch.cat([x[:, :, tap : tap + time] for tap in range(k)], 1)
        batch, channels = taps.shape[:2]
        taps = taps.transpose(1, 2).reshape(batch * time, channels, *taps.shape[3:])
        taps = taps.contiguous(memory_format=torch.channels_last)
        weight = self.conv.weight.transpose(1, 2).flatten(1, 2)
        y = F.conv2d(taps, weight, self.conv.bias, padding=k // 2)
        return y.reshape(batch, time, -1, *y.shape[2:]).transpose(1, 2)


class GroupNorm(nn.GroupNorm):
    """A plain group norm that takes (and ignores) the latent."""

    def __init__(self, channels, groups, _latent):
        super().__init__(groups, channels, eps=1e-6)

    def forward(self, x, _zq):
        return super().forward(x)


class SpatialNorm(nn.Module):
    """A group norm whose scale and shift come from the latent at the same place."""

    def __init__(self, channels, groups, latent):
        super().__init__()
        self.norm_layer = nn.GroupNorm(groups, channels, eps=1e-6)
        self.conv_y = CausalConv3d(latent, channels, 1)
        self.conv_b = CausalConv3d(latent, channels, 1)

    def forward(self, x, zq):
        # 1x1x1 convolutions commute with nearest resizing: do them on the small latent.
        scale, shift = self.conv_y(zq), self.conv_b(zq)
        return self.norm_layer(x) * resize_latent(scale, x.shape[2:]) + resize_latent(shift, x.shape[2:])


def resize_latent(zq, size):
    """Nearest resize of `zq` to `size`; of an odd number of frames above one the first stands apart."""
    if size[0] > 1 and size[0] % 2 == 1:
        first = F.interpolate(zq[:, :, :1], (1, *size[1:]))
        rest = F.interpolate(zq[:, :, 1:], (size[0] - 1, *size[1:]))
        return torch.cat([first, rest], 2)
    return F.interpolate(zq, size)


class ResBlock(nn.Module):
    """norm, SiLU, convolution, twice, beside a shortcut."""

    def __init__(self, inputs, outputs, norm, groups, latent):
        super().__init__()
        self.norm1 = norm(inputs, groups, latent)
        self.conv1 = CausalConv3d(inputs, outputs)
        self.norm2 = norm(outputs, groups, latent)
        self.conv2 = CausalConv3d(outputs, outputs)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x, zq, caches=None):
        h = self.conv1(F.silu(self.norm1(x, zq)), caches)
        h = self.conv2(F.silu(self.norm2(h, zq)), caches)
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Resample(nn.Module):
    """A 3x3 convolution on single frames, after enlarging or while reducing."""

    def __init__(self, channels, stride):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=stride, padding=1 if stride == 1 else 0)

    def frames(self, x):
        batch, channels, time = x.shape[:3]
        x = x.transpose(1, 2).reshape(batch * time, channels, *x.shape[3:])
        x = self.conv(x.contiguous(memory_format=torch.channels_last))
        return x.reshape(batch, time, channels, *x.shape[2:]).transpose(1, 2)

    def down(self, x, time):
        if time and x.shape[2] > 1:
            if x.shape[2] % 2 == 1:
                first, rest = x[:, :, :1], x[:, :, 1:]
                x = torch.cat([first, (rest[:, :, ::2] + rest[:, :, 1::2]) / 2], 2) if rest.shape[2] else first
            else:
                x = (x[:, :, ::2] + x[:, :, 1::2]) / 2
        return self.frames(F.pad(x, (0, 1, 0, 1)))

    def up(self, x, time):
        if time and x.shape[2] > 1:
            if x.shape[2] % 2 == 1:
                x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, 2)], 2)
            else:
                x = x.repeat_interleave(2, 2)
        x = x.repeat_interleave(2, 3).repeat_interleave(2, 4)
        return self.frames(x)


class Encoder(nn.Module):
    """Frames to the mean and logarithm of the variance of the latent."""

    def __init__(self, base, channels, blocks, latent, groups):
        super().__init__()
        self.conv_in = CausalConv3d(3, base)
        self.down = nn.ModuleList()
        width = base
        for level, (outputs, count) in enumerate(zip(channels, blocks)):
            stage = nn.Module()
            stage.block = nn.ModuleList()
            for _ in range(count):
                stage.block.append(ResBlock(width, outputs, GroupNorm, groups, latent))
                width = outputs
            if level + 1 < len(channels):
                stage.downsample = Resample(width, 2)
            self.down.append(stage)
        self.mid = nn.Module()
        self.mid.block_1 = ResBlock(width, width, GroupNorm, groups, latent)
        self.mid.block_2 = ResBlock(width, width, GroupNorm, groups, latent)
        self.norm_out = GroupNorm(width, groups, latent)
        self.conv_out = CausalConv3d(width, 2 * latent)
        # Little noise at first: with much of it nothing would come through to learn from.
        nn.init.constant_(self.conv_out.conv.bias[latent:], -6)

    def forward(self, x, caches=None):
        h = self.conv_in(x, caches)
        for level, stage in enumerate(self.down):
            for block in stage.block:
                h = block(h, None, caches)
            if hasattr(stage, "downsample"):
                h = stage.downsample.down(h, level < TIME_LEVELS)
        h = self.mid.block_1(h, None, caches)
        h = self.mid.block_2(h, None, caches)
        return self.conv_out(F.silu(self.norm_out(h, None)), caches)


class Decoder(nn.Module):
    """Latent to frames."""

    def __init__(self, channels, blocks, latent, groups):
        super().__init__()
        width = channels[-1]
        self.conv_in = CausalConv3d(latent, width)
        self.mid = nn.Module()
        self.mid.block_1 = ResBlock(width, width, SpatialNorm, groups, latent)
        self.mid.block_2 = ResBlock(width, width, SpatialNorm, groups, latent)
        up = []
        for level in reversed(range(len(channels))):
            stage = nn.Module()
            stage.block = nn.ModuleList()
            for _ in range(blocks[level]):
                stage.block.append(ResBlock(width, channels[level], SpatialNorm, groups, latent))
                width = channels[level]
            if level > 0:
                stage.upsample = Resample(width, 1)
            up.insert(0, stage)
        self.up = nn.ModuleList(up)
        self.norm_out = SpatialNorm(width, groups, latent)
        self.conv_out = CausalConv3d(width, 3)

    def forward(self, z, caches=None):
        h = self.conv_in(z, caches)
        h = self.mid.block_1(h, z, caches)
        h = self.mid.block_2(h, z, caches)
        for level in reversed(range(len(self.up))):
            stage = self.up[level]
            for block in stage.block:
                h = block(h, z, caches)
            if hasattr(stage, "upsample"):
                h = stage.upsample.up(h, level >= len(self.up) - TIME_LEVELS)
        return self.conv_out(F.silu(self.norm_out(h, z)), caches)


class Vae(nn.Module):
    """Encoder and decoder; `CONFIG` is that of the built-in model."""

    CONFIG = dict(
        base=8, encoder_channels=(8, 16, 32, 64), encoder_blocks=(1, 1, 1, 1),
        decoder_channels=(16, 16, 32, 64), decoder_blocks=(1, 2, 2, 2), latent=4, groups=8,
    )

    def __init__(self, base, encoder_channels, encoder_blocks, decoder_channels, decoder_blocks, latent, groups):
        super().__init__()
        self.latent = latent
        self.encoder = Encoder(base, encoder_channels, encoder_blocks, latent, groups)
        self.decoder = Decoder(decoder_channels, decoder_blocks, latent, groups)

    def moments(self, x):
        """Mean and log-variance, from chunks of 17, 16, 16 ... frames."""
        caches = {}
        time = x.shape[2]
        if time <= 17:
            m = self.encoder(x)
        else:
            edges = [0, *range(17, time, 16), time]
            m = torch.cat([self.encoder(x[:, :, a:b], caches) for a, b in zip(edges, edges[1:])], 2)
        mean, logvar = m.chunk(2, 1)
        return mean, logvar.clamp(-30, 20)

    def decode(self, z):
        """Frames, from chunks of 3, 2, 2 ... latents."""
        time = z.shape[2]
        if time <= 3:
            return self.decoder(z)
        caches = {}
        edges = [0, *range(3, time, 2), time]
        return torch.cat([self.decoder(z[:, :, a:b], caches) for a, b in zip(edges, edges[1:])], 2)
