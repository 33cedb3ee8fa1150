"""The shape of a subject: where its landmarks are, and the warp that takes the portrait there.

Coordinates of a face: origin at the middle of the box around the mesh points, unit = the height of that box, x to
the picture's right along the line of the eyes, y down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np

from fleeting.records import Array
from fleeting.simulation._portrait import LIPS, MOUTH, portrait

# name -> standard deviation over subjects, in the unit of its formula in `deform`
SPREAD: dict[str, float] = {
    "width": 0.055, "jaw_width": 0.09, "jaw_length": 0.06, "forehead": 0.06, "eye_distance": 0.012, "eye_size": 0.09,
    "nose_width": 0.12, "nose_length": 0.02, "mouth_width": 0.09, "lips": 0.16, "smile": 0.014, "brow_height": 0.010,
    "brow_tilt": 0.12, "hair": 0.08, "lean": 0.012,
}  # fmt: skip
_EYES = ((33, 133, 159, 145), (362, 263, 386, 374))
_BROWS = ((70, 63, 105, 66, 107), (336, 296, 334, 293, 300))


def deform(traits: Mapping[str, float], mirrored: bool, points: Array) -> Array:
    """Points of the portrait's face, moved to where they are in the subject's.

    Args:
        traits: of `SPREAD`, in its units, and "closed": by how much of its opening the mouth is closed, 0..1.
        mirrored: whether `points` lie on the mirrored portrait.
        points: (N, 2) in coordinates of the face.

    Returns:
        (N, 2).
    """
    own = mesh(mirrored)
    # one after the other: lips that have met stay together whatever moves them later
    steps: list[Callable[[Array, Array], Array]] = [
        lambda x, y: traits["closed"] * _closing(x, y, own),
        lambda x, y: _mouth(x, y, own, traits),
        *(partial(_eye, centre=own[list(eye)].mean(0), traits=traits) for eye in _EYES),
        *(partial(_brow, points=own[list(brow)], traits=traits) for brow in _BROWS),
        lambda x, y: _nose(x, y, own[1], traits),
        lambda x, y: _outline(x, y, own, traits),
    ]
    moved = points.T.astype(np.float64)
    for step in steps:
        moved = moved + step(*moved)
    return np.asarray(moved.T)


def mesh(mirrored: bool) -> Array:
    """(468, 2) landmarks of the portrait in coordinates of the face."""
    points, (scale, centre, turn) = portrait(mirrored).landmarks, frame(mirrored)
    return np.asarray((points - centre) @ turn / scale)


@cache
def frame(mirrored: bool) -> tuple[float, Array, Array]:
    """Height of the box around the portrait's landmarks, its middle, and (2, 2) the axes of the face as columns."""
    points = portrait(mirrored).landmarks.astype(np.float64)
    across = points[[362, 263]].mean(0) - points[[33, 133]].mean(0)
    across /= np.hypot(*across)
    turn = np.array([[across[0], -across[1]], [across[1], across[0]]])
    upright = points @ turn
    low, high = upright.min(0), upright.max(0)
    return float(high[1] - low[1]), turn @ ((low + high) / 2), turn


def _near(x: Array, y: Array, centre: Array, radius: tuple[float, float]) -> Array:
    return np.asarray(np.exp(-0.5 * (((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2)))


def _outline(x: Array, y: Array, own: Array, traits: Mapping[str, float]) -> Array:
    mouth, brows = own[13, 1], own[[105, 334], 1].mean()
    face = np.exp(-0.5 * (x / 0.75) ** 4)
    jaw = _ramp((y - own[1, 1] + 0.1) / 0.5) * np.exp(-0.5 * (np.maximum(y - own[152, 1], 0) / 0.2) ** 2)
    chin = _ramp((y - mouth) / 0.4)
    top = _ramp((brows - 0.02 - y) / 0.3)
    dx = face * x * (traits["width"] + jaw * traits["jaw_width"] + top * traits["hair"]) + traits["lean"] * y
    dy = 0.4 * chin * traits["jaw_length"] - 0.5 * top * traits["forehead"] - 0.1 * traits["width"] * y
    return np.stack([dx, dy])


def _eye(x: Array, y: Array, centre: Array, traits: Mapping[str, float]) -> Array:
    near, wide = _near(x, y, centre, (0.13, 0.07)), _near(x, y, centre, (0.2, 0.16))
    dx = near * (x - centre[0]) * traits["eye_size"] + np.sign(centre[0]) * wide * traits["eye_distance"]
    return np.stack([dx, 1.4 * near * (y - centre[1]) * traits["eye_size"]])


def _brow(x: Array, y: Array, points: Array, traits: Mapping[str, float]) -> Array:
    centre = points.mean(0)
    near = _near(x, y, centre, (0.17, 0.05))
    outwards = np.sign(centre[0]) * (x - centre[0])
    return np.stack([0 * x, -near * (traits["brow_height"] + traits["brow_tilt"] * outwards)])


def _nose(x: Array, y: Array, tip: Array, traits: Mapping[str, float]) -> Array:
    near = _near(x, y, tip, (0.13, 0.1))
    return np.stack([near * (x - tip[0]) * traits["nose_width"], near * traits["nose_length"]])


def _mouth(x: Array, y: Array, own: Array, traits: Mapping[str, float]) -> Array:
    """Width, thickness of the lips, corners lowered and drawn in."""
    centre = own[list(MOUTH[0] + MOUTH[1])].mean(0)
    near = _near(x, y, centre, (0.2, 0.11))
    dx = near * (x - centre[0]) * traits["mouth_width"]
    dy = near * (y - centre[1]) * traits["lips"]
    for corner in own[[61, 291]]:
        weight = _near(x, y, corner, (0.085, 0.075))
        dx = dx - np.sign(corner[0] - centre[0]) * 0.8 * weight * traits["smile"]
        dy = dy + weight * traits["smile"]
    return np.stack([dx, dy])


def _closing(x: Array, y: Array, own: Array) -> Array:
    """(2, N): how the upper lip moves down and the lower one up to meet."""
    upper, lower = (own[list(curve)] for curve in LIPS)
    top, bottom = (np.interp(x, curve[:, 0], curve[:, 1]) for curve in (upper, lower))
    gap = np.maximum(bottom - top, 0)
    down = 0.4 * gap * np.exp(-0.5 * (np.maximum(top - y, 0) / 0.045) ** 2)
    up = -0.6 * gap * np.exp(-0.5 * (np.maximum(y - bottom, 0) / 0.1) ** 2)
    share = np.clip((y - top) / np.maximum(gap, 1e-6), 0, 1)
    dy = np.where(y <= top, down, np.where(y >= bottom, up, (1 - share) * down + share * up))
    return np.stack([np.zeros_like(dy), dy])


def _ramp(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    return np.asarray(x * x * (3 - 2 * x))
