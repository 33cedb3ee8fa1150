"""Facial landmarks as points with names: which of 5, 68, 468 or 478 points is an eye, the nose, a mouth corner.

"Left" is the picture's left. 68 points are numbered as in the 300-W annotation (Sagonas et al., "300 Faces
in-the-Wild Challenge", ICCV Workshops 2013), 468 as in the face mesh (Kartynnik et al., "Real-time Facial Surface
Geometry from Monocular Video on Mobile GPUs", CVPR Workshops 2019); 478 are those and ten of the irises.
"""

from __future__ import annotations

import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array

# number of points -> those whose means are left eye, right eye, nose tip, left and right mouth corner
_FIVE: dict[int, tuple[tuple[int, ...], ...]] = {
    5: ((0,), (1,), (2,), (3,), (4,)),
    68: (tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),
    468: ((33, 133), (362, 263), (1,), (61,), (291,)),
}
# the mesh point nearest to each of the 68
_MESH = (
    127, 234, 93, 132, 172, 136, 149, 148, 152, 377, 378, 365, 397, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
REGIONS: dict[str, tuple[int, ...]] = {
    "jaw": tuple(range(17)),
    "left_brow": tuple(range(17, 22)),
    "right_brow": tuple(range(22, 27)),
    "nose": tuple(range(27, 36)),
    "left_eye": tuple(range(36, 42)),
    "right_eye": tuple(range(42, 48)),
    "mouth": tuple(range(48, 68)),
}
"""Names of the parts of a face -> their points among the 68."""


def five(points: Array) -> Array:
    """Left eye, right eye, nose tip, left and right mouth corner.

    Args:
        points: (..., K, 2) with K = 5, 68, 468 or 478; NaN where there is no face.

    Returns:
        (..., 5, 2), the eyes as the middle of their points.

    Raises:
        UserError: another number of points.
    """
    groups = _FIVE.get(468 if points.shape[-2] == 478 else points.shape[-2])
    if groups is None:
        raise UserError(f"want 5, 68, 468 or 478 landmarks, got {points.shape[-2]}; choose another face tracker")
    return np.stack([points[..., list(group), :].mean(axis=-2) for group in groups], axis=-2)


def sixty_eight(points: Array) -> Array:
    """The 68 points, of a mesh the nearest to each.

    Args:
        points: (..., K, 2) with K = 68, 468 or 478.

    Returns:
        (..., 68, 2).

    Raises:
        UserError: another number of points.
    """
    if points.shape[-2] == 68:
        return points
    if points.shape[-2] not in (468, 478):
        raise UserError(f"want 68, 468 or 478 landmarks, got {points.shape[-2]}; choose another face tracker")
    return points[..., list(_MESH), :]


def box(points: Array) -> Array:
    """(..., 4): left, top, right, bottom of (..., K, 2) points; NaN where they are."""
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)
