"""AMMSM's spatial stream: ResNet-18 on the onset picture up to where it is fused, and the fusion.

He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016. Parameters have the names of
torchvision's resnet18, so that published weights of its first half fit.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, which published weights expect to be taken out."""


class Spatial(nn.Module):
    """The stem and the first two stages of ResNet-18: a picture becomes a map of an eighth of its side.

    Args:
        width: of the first stage, 64 in ResNet-18; the second has twice as many channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, values in (("mean", _MEAN), ("std", _STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Basic(width, width, 1), Basic(width, width, 1))
        self.layer2 = nn.Sequential(Basic(width, 2 * width, 2), Basic(2 * width, 2 * width, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, onset: Tensor) -> Tensor:
        """RGB pictures (B, 3, S, S) in 0..1 -> (B, 2 width, S / 8, S / 8)."""
        x = functional.relu(self.bn1(self.conv1((onset - self.mean) / self.std)))
        x = functional.max_pool2d(x, 3, 2, 1)
        y: Tensor = self.layer2(self.layer1(x))
        return y


class Basic(nn.Module):
    """ReLU(x + BN(conv(ReLU(BN(conv(x)))))); with another size, x goes through a 1 x 1 convolution and batch norm."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        same = into == out and stride == 1
        self.downsample = (
            None if same else nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, into, H, W) -> (B, out, H / stride, W / stride)."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(y + shortcut)


class Fusion(nn.Module):
    """Motion and structure in one map.

    Args:
        width: channels of either map.
        how: "sum", or "concat": both side by side, and a 1 x 1 convolution back to `width`.
    """

    def __init__(self, width: int, how: Literal["sum", "concat"]) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 * width, width, 1) if how == "concat" else None

    def forward(self, motion: Tensor, structure: Tensor) -> Tensor:
        """(B, C, H, W), (B, C, h, w) -> (B, C, H, W); a `structure` of another size is averaged to that of `motion`."""
        if structure.shape[2:] != motion.shape[2:]:
            structure = functional.adaptive_avg_pool2d(structure, (motion.shape[2], motion.shape[3]))
        if self.mix is None:
            return motion + structure
        y: Tensor = self.mix(torch.cat([motion, structure], 1))
        return y
