"""Parts of the face as rectangles of the picture: where a spotter looks.

From 68 or mesh points the parts follow the landmarks; from five points (and from none: then the five are fixed
fractions of the picture) they are built around the eyes and mouth corners. `span` is the distance of the eyes.
"""

from __future__ import annotations

import cv2
import numpy as np

from fleeting import landmarks
from fleeting.records import Array, FaceClip

Region = tuple[slice, slice]
"""Rows and columns of a picture."""

# where HTNet's published code puts eyes, nose and mouth corners on a cropped face, as fractions (x, y)
_FIXED = ((0.340, 0.395), (0.764, 0.390), (0.549, 0.621), (0.366, 0.790), (0.735, 0.795))
_LEAST = 4  # pixels: a smaller rectangle is grown, so that there is something to measure


def points(face: FaceClip, frame: int, shape: tuple[int, ...]) -> Array:
    """(K, 2) landmarks of a frame, or (5, 2) fixed points of a picture of `shape` where the face has none."""
    if face.landmarks is None or not face.landmarks.shape[1]:
        return np.array(_FIXED) * (shape[1], shape[0])
    return np.asarray(face.landmarks[frame], np.float64)


def eyes_and_mouth(spots: Array, shape: tuple[int, ...]) -> list[Region]:
    """Left eye with brow, right eye with brow, and mouth: the three regions of D&C-RoIs.

    The source names the parts, not their margins: a tenth of the span to every side of the landmarks.
    """
    five, span = _five(spots)
    if len(spots) == 5:
        eyes = [_around(eye, (0.4, 0.45, 0.4, 0.25), span) for eye in five[:2]]
        return [*_clipped(eyes, shape), *_clipped([_padded(five[3:], (0.1, 0.25), span)], shape)]
    sixty_eight = landmarks.sixty_eight(spots)
    groups = (("left_brow", "left_eye"), ("right_brow", "right_eye"), ("mouth",))
    parts = [sixty_eight[[at for name in group for at in landmarks.REGIONS[name]]] for group in groups]
    return _clipped([_padded(part, (0.1, 0.1), span) for part in parts], shape)


def brows_and_corners(spots: Array, shape: tuple[int, ...]) -> list[Region]:
    """Left brow, right brow, left and right mouth corner: where expressions move, and blinks do not."""
    five, span = _five(spots)
    corners = [_around(corner, (0.2, 0.2, 0.2, 0.2), span) for corner in five[3:]]
    if len(spots) == 5:
        brows = [_around(eye, (0.35, 0.5, 0.35, -0.2), span) for eye in five[:2]]
    else:
        sixty_eight = landmarks.sixty_eight(spots)
        parts = (sixty_eight[list(landmarks.REGIONS[name])] for name in ("left_brow", "right_brow"))
        brows = [_padded(part, (0.05, 0.05), span) for part in parts]
    return _clipped([*brows, *corners], shape)


def nose(spots: Array, shape: tuple[int, ...]) -> Region:
    """A square on the ridge of the nose, which moves with the head alone; large enough to average noise."""
    five, span = _five(spots)
    ridge = (five[:2].mean(axis=0) + five[2]) / 2 if len(spots) == 5 else landmarks.sixty_eight(spots)[28]
    return _clipped([_around(ridge, (0.15, 0.15, 0.15, 0.15), span)], shape)[0]


def face(spots: Array, shape: tuple[int, ...]) -> Array:
    """(h, w) bool: the hull of the landmarks, with five points an ellipse around eyes and mouth; may be empty."""
    five, span = _five(spots)
    mask = np.zeros(shape[:2], np.uint8)
    if len(spots) == 5:
        middle = (five[:2].mean(axis=0) + five[3:].mean(axis=0)) / 2
        angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        spots = middle + span * np.stack([0.95 * np.cos(angle), 1.2 * np.sin(angle)], axis=1)
    hull = cv2.convexHull(np.asarray(spots, np.float32))
    # OpenCV counts pixels in 32 bits
    cv2.fillConvexPoly(mask, np.round(np.clip(hull, -(2**20), 2**20)).astype(np.int32), 1)
    return mask.astype(bool)


def cells(spots: Array, shape: tuple[int, ...]) -> list[Region]:
    """Ten squares, each as wide as half the mouth, as Quang et al. (FG 2019) place them.

    Three across the brows, one outside of each eye, one beside each wing of the nose, one on each mouth corner, one
    on the chin. None lies on an eye.
    """
    five, span = _five(spots)
    width = max(np.ptp(five[3:, 0]) / 2, _LEAST)
    brow, left_eye, right_eye, left_wing, right_wing, chin = _anchors(spots, five, span)
    across, half = np.array([width, 0]), width / 2
    above = five[3:, 1] - width  # the cells beside the nose stand on those of the mouth corners
    centres = [
        brow - across, brow, brow + across, left_eye - across / 2, right_eye + across / 2,
        (left_wing[0] - half, above[0]), (right_wing[0] + half, above[1]), five[3], five[4], (chin[0], chin[1] - half),
    ]  # fmt: skip
    return _clipped([_around(np.asarray(centre), (0.5, 0.5, 0.5, 0.5), width) for centre in centres], shape)


def _anchors(spots: Array, five: Array, span: float) -> tuple[Array, ...]:
    """Middle between the brows, outer eye corners, wings of the nose, tip of the chin."""
    if len(spots) == 5:
        eyes, nose_tip, mouth = five[:2].mean(axis=0), five[2], five[3:].mean(axis=0)
        aside, down = np.array([span, 0]), np.array([0, span])
        return (
            eyes - 0.4 * down, five[0] - 0.25 * aside, five[1] + 0.25 * aside,
            nose_tip - 0.2 * aside, nose_tip + 0.2 * aside, mouth + 0.6 * down,
        )  # fmt: skip
    sixty_eight = landmarks.sixty_eight(spots)
    brow = sixty_eight[[19, 24]].mean(axis=0)
    return brow, *(sixty_eight[at] for at in (36, 45, 31, 35, 8))


def _five(spots: Array) -> tuple[Array, float]:
    five = landmarks.five(spots)
    return five, max(float(np.linalg.norm(five[1] - five[0])), 1.0)


def _around(point: Array, sides: tuple[float, float, float, float], span: float) -> Array:
    """(left, top, right, bottom) that reach so many spans from a point."""
    left, top, right, bottom = sides
    return np.array([point[0] - left * span, point[1] - top * span, point[0] + right * span, point[1] + bottom * span])


def _padded(part: Array, margin: tuple[float, float], span: float) -> Array:
    """The box of points with so many spans more in x and y."""
    return np.asarray(landmarks.box(part) + np.array([-1, -1, 1, 1]) * np.tile(margin, 2) * span)


def _clipped(boxes: list[Array], shape: tuple[int, ...]) -> list[Region]:
    """Whole pixels inside the picture."""
    return [(_edge(box[1], box[3], shape[0]), _edge(box[0], box[2], shape[1])) for box in boxes]


def _edge(low: float, high: float, size: int) -> slice:
    least = min(_LEAST, size)
    start = int(np.clip(np.floor(low), 0, size - least))
    return slice(start, int(np.clip(np.ceil(high), start + least, size)))
