"""The periodised wavelet transform as one grouped 2-D convolution: the usual form, for even sides."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from fleeting.layers import wavelet


def kernels(name: str, channels: int, like: Tensor) -> Tensor:
    """(4 C, 1, taps, taps): LL, LH, HL, HH of each channel, for a convolution that turns nothing around."""
    low, high = (torch.tensor(taps[::-1], dtype=like.dtype, device=like.device) for taps in wavelet.taps(name)[:2])
    pairs = ((low, low), (high, low), (low, high), (high, high))  # down a column, along a row
    return torch.stack([torch.outer(down, across) for down, across in pairs])[:, None].repeat(channels, 1, 1, 1)


def not_separable(x: Tensor, weight: Tensor) -> Tensor:
    """(B, C, H, W) with even sides -> (B, 4, C, H / 2, W / 2)."""
    taps, (batch, channels, height, width) = weight.shape[-1], x.shape
    places = [_periodic(side, taps, x.device) for side in (height, width)]
    x = x.index_select(2, places[0]).index_select(3, places[1])
    bands = functional.conv2d(x, weight, stride=2, groups=channels)
    return bands.view(batch, channels, 4, height // 2, width // 2).transpose(1, 2)


def _periodic(side: int, taps: int, device: torch.device) -> Tensor:
    """Which pixels the convolution sees: coefficient k reads from 2 k + 1 - taps / 2 on."""
    return torch.arange(1 - taps // 2, side - 1 + taps // 2, device=device) % side
