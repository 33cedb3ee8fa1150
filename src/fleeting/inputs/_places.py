"""Heat maps of an input back onto the picture that it was made of."""

from __future__ import annotations

import cv2
import numpy as np

from fleeting import motion
from fleeting.records import Array, FaceClip


def whole(heat: Array, face: FaceClip) -> Array:
    """A map of the whole picture, at the size of the aligned face.

    Args:
        heat: (h, w), of any size; NaN where the input does not look.
        face: with a moment; without frames the size is left as it is.

    Returns:
        (H, W) float32; values between the cells are interpolated, NaN stays NaN.
    """
    heat = np.asarray(heat, np.float32)
    if face.moment is None or not len(face.frames):
        return heat
    height, width = face.frames[face.moment.onset].shape[:2]
    seen = np.isfinite(heat)
    grown = motion.resize_map(np.where(seen, heat, np.float32(0)), height, width)
    if seen.all():
        return grown
    mask = cv2.resize(seen.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.where(mask > 0, grown, np.float32(np.nan))
