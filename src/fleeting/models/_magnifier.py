"""AMMSM's magnifier: a U-Net from flow and a map of the factor to magnified flow (section III-A).

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015, its
convolutions padded, so that a map keeps its size. It has no norm: the length of the flow is what it works on.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class Magnifier(nn.Module):
    """Double convolutions on `levels` + 1 scales, twice the width from scale to scale, skips, a 1 x 1 at the end.

    Args:
        channels: of the flow.
        width: channels at the first scale, 64 in the U-Net of Ronneberger et al.
        levels: how often a map is halved, 4 there.
    """

    def __init__(self, channels: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.step = 2**levels
        self.first = _double(channels + 1, width)
        self.down = nn.ModuleList(_double(into, out) for into, out in pairwise(widths))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * out, out, 2, 2) for out in reversed(widths[:-1]))
        self.up = nn.ModuleList(_double(2 * out, out) for out in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                linear = isinstance(module, nn.ConvTranspose2d) or module is self.last
                # of a transposed convolution each place has as many inputs as it has input channels
                inputs = module.in_channels * (1 if linear else module.kernel_size[0] * module.kernel_size[1])
                nn.init.normal_(module.weight, std=((1 if linear else 2) / inputs) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, flow: Tensor, factor: float) -> Tensor:
        """Flow (B, channels, H, W) of any size, how many times it is to be magnified -> the same shape."""
        height, width = flow.shape[2:]
        x = torch.cat([flow, flow.new_full((len(flow), 1, height, width), factor)], 1)
        x = self.first(functional.pad(x, (0, -width % self.step, 0, -height % self.step), mode="replicate"))
        scales = [x]
        for part in self.down:
            scales.append(part(functional.max_pool2d(scales[-1], 2)))
        x = scales.pop()
        for grow, part in zip(self.grow, self.up, strict=True):
            x = part(torch.cat([scales.pop(), grow(x)], 1))
        y: Tensor = self.last(x)
        return y[..., :height, :width]


def distance(flow: Tensor, magnified: Tensor, factor: float) -> Tensor:
    """(B,) equation 1: how far the magnified flow is from `factor` times the flow; the mean over channels and places.

    Args:
        flow, magnified: (B, C, H, W).
    """
    return (factor * flow.float() - magnified.float()).abs().mean((1, 2, 3))


def _double(into: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1), nn.ReLU()
    )  # fmt: skip
