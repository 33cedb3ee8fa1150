"""68 points by dlib, each frame on its own: for the papers that used it (extra "dlib"; weights for research only)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from fleeting.errors import UserError
from fleeting.faces._notices import several
from fleeting.records import Array, Track

_PACKAGE, _FILE = "face_recognition_models", "shape_predictor_68_face_landmarks.dat"
try:  # now, and not in the middle of a run
    import dlib

    metadata.version(_PACKAGE)
except ModuleNotFoundError as error:
    raise UserError(
        f"faces/dlib68: want the packages dlib and {_PACKAGE}, got no {error.name}; pip install 'fleeting[dlib]'"
    ) from error
_POINTS = 68


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the detector does; no paper prints it.

    Attributes:
        upsample: how often a picture in which no face is found is doubled and looked at again. The detector sees
            faces from about 80 px: from 40 px with 1, at four times the cost on pictures without a face.
        threshold: least score of the detector (dlib's own 0; higher is stricter).
        min_face_px: least side of the detector's box.
    """

    upsample: int = Field(1, ge=0, le=3)
    threshold: float = 0.0
    min_face_px: float = Field(16, ge=1)


def track(frames: Sequence[Array], which: Sequence[int], options: Options) -> Track:
    """The 68 points of the largest face of every frame asked for.

    The histogram-of-gradients detector and the regression trees of dlib (Kazemi and Sullivan, "One Millisecond
    Face Alignment with an Ensemble of Regression Trees", CVPR 2014, DOI 10.1109/CVPR.2014.241), trained on
    300-W. Frames know nothing of each other.

    Args:
        frames: (H, W, 3) uint8 RGB each.
        which: indices of the frames to look at.
        options: see `Options`.

    Returns:
        68 landmarks at whole pixels, numbered as in `landmarks.sixty_eight`; `boxes` are the detector's. A frame
        without a face has state 0.
    """
    count = len(frames)
    landmarks = np.full((count, _POINTS, 2), np.nan, np.float32)
    boxes, state = np.full((count, 4), np.nan, np.float32), np.full(count, -1, np.int8)
    crowds = {}
    for index in sorted(set(which)):
        picture = np.ascontiguousarray(frames[index])
        found = _find(picture, options)
        state[index] = bool(found)
        if found:
            landmarks[index] = _points(picture, found[0])
            boxes[index] = _box(found[0])
        if len(found) > 1:
            crowds[index] = len(found)
    return Track(landmarks, state, boxes, several(crowds))


def _find(picture: Array, options: Options) -> list[Any]:
    """dlib's rectangles, the largest first."""
    for doublings in range(options.upsample + 1):
        found, _, _ = _detector().run(picture, doublings, options.threshold)
        large = [box for box in found if max(box.width(), box.height()) >= options.min_face_px]
        if large:
            return sorted(large, key=lambda box: -int(box.area()))
    return []


def _points(picture: Array, box: Any) -> Array:
    return np.array([(point.x, point.y) for point in _predictor()(picture, box).parts()], np.float32)


def _box(box: Any) -> Array:
    return np.array([box.left(), box.top(), box.right(), box.bottom()], np.float32)


@cache
def _detector() -> Any:
    return dlib.get_frontal_face_detector()


@cache
def _predictor() -> Any:
    return dlib.shape_predictor(str(_weights()))


def _weights() -> Path:
    """The file of the weights; their package is not imported: it needs pkg_resources, which setuptools dropped."""
    for file in metadata.files(_PACKAGE) or []:
        if file.name == _FILE and Path(str(file.locate())).is_file():
            return Path(str(file.locate()))
    raise UserError(f"want {_FILE} in the package {_PACKAGE}, got none; install it again: pip install fleeting[dlib]")
