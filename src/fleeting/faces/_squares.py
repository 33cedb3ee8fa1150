"""Turned squares of a picture: cut out for a network, and the way back from its pixels to the picture's.

Points are (x, y) as everywhere: whole numbers are centres of pixels. Between a square and the picture the edges
of pixels count, so half a pixel is added on one way and taken off on the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from fleeting.records import Array


@dataclass(frozen=True)
class Square:
    """A square of a picture.

    Attributes:
        x, y: its middle, px.
        side: px.
        angle: by which its upper edge is turned, radians, from x to y (clockwise on the screen).
    """

    x: float
    y: float
    side: float
    angle: float = 0.0


def cut(picture: Array, square: Square, size: int) -> Array:
    """The pixels of a square.

    Where the square holds more than two pixels for one of the cut, they are averaged first: without it
    landmarks would shake with the noise of single pixels.

    Args:
        picture: (H, W, 3) uint8.
        square: may reach beyond the picture: black there.
        size: side of the result, px.

    Returns:
        (size, size, 3) uint8.
    """
    part, left, top, shrink = _part(picture, square, max(1, int(square.side // size)))
    if not part.size:
        return np.zeros((size, size, 3), np.uint8)
    matrix = _matrix(square, size)
    matrix[:, 2] -= left, top
    matrix /= shrink
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5  # from edges to centres of pixels, on both sides
    return np.asarray(cv2.warpAffine(part, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


def back(points: Array, square: Square, size: int) -> Array:
    """Points (..., 2) of the cut, counted from its edge, as points of the picture."""
    matrix = _matrix(square, size)
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2] - 0.5, np.float32)


def around(points: Array, eyes: Array, scale: float) -> Square:
    """The smallest square around points, upright by the eyes, times `scale`.

    Args:
        points: (K, 2) px.
        eyes: (2, 2) px, left and right in the picture.
        scale: of the side.
    """
    across = eyes[1] - eyes[0]
    angle = math.atan2(float(across[1]), float(across[0]))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    upright = points @ turn
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y = turn @ ((low + high) / 2)
    return Square(float(x), float(y), float((high - low).max()) * scale, angle)


def distance(one: Square, two: Square) -> float:
    """How far two squares differ, as a share of the first's side: middle, side or turn, what differs most."""
    turned = (two.angle - one.angle + math.pi) % (2 * math.pi) - math.pi
    moved = math.hypot(two.x - one.x, two.y - one.y) / one.side
    return max(moved, abs(two.side / one.side - 1), abs(turned) / 2)


def _matrix(square: Square, size: int) -> Array:
    """(2, 3) float64: from pixels of the cut to those of the picture, both counted from the edge."""
    cosine, sine = (square.side / size * wave(square.angle) for wave in (math.cos, math.sin))
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.array([square.x + 0.5, square.y + 0.5])
    return np.column_stack([turn, middle - turn @ np.full(2, size / 2)])


def _part(picture: Array, square: Square, shrink: int) -> tuple[Array, int, int, int]:
    """What the square can see of the picture, `shrink` times smaller, with its left and top edge in the picture."""
    if shrink == 1:
        return picture, 0, 0, 1
    reach = square.side / 2 * (abs(math.cos(square.angle)) + abs(math.sin(square.angle))) + shrink
    left, top = (max(0, int((middle - reach) // shrink) * shrink) for middle in (square.x, square.y))
    part = picture[top : max(0, int(square.y + reach) + 1), left : max(0, int(square.x + reach) + 1)]
    small = (part.shape[1] // shrink, part.shape[0] // shrink)
    if not all(small):
        return part[:0], left, top, shrink
    # whole blocks only: a part that does not divide evenly would be stretched
    part = part[: small[1] * shrink, : small[0] * shrink]
    return np.asarray(cv2.resize(part, small, interpolation=cv2.INTER_AREA)), left, top, shrink
