"""Aligned frames as arrays that a network eats."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from fleeting.records import Array

Colour = Literal["rgb", "grey"]
NAMES: dict[str, tuple[str, ...]] = {"rgb": ("r", "g", "b"), "grey": ("grey",)}


def array(frame: Array, side: int | None, colour: Colour) -> Array:
    """A frame, channels first.

    Args:
        frame: (h, w, 3) uint8 RGB.
        side: of the result, a square; None leaves the size.
        colour: "rgb", or "grey" by the weights .299, .587, .114 (ITU-R BT.601).

    Returns:
        (C, h, w) uint8 with the channels `NAMES[colour]`.
    """
    if side is not None and frame.shape[:2] != (side, side):
        # area means when shrinking in both directions, as `motion.resize_map` does with flow
        shrinking = min(frame.shape[:2]) >= side
        method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
        frame = np.asarray(cv2.resize(np.ascontiguousarray(frame), (side, side), interpolation=method))
    if colour == "grey":
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY))[None]
    return np.ascontiguousarray(np.moveaxis(frame, -1, 0))
