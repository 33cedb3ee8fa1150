"""Flow of either unit as channels of a picture: another size, its magnitude, 0..255."""

from __future__ import annotations

import numpy as np

from fleeting import motion
from fleeting.records import Array, FlowField


def resized(field: FlowField, side: int) -> Array:
    """(2, side, side) float32: vector-true for pixels, values untouched for min-max scaled flow."""
    if field.unit == "px":
        return motion.resize(field.uv, side, side)
    return np.stack([motion.resize_map(component, side, side) for component in field.uv])


def magnitude(uv: Array, unit: str) -> Array:
    """(h, w) length of the vectors (2, h, w); of min-max scaled flow, whose zero is lost, minus their medians.

    The median stands for "no motion": most of a face is still.
    """
    if unit == "px":
        return motion.magnitude(uv)
    return motion.magnitude(uv - np.median(uv, axis=(1, 2), keepdims=True))


def minmax255(picture: Array) -> Array:
    """(C, h, w): each channel to 0..255 by its own minimum and maximum; one without any range becomes 0, not NaN."""
    low, high = picture.min(axis=(1, 2), keepdims=True), picture.max(axis=(1, 2), keepdims=True)
    return np.asarray(255 * (picture - low) / np.where(high > low, high - low, 1))
