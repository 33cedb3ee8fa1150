"""Median filter of torch tensors by comparisons alone, so that it runs on any device and gives the same bits."""

import torch
import torch.nn.functional as functional
from torch import Tensor


def median(planes: Tensor, size: int) -> Tensor:
    """Median over size x size pixels, the border repeated.

    The columns of a window are sorted once for all windows that share them, then the rows of sorted columns.
    What then has more than half of the window above or below itself cannot be the median and is left out
    (5 x 5: 13 of 25 stay); the median of the rest is found by dropping minimum and maximum in turn.

    Args:
        planes: (N, C, h, w).
        size: odd.

    Returns:
        (N, C, h, w), each value one of `planes`.
    """
    half = size // 2
    height, width = planes.shape[-2:]
    padded = functional.pad(planes, (half, half, half, half), mode="replicate")
    columns = _sorted([padded[..., row : row + height, :] for row in range(size)])
    rows = [_sorted([column[..., at : at + width] for at in range(size)]) for column in columns]
    most = (size * size + 1) // 2
    kept = [
        rows[i][j]
        for i in range(size)
        for j in range(size)
        if (i + 1) * (j + 1) <= most and (size - i) * (size - j) <= most
    ]
    return _middle(kept)


def _sorted(values: list[Tensor]) -> list[Tensor]:
    """The same numbers, elementwise in ascending order."""
    values = list(values)
    for end in range(len(values) - 1, 0, -1):
        for index in range(end):
            values[index], values[index + 1] = _exchange(values[index], values[index + 1])
    return values


def _middle(values: list[Tensor]) -> Tensor:
    """Elementwise median of an odd number of tensors.

    Of more than half of them, neither the smallest nor the largest can be the median.
    """
    start = len(values) // 2 + 2
    working, rest = values[:start], values[start:]
    while len(working) > 2:
        for index in range(len(working) - 1):  # the largest to the end
            working[index], working[index + 1] = _exchange(working[index], working[index + 1])
        for index in range(len(working) - 2, 0, -1):  # the smallest to the front
            working[index - 1], working[index] = _exchange(working[index - 1], working[index])
        working = working[1:-1] + rest[:1]
        rest = rest[1:]
    return working[0]


def _exchange(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    return torch.minimum(one, two), torch.maximum(one, two)
