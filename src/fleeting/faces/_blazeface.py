"""Faces in a picture: the BlazeFace detector, with boxes and eyes in pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from fleeting.faces import _networks
from fleeting.faces._squares import Square, back, cut
from fleeting.records import Array

SIZE = 128
_LAYERS = ((16, 2), (8, 6))  # cells a side, anchors a cell
_SAME = 0.3  # boxes that overlap by more (intersection over union) are one face


@dataclass(frozen=True, eq=False)
class Candidate:
    """What may be a face.

    Attributes:
        box: (4,) float32 left, top, right, bottom, px: from the brows to the chin.
        eyes: (2, 2) float32 px, left and right in the picture.
        score: 0 to 1.
    """

    box: Array
    eyes: Array
    score: float

    @property
    def side(self) -> float:
        """The longer side of the box, px."""
        return float(max(self.box[2:] - self.box[:2]))


def find(picture: Array, squares: Iterable[Square], threshold: float) -> list[Candidate]:
    """Candidates in the squares of a picture, the largest first.

    Args:
        picture: (H, W, 3) uint8 RGB.
        squares: where to look; a face of less than about a tenth of a square's side is missed.
        threshold: least score.

    Returns:
        One candidate a face: boxes that overlap are blended by their scores.
    """
    rows = np.concatenate([_look(picture, square, threshold) for square in squares])
    found = [Candidate(row[:4], row[4:8].reshape(2, 2), float(row[8])) for row in _blend(rows)]
    return sorted(found, key=lambda candidate: -candidate.side)


def overlap(box: Array, boxes: Array) -> Array:
    """Intersection over union of a box (4,) and each of (N, 4): (N,) from 0 to 1."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    both = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(shared / np.maximum(both - shared, 1e-9))


def _look(picture: Array, square: Square, threshold: float) -> Array:
    """(N, 9) float32: box, eyes (x, y, x, y), score of every anchor above the threshold, in pixels of the picture."""
    blob = cv2.dnn.blobFromImage(cut(picture, square, SIZE), 1 / 127.5, mean=(127.5, 127.5, 127.5))
    logits, offsets = _networks.run(_networks.DETECTOR, blob, ("classificators", "regressors"))
    scores = 1 / (1 + np.exp(-logits[0, :, 0].clip(-80, 80).astype(np.float64)))
    above = scores >= threshold
    # middle, size, then six points; the first two are the eyes
    middle, size, *eyes = (offsets[0, above, start : start + 2] for start in (0, 2, 4, 6))
    middle, *eyes = (anchors()[above] * SIZE + point for point in (middle, *eyes))
    points = [back(point, square, SIZE) for point in (middle - size / 2, middle + size / 2, *eyes)]
    return np.column_stack([*points, scores[above]]).astype(np.float32)


def _blend(rows: Array) -> list[Array]:
    """One row a face: the best, and what overlaps it, averaged by score."""
    rows = rows[np.argsort(-rows[:, 8], kind="stable")]
    blended = []
    while len(rows):
        same = overlap(rows[0, :4], rows[:, :4]) > _SAME
        same[0] = True  # a box without an area overlaps nothing, not even itself
        face = np.average(rows[same], axis=0, weights=rows[same, 8])
        blended.append(np.append(face[:8], rows[0, 8]).astype(np.float32))
        rows = rows[~same]
    return blended


@cache
def anchors() -> Array:
    """(896, 2) float32: middles of the cells, as shares of the side, row by row."""
    rows = []
    for cells, each in _LAYERS:
        y, x = np.mgrid[:cells, :cells]
        middles = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1) / cells
        rows.append(middles.repeat(each, axis=0))
    return np.concatenate(rows).astype(np.float32)
