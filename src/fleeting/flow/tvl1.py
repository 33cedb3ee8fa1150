"""TV-L1 flow (Zach, Pock, Bischof, DAGM 2007) as OpenCV computes it; `tvl1_torch` is the fast one."""

from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, Field

from fleeting.flow._pairs import check
from fleeting.records import Array


class Options(BaseModel, frozen=True, extra="forbid"):
    """OpenCV's parameters and defaults; no paper prints others.

    Attributes:
        tau: time step of the dual variables; more than .25 need not converge.
        lambda_: weight of the data term; smaller is smoother.
        theta: how closely the smooth flow is tied to the one that fits the pictures.
        scales: levels of the pyramid at most; OpenCV uses fewer where one would fall below 16 px.
        warps: how often a level warps the second picture.
        epsilon: px; a warp ends when the flow moves by less, root mean square over the picture.
        inner_iterations, outer_iterations: at most so many steps between two medians, and so many medians, a warp.
        scale_step: size of a level over that of the next finer one.
        gamma: weight of a variation of the brightness that is estimated with the flow; 0 leaves it out.
        median: side in pixels of the median filter, 1 for none.
    """

    tau: float = Field(0.25, gt=0)
    lambda_: float = Field(0.15, gt=0)
    theta: float = Field(0.3, gt=0)
    scales: int = Field(5, ge=1)
    warps: int = Field(5, ge=1)
    epsilon: float = Field(0.01, ge=0)
    inner_iterations: int = Field(30, ge=1)
    outer_iterations: int = Field(10, ge=1)
    scale_step: float = Field(0.8, gt=0, lt=1)
    gamma: float = Field(0.0, ge=0)
    median: Literal[1, 3, 5] = 5


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
    method = _method(options)
    for index, (one, two) in enumerate(zip(first, second, strict=True)):
        field = method.calc(np.ascontiguousarray(one, np.float32), np.ascontiguousarray(two, np.float32), None)
        fields[index] = field.transpose(2, 0, 1)
    return fields


def _method(options: Options) -> Any:
    """OpenCV's object, one a batch: it keeps its buffers, but also the fewer levels of the smallest picture it saw."""
    method = cv2.optflow.DualTVL1OpticalFlow.create(
        tau=options.tau, theta=options.theta, nscales=options.scales, warps=options.warps, epsilon=options.epsilon,
        innnerIterations=options.inner_iterations, outerIterations=options.outer_iterations,
        scaleStep=options.scale_step, gamma=options.gamma, medianFiltering=options.median,
    )  # fmt: skip
    method.setLambda(options.lambda_)  # Python takes no argument named lambda
    return method
