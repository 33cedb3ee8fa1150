"""Dense flow by polynomial expansion (Farneback, SCIA 2003), with the parameters of HTNet's code."""

import cv2
import numpy as np
from pydantic import BaseModel, Field

from fleeting.flow._pairs import check, grey8
from fleeting.records import Array


class Options(BaseModel, frozen=True, extra="forbid"):
    """OpenCV's parameters; no paper prints them, the defaults are those of HTNet's published code."""

    pyr_scale: float = Field(0.5, gt=0, lt=1)
    levels: int = Field(3, ge=1)
    winsize: int = Field(15, ge=1)
    iterations: int = Field(3, ge=1)
    poly_n: int = Field(5, ge=5, le=7)
    poly_sigma: float = Field(1.2, gt=0)
    gaussian: bool = False


def flow(first: Array, second: Array, options: Options) -> Array:
    """Flow of a batch of grey pictures.

    Args:
        first, second: (N, h, w) float32 in [0, 1].

    Returns:
        (N, 2, h, w) float32, pixels, from the first to the second.

    Raises:
        UserError: the two batches differ in shape, are too small, or hold NaN.
    """
    check(first, second)
    fields = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if options.gaussian else 0
    for index, (one, two) in enumerate(zip(first, second, strict=True)):
        # OpenCV's expansion was tuned on 0..255
        field = cv2.calcOpticalFlowFarneback(
            grey8(one), grey8(two), np.empty((*one.shape, 2), np.float32), options.pyr_scale, options.levels,
            options.winsize, options.iterations, options.poly_n, options.poly_sigma, flags,
        )  # fmt: skip
        fields[index] = field.transpose(2, 0, 1)
    return fields
