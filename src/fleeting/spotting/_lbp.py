"""Local binary patterns of eight neighbours, the uniform ones told apart, as histograms of blocks."""

from __future__ import annotations

from functools import cache

import numpy as np

from fleeting.records import Array

BINS = 59
"""58 patterns with at most two changes around the circle, and one bin for all others."""


def histograms(picture: Array, radius: int, blocks: int) -> Array:
    """Histograms of the codes of a picture, block by block.

    Ojala, Pietikainen and Maenpaa, "Multiresolution gray-scale and rotation invariant texture classification with
    local binary patterns", TPAMI 2002, doi 10.1109/TPAMI.2002.1017623: the u2 form, neighbours between pixels
    interpolated linearly.

    Args:
        picture: (h, w) float32; both sides greater than 2 radius.
        radius: of the circle of neighbours, pixels.
        blocks: so many rows and columns of blocks, fewer where the picture is too small.

    Returns:
        (blocks, blocks, 59) float64 shares of each block's pixels, sum 1 in each block.
    """
    codes = _uniform()[codes_of(picture, radius)]
    rows, columns = (np.array_split(np.arange(size), min(blocks, size)) for size in codes.shape)
    counts = [[np.bincount(codes[row[0] : row[-1] + 1, column[0] : column[-1] + 1].ravel(), minlength=BINS)
               for column in columns] for row in rows]  # fmt: skip
    found = np.asarray(counts, np.float64)
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


def codes_of(picture: Array, radius: int) -> Array:
    """(h - 2 radius, w - 2 radius) uint8: bit i is set where neighbour i is at least as bright as the centre.

    Neighbour i lies at the angle i pi / 4 from the right, counter-clockwise.
    """
    height, width = (size - 2 * radius for size in picture.shape)
    centre = picture[radius : radius + height, radius : radius + width]
    codes = np.zeros((height, width), np.uint8)
    for bit in range(8):
        angle = bit * np.pi / 4
        neighbour = _shifted(picture, radius - radius * np.sin(angle), radius + radius * np.cos(angle), centre.shape)
        # interpolation of equal values may miss them by a rounding error
        codes |= (neighbour >= centre - 1e-6).astype(np.uint8) << np.uint8(bit)
    return codes


def _shifted(picture: Array, top: float, left: float, shape: tuple[int, ...]) -> Array:
    """The part of a picture that starts at (top, left), between pixels interpolated linearly."""
    (row, down), (column, right) = (divmod(round(float(at), 9), 1) for at in (top, left))
    found = np.zeros(shape, np.float32)
    for y, vertical in ((int(row), 1 - down), (int(row) + 1, down)):
        for x, horizontal in ((int(column), 1 - right), (int(column) + 1, right)):
            if vertical * horizontal > 0:
                found += np.float32(vertical * horizontal) * picture[y : y + shape[0], x : x + shape[1]]
    return found


@cache
def _uniform() -> Array:
    """(256,): code -> bin."""
    circle = [[code >> bit & 1 for bit in range(8)] for code in range(256)]
    changes = np.array([sum(bits[bit] != bits[bit - 1] for bit in range(8)) for bits in circle])
    bins = np.full(256, BINS - 1)
    bins[changes <= 2] = np.arange((changes <= 2).sum())
    return bins
