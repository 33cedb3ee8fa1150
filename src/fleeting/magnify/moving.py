"""Frames that moved further than they did."""

from __future__ import annotations

import cv2
import numpy as np

from fleeting import motion
from fleeting.errors import UserError
from fleeting.records import Array

_STEPS = 6  # until the inverse of a smooth flow no longer changes by what can be seen
_SIGMA = 2 / 224  # of the picture's height: finer changes are noise, and break up first when they are magnified


def moved(picture: Array, uv: Array, magnified: Array) -> Array:
    """A later picture as it would look had it moved by `magnified` since the first one, and not by `uv`.

    What was at x in the first picture is at x + uv(x) in `picture`, and comes to lie at x + magnified(x). Where several
    places come to lie at one, or none does, the fixed point of x = y - magnified(x) that is nearest to y decides.

    Args:
        picture: (h, w, 3), the later picture.
        uv, magnified: (2, h, w) px, on the pixels of the first picture.

    Returns:
        Shape and dtype of `picture`.

    Raises:
        UserError: the sizes differ.
    """
    if uv.shape != magnified.shape:
        raise UserError(f"want flow and magnified flow of one size, got {uv.shape} and {magnified.shape}; resize one")
    back = -magnified
    for _ in range(_STEPS):
        back = -_read(magnified, back)
    return motion.warp(picture, back + _read(uv, back))


def folded(magnified: Array) -> float:
    """The share of places, 0 to 1, at which a field (2, h, w) turns the picture over: the warp breaks apart there."""
    (u_y, u_x), (v_y, v_x) = np.gradient(magnified[0]), np.gradient(magnified[1])
    return float(((1 + u_x) * (1 + v_y) - u_y * v_x < 0).mean())


def linear(first: Array, picture: Array, factor: float) -> Array:
    """A later picture with its change of brightness times `factor`: linear, or Eulerian, magnification.

    Wu et al., "Eulerian Video Magnification for Revealing Subtle Changes in the World", ACM TOG 31(4), 2012, with the
    onset as what everything is compared to (no temporal filter), and a Gaussian in place of their pyramid: of changes
    finer than 1 % of the height only what was there is left.

    Args:
        first, picture: (h, w, 3) uint8.
        factor: 1 leaves the picture as it is.

    Returns:
        (h, w, 3) uint8; what leaves 0 to 255 is cut off.
    """
    change = picture.astype(np.float32) - first
    coarse = cv2.GaussianBlur(change, (0, 0), _SIGMA * picture.shape[0])
    return np.asarray(np.clip(np.rint(picture + (factor - 1) * coarse), 0, 255), np.uint8)


def _read(uv: Array, offset: Array) -> Array:
    """uv(y + offset(y)), (2, h, w)."""
    return np.moveaxis(motion.warp(np.moveaxis(uv, 0, -1), offset), -1, 0)
