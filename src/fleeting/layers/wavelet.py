"""One level of the separable discrete wavelet transform of feature maps, and its inverse.

The transform is PyWavelets' ``dwt2`` in mode "periodization": a map is continued periodically, an odd side after its
last row or column is repeated once, so that a side of n gives ceil(n / 2) coefficients and nothing more. Sides shorter
than the filter wrap around as often as they must.

A map gives four bands, stacked in this order (first letter: along a row, horizontally; second: along a column,
vertically; as in BOWAM, section 3.2.2):

    0  LL  low and low: the approximation, pywt's cA
    1  LH  horizontally low, vertically high: horizontal edges, pywt's cH
    2  HL  horizontally high, vertically low: vertical edges, pywt's cV
    3  HH  high and high: diagonals, pywt's cD

Along one axis the transform is a matrix whose rows are the shifted filters (Mallat, IEEE PAMI 11(7), 1989), so a map
takes two matrix products, of which the gradient is again two products. On maps of a network (up to some hundred pixels
a side) that beats convolutions by far, however long the filter. Haar's rows have two entries, so it adds and subtracts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, cast

import numpy as np
import pywt
import torch
from torch import Tensor

from fleeting.errors import UserError, nearest

BANDS = ("LL", "LH", "HL", "HH")
"""Names of the bands in the order in which they are stacked."""


def dwt(x: Tensor, wavelet: str = "haar") -> Tensor:
    """One level of the transform (equation 2 of BOWAM).

    Args:
        x: (B, C, H, W), floating point, in any memory format, on any device; H and W at least 1.
        wavelet: name of a discrete wavelet of PyWavelets: "haar", "db4", "sym5", "bior2.2", "coif5", ...

    Returns:
        (B, 4, C, ceil(H / 2), ceil(W / 2)): the bands in the order of `BANDS`; each is channels-last in memory, and so
        are the three high ones as one map: ``dwt(x)[:, 1:].flatten(1, 2)``.

    Raises:
        UserError: there is no such wavelet.
        ValueError: `x` is no batch of maps.
    """
    taps(wavelet)
    if x.ndim != 4 or not min(x.shape[2:]):
        raise ValueError(f"want maps (B, C, H, W) of at least one pixel, got {tuple(x.shape)}")
    y = x.permute(0, 2, 3, 1)
    if _is_haar(wavelet):
        bands = _split(_even(_even(y, 1), 2).contiguous())  # (B, h, w, 4, C)
        return bands.permute(0, 3, 4, 1, 2)
    batch, height, width, channels = y.shape
    down, across = (_analysis(wavelet, side, x.dtype, x.device) for side in (height, width))
    y = torch.matmul(down, y.reshape(batch, height, width * channels)).view(-1, width, channels)
    y = torch.matmul(across, y).view(batch, 2, len(down) // 2, 2, len(across) // 2, channels)  # (B, v, h, u, w, C)
    bands = y.permute(0, 2, 4, 3, 1, 5).reshape(batch, len(down) // 2, len(across) // 2, 4, channels)
    return bands.permute(0, 3, 4, 1, 2)


def idwt(bands: Tensor, wavelet: str, size: tuple[int, int]) -> Tensor:
    """Inverse of `dwt`; of "dmey", whose filters PyWavelets cuts off, to .02.

    Args:
        bands: (B, 4, C, h, w) in the order of `BANDS`.
        wavelet: as in `dwt`.
        size: (H, W) of the map that was transformed: odd or even cannot be told from the bands.

    Returns:
        (B, C, H, W), channels-last in memory.

    Raises:
        UserError: there is no such wavelet.
        ValueError: a map of that size has no such bands.
    """
    taps(wavelet)
    halves = tuple((side + 1) // 2 for side in size)
    if bands.ndim != 5 or bands.shape[1] != 4 or tuple(bands.shape[3:]) != halves or min(size) < 1:
        raise ValueError(f"want bands (B, 4, C, {halves[0]}, {halves[1]}) of a map of {size}, got {tuple(bands.shape)}")
    (height, width), (batch, _, channels, rows, columns) = size, bands.shape
    y = bands.permute(0, 3, 4, 1, 2)  # (B, h, w, 4, C)
    if _is_haar(wavelet):
        whole = _join(y.contiguous())
        return whole[:, :height, :width].permute(0, 3, 1, 2)
    y = y.reshape(batch, rows, columns, 2, 2, channels).permute(0, 4, 1, 3, 2, 5)  # (B, v, h, u, w, C)
    down, across = (_synthesis(wavelet, side, bands.dtype, bands.device) for side in size)
    y = torch.matmul(down, y.reshape(batch, 2 * rows, 2 * columns * channels)).view(-1, 2 * columns, channels)
    return torch.matmul(across, y).view(batch, height, width, channels).permute(0, 3, 1, 2)


def taps(wavelet: str) -> tuple[tuple[float, ...], ...]:
    """Its filters, as PyWavelets orders them: low and high of the transform, low and high of the inverse.

    Raises:
        UserError: there is no such discrete wavelet.
    """
    return _taps(wavelet)


@lru_cache(maxsize=256)
def _taps(wavelet: str) -> tuple[tuple[float, ...], ...]:
    known = pywt.wavelist(kind="discrete")
    if wavelet not in known:
        raise UserError(f"want a discrete wavelet of PyWavelets, got {wavelet!r}{nearest(wavelet, known)}")
    return tuple(tuple(map(float, each)) for each in pywt.Wavelet(wavelet).filter_bank)


def _is_haar(wavelet: str) -> bool:
    return len(_taps(wavelet)[0]) == 2


@lru_cache(maxsize=512)
def _analysis(wavelet: str, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2 ceil(n / 2), n): rows that give the low coefficients, then those that give the high ones."""
    low, high, _, _ = _taps(wavelet)
    matrix = np.vstack([_shifted(filter_, side + side % 2) for filter_ in (low, high)])
    if side % 2:  # what is added after the last pixel is the last pixel
        matrix[:, side - 1] += matrix[:, side]
    return _tensor(matrix[:, :side], dtype, device)


@lru_cache(maxsize=512)
def _synthesis(wavelet: str, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(n, 2 ceil(n / 2)): the inverse of `_analysis`; for an odd side, without the row that was added."""
    _, _, low, high = _taps(wavelet)
    matrix = np.vstack([_shifted(filter_[::-1], side + side % 2) for filter_ in (low, high)]).T
    return _tensor(matrix[:side], dtype, device)


def _shifted(filter_: tuple[float, ...], side: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(side / 2, side): coefficient k is the sum over j of filter[j] x[2 k + length / 2 - j], x periodic."""
    matrix = np.zeros((side // 2, side))
    steps = np.arange(side // 2)
    for place, tap in enumerate(filter_):
        matrix[steps, (2 * steps + len(filter_) // 2 - place) % side] += tap
    return matrix


def _tensor(matrix: np.ndarray[Any, np.dtype[np.float64]], dtype: torch.dtype, device: torch.device) -> Tensor:
    # a cached tensor that was made in inference mode could never be used in training
    with torch.inference_mode(False):
        return torch.from_numpy(np.ascontiguousarray(matrix)).to(device=device, dtype=dtype)


def _even(x: Tensor, axis: int) -> Tensor:
    """The last row or column once more where their number is odd."""
    return torch.cat([x, x.narrow(axis, -1, 1)], axis) if x.shape[axis] % 2 else x


class _Split(torch.autograd.Function):
    """Haar: (B, H, W, C), sides even -> (B, H / 2, W / 2, 4, C). Orthonormal, so the gradient is `_Join`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        upper, lower = x.view(batch, height // 2, 2, width // 2, 2, channels).unbind(2)  # rows of a 2 x 2 square
        bands = x.new_empty(batch, height // 2, width // 2, 4, channels)
        for band, rows in ((0, upper + lower), (1, upper - lower)):
            left, right = rows.unbind(3)
            torch.add(left, right, out=bands[..., band, :])
            torch.sub(left, right, out=bands[..., band + 2, :])
        return bands.mul_(0.5)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return _join(grad[0].contiguous())


class _Join(torch.autograd.Function):
    """Inverse of `_Split`, and its gradient."""

    @staticmethod
    def forward(ctx: Any, bands: Tensor) -> Tensor:
        batch, rows, columns, _, channels = bands.shape
        x = bands.new_empty(batch, rows, 2, columns, 2, channels)
        for column, combine in ((0, torch.add), (1, torch.sub)):
            sums, differences = combine(bands[..., :2, :], bands[..., 2:, :]).unbind(3)
            torch.add(sums, differences, out=x[:, :, 0, :, column])
            torch.sub(sums, differences, out=x[:, :, 1, :, column])
        return x.mul_(0.5).view(batch, 2 * rows, 2 * columns, channels)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return _split(grad[0].contiguous())


def _split(x: Tensor) -> Tensor:
    return cast(Tensor, _Split.apply(x))  # type: ignore[no-untyped-call]


def _join(bands: Tensor) -> Tensor:
    return cast(Tensor, _Join.apply(bands))  # type: ignore[no-untyped-call]
