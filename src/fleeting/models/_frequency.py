"""Bands of a feature map by its Fourier transform: what BOWAM's Table 11(b) puts in place of wavelets.

A filter that acts on rows and columns alike is one symmetric circulant matrix an axis, so a band is two matrix products
and needs no complex numbers; maps of a network are small enough for that.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

FREQHD_RADIUS = 20 / 224
"""Width of Freq-HD's Gaussian filter in cycles a pixel: 20 frequencies of a picture of 224 pixels in its code."""


def quarters(x: Tensor) -> Tensor:
    """Four bands with sharp edges at a quarter of a cycle a pixel, whose sum is the map.

    Args:
        x: (B, C, H, W).

    Returns:
        (B, 4, C, H, W): LL, LH, HL, HH as in `layers.wavelet`, at full size.
    """
    down, across = (_sharp(side, x.dtype, x.device) for side in x.shape[2:])
    left = _filtered(x, None, across)
    low, high = _filtered(left, down, None), _filtered(x - left, down, None)
    return torch.stack([low, left - low, high, x - left - high], 1)


def smooth(x: Tensor) -> Tensor:
    """The low band of Freq-HD's spatial filter, exp(-f^2 / (2 radius^2)): (B, C, H, W); the high one is the rest."""
    return _filtered(x, *(_gaussian(side, x.dtype, x.device) for side in x.shape[2:]))


def _filtered(x: Tensor, down: Tensor | None, across: Tensor | None) -> Tensor:
    """Rows by `across`, columns by `down`; the result is channels-last in memory."""
    y = x.permute(0, 2, 3, 1)
    batch, height, width, channels = y.shape
    if down is not None:
        y = torch.matmul(down, y.reshape(batch, height, width * channels)).view(batch, height, width, channels)
    if across is not None:
        y = torch.matmul(across, y)
    return y.permute(0, 3, 1, 2)


@lru_cache(maxsize=128)
def _sharp(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return _circulant(np.abs(np.fft.fftfreq(side)) < 0.25, dtype, device)


@lru_cache(maxsize=128)
def _gaussian(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return _circulant(np.exp(-0.5 * (np.fft.fftfreq(side) / FREQHD_RADIUS) ** 2), dtype, device)


def _circulant(response: np.ndarray, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, n) of a real and even response over the n frequencies."""
    side = np.arange(len(response))
    matrix = np.fft.ifft(response).real[(side[:, None] - side) % len(response)]
    # a cached tensor that was made in inference mode could never be used in training
    with torch.inference_mode(False):
        return torch.from_numpy(np.ascontiguousarray(matrix)).to(device=device, dtype=dtype)
