"""What every flow method asks of its two batches."""

import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array

SMALLEST = 16
"""Side in pixels below which no method is asked: a pyramid has no second level, a patch of DIS no room."""


def check(first: Array, second: Array) -> None:
    """Two batches (N, h, w) of finite numbers and of one shape, or a line that says what is wrong.

    Raises:
        UserError: the batches differ in shape, are smaller than `SMALLEST`, or hold NaN or infinity.
    """
    if first.shape != second.shape or first.ndim != 3:
        raise UserError(
            f"want two batches (N, h, w) of one shape, got {first.shape} and {second.shape}; align the frames"
        )
    height, width = first.shape[1:]
    if min(height, width) < SMALLEST:
        raise UserError(f"want pictures of at least {SMALLEST} px, got {width} x {height}; align to a larger size")
    for name, batch in (("first", first), ("second", second)):
        finite = np.isfinite(batch).all(axis=(1, 2))
        if not finite.all():
            raise UserError(
                f"want pictures of finite numbers, got NaN or infinity in the {name} picture of pair "
                f"{int(np.argmin(finite))}; look at the frames and at their landmarks"
            )


def grey8(picture: Array) -> Array:
    """(h, w) grey in [0, 1] to 0..255 uint8; what lies outside is clipped."""
    return np.asarray(np.round(255 * picture).clip(0, 255), dtype=np.uint8)
