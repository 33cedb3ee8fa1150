"""The one face that all subjects are made from, and where in it skin, hair, eyes and mouth are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import cv2
import numpy as np

from fleeting.records import Array

# mesh points along the lids and the inner lips: upper and lower curve, from the picture's left corner to the right
LIDS = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133), (33, 7, 163, 144, 145, 153, 154, 155, 133)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263), (362, 382, 381, 380, 374, 373, 390, 249, 263)),
)
LIPS = (
    (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308),
    (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308),
)
# the outer edge of the lips
MOUTH = (
    (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291),
)
Curves = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Portrait:
    """The picture and its parts.

    Attributes:
        image: (H, W, 3) float32 RGB, 0..255.
        parts: (H, W, 3) float32 in [0, 1], soft: the person, and of it the skin and the hair.
        landmarks: (468, 2) float32, the face mesh.
    """

    image: Array
    parts: Array
    landmarks: Array


@cache
def portrait(mirrored: bool) -> Portrait:
    """The vendored picture, or its mirror image, whose landmarks are numbered like those of any other face."""
    with resources.files("fleeting.simulation").joinpath("portrait.npy").open("rb") as stream:
        landmarks = np.load(stream)[int(mirrored)]
    image, parts = (_read(name)[:, ::-1] if mirrored else _read(name) for name in ("portrait.png", "parts.png"))
    return Portrait(np.ascontiguousarray(image), np.ascontiguousarray(parts) / 255, landmarks)


def inside(points: Array, curves: Curves, shape: tuple[int, int], feather_px: float) -> Array:
    """(h, w) float32 mask: 1 between the upper and the lower curve, with a soft edge.

    Args:
        points: (468, 2) pixels of the mask.
        curves: indices of the points on both curves.
        shape: (h, w).
        feather_px: standard deviation of the edge.
    """
    upper, lower = curves
    corners = np.round(points[[*upper, *lower[::-1]]] * 16).astype(np.int32)
    mask = np.zeros(shape, np.float32)
    cv2.fillPoly(mask, [corners], (1.0,), lineType=cv2.LINE_8, shift=4)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), feather_px))


def _read(name: str) -> Array:
    data = np.frombuffer(resources.files("fleeting.simulation").joinpath(name).read_bytes(), np.uint8)
    picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.float32)
