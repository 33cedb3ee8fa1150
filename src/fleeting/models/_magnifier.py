"""AMMSM's magnifier: a U-Net from flow and a map of the factor to magnified flow (section III-A).

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015, its
convolutions padded, so that a map keeps its size. It has no norm: the length of the flow is what it works on.

In what units it works decides whether it learns. The flow of a micro-expression is some hundredths or tenths of a pixel
in the mean, beside a map of factors from 1 to 4: the first convolution would see the factor alone. So the U-Net works
in units of what it sees and of what is asked of it: flow comes in divided by its root mean square, a picture at a time,
and what comes out is in units of that times the factor. Half the motion gives half the magnified motion, and the length
of motion is not lost.
"""

from __future__ import annotations

from itertools import pairwise
from math import pi
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

_WAVES = (-3.0, 7.0, 32)
"""Wave lengths of the sines: the exponents of 2 of the first and the last, and how many."""
_STILL = 1e-12
"""px^2: below this mean square nothing moves, and nothing is divided by it."""


class Form(NamedTuple):
    """A magnifier's options.

    Attributes:
        width: channels at the first scale, 64 in the U-Net of Ronneberger et al.
        levels: how often a map is halved, 4 there.
        units: of what comes in and goes out. "relative": see the module; "given": the flow's own.
        factor_map: "factor": one channel that holds the factor; "sines": `encoded`.
        residual: what comes out is added to the flow times the factor, and is zero before training: the magnifier
            begins as plain scaling.
    """

    width: int
    levels: int
    units: Literal["relative", "given"] = "relative"
    factor_map: Literal["factor", "sines"] = "factor"
    residual: bool = False


class Magnifier(nn.Module):
    """Double convolutions on `levels` + 1 scales, twice the width from scale to scale, skips, a 1 x 1 at the end.

    Args:
        channels: of the flow.
        form: of the U-Net, and how flow and factor enter and leave it.
    """

    def __init__(self, channels: int, form: Form) -> None:
        super().__init__()
        self.form = form
        widths = [form.width * 2**level for level in range(form.levels + 1)]
        self.step = 2**form.levels
        self.first = _double(channels + (_WAVES[2] if form.factor_map == "sines" else 1), form.width)
        self.down = nn.ModuleList(_double(into, out) for into, out in pairwise(widths))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * out, out, 2, 2) for out in reversed(widths[:-1]))
        self.up = nn.ModuleList(_double(2 * out, out) for out in reversed(widths[:-1]))
        self.last = nn.Conv2d(form.width, channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                linear = isinstance(module, nn.ConvTranspose2d) or module is self.last
                # of a transposed convolution each place has as many inputs as it has input channels
                inputs = module.in_channels * (1 if linear else module.kernel_size[0] * module.kernel_size[1])
                nn.init.normal_(module.weight, std=((1 if linear else 2) / inputs) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if form.residual:
            nn.init.zeros_(self.last.weight)

    def forward(self, flow: Tensor, factor: float) -> Tensor:
        """Flow (B, channels, H, W) of any size, how many times it is to be magnified -> the same shape."""
        unit: Tensor | float = 1.0
        if self.form.units == "relative":
            # of a still picture the root has no slope
            unit = flow.float().square().mean((1, 2, 3), keepdim=True).clamp_min(_STILL).sqrt().to(flow.dtype)
        made = self._unet(flow / unit, factor)
        made = made * (unit * factor) if self.form.units == "relative" else made
        return factor * flow + made if self.form.residual else made

    def _unet(self, flow: Tensor, factor: float) -> Tensor:
        height, width = flow.shape[2:]
        values = encoded(factor) if self.form.factor_map == "sines" else [factor]
        maps = flow.new_tensor(values).view(1, -1, 1, 1).expand(len(flow), -1, height, width)
        x = torch.cat([flow, maps], 1)
        x = self.first(functional.pad(x, (0, -width % self.step, 0, -height % self.step), mode="replicate"))
        scales = [x]
        for part in self.down:
            scales.append(part(functional.max_pool2d(scales[-1], 2)))
        x = scales.pop()
        for grow, part in zip(self.grow, self.up, strict=True):
            x = part(torch.cat([scales.pop(), grow(x)], 1))
        y: Tensor = self.last(x)
        return y[..., :height, :width]


def encoded(factor: float) -> list[float]:
    """A factor by 32 sines whose waves are 1/8 to 128 long.

    Pan, Geng and Owens, "Self-Supervised Motion Magnification by Backpropagating Through Optical Flow", NeurIPS 2023,
    as their code has it; the paper takes its map of the factor from there.
    """
    first, last, count = _WAVES
    lengths = torch.logspace(first, last, count, base=2, dtype=torch.float64, device="cpu")
    sines: list[float] = torch.sin(2 * pi * factor / lengths).tolist()
    return sines


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
