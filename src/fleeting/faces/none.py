"""No face tracking: pictures that are already cropped, or published flow."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

from fleeting.records import Array, Track


class Options(BaseModel, frozen=True, extra="forbid"):
    """Nothing to choose."""


def track(frames: Sequence[Array], which: Sequence[int], options: Options) -> Track:
    """No landmarks (T, 0, 2), every frame "not looked for"."""
    count = len(frames)
    return Track(landmarks=np.empty((count, 0, 2), np.float32), state=np.full(count, -1, np.int8))
