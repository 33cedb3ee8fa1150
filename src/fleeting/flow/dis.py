"""Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) in OpenCV."""

from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, Field

from fleeting.errors import UserError
from fleeting.flow._pairs import check, grey8
from fleeting.records import Array

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


class Options(BaseModel, frozen=True, extra="forbid"):
    """A preset of OpenCV and what to change in it; None leaves a value as the preset has it.

    Attributes:
        preset: "ultrafast" ends at a quarter of the size and refines nothing, "fast" refines there, "medium" ends at
            half the size with denser patches and more iterations.
        finest_scale: level of the pyramid at which the search ends: 0 is the full size, 1 half of it, ...
        patch_size, patch_stride: pixels of that level.
        descent_iterations: of the inverse search, a patch.
        refinement_iterations: of the variational refinement, a level; 0 for none.
        refinement_alpha, refinement_delta, refinement_gamma: its weights of smoothness, brightness and gradient.
        mean_normalization: patches are compared less their means, against changes of the light.
        spatial_propagation: patches try the flow of their neighbours.
    """

    preset: Literal["ultrafast", "fast", "medium"] = "medium"
    finest_scale: int | None = Field(None, ge=0)
    patch_size: int | None = Field(None, ge=4)
    patch_stride: int | None = Field(None, ge=1)
    descent_iterations: int | None = Field(None, ge=1)
    refinement_iterations: int | None = Field(None, ge=0)
    refinement_alpha: float | None = Field(None, ge=0)
    refinement_delta: float | None = Field(None, ge=0)
    refinement_gamma: float | None = Field(None, ge=0)
    mean_normalization: bool | None = None
    spatial_propagation: bool | None = None


def flow(first: Array, second: Array, options: Options) -> Array:
    """Flow of a batch of grey pictures.

    Args:
        first, second: (N, h, w) float32 in [0, 1]; OpenCV takes 8 bits of them.

    Returns:
        (N, 2, h, w) float32, pixels, from the first to the second.

    Raises:
        UserError: the two batches differ in shape, are too small (also for the options), or hold NaN.
    """
    check(first, second)
    fields = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    method = _method(options)
    for index, (one, two) in enumerate(zip(first, second, strict=True)):
        try:
            field = method.calc(grey8(one), grey8(two), None)
        except cv2.error as error:
            raise UserError(
                f"want pictures that patches fit in, got {one.shape[1]} x {one.shape[0]} px and {options}; "
                "choose a smaller patch_size or finest_scale"
            ) from error
        fields[index] = field.transpose(2, 0, 1)
    return fields


def _method(options: Options) -> Any:
    method = cv2.DISOpticalFlow.create(_PRESETS[options.preset])
    setters: dict[Callable[..., None], float | None] = {
        method.setFinestScale: options.finest_scale,
        method.setPatchSize: options.patch_size,
        method.setPatchStride: options.patch_stride,
        method.setGradientDescentIterations: options.descent_iterations,
        method.setVariationalRefinementIterations: options.refinement_iterations,
        method.setVariationalRefinementAlpha: options.refinement_alpha,
        method.setVariationalRefinementDelta: options.refinement_delta,
        method.setVariationalRefinementGamma: options.refinement_gamma,
        method.setUseMeanNormalization: options.mean_normalization,
        method.setUseSpatialPropagation: options.spatial_propagation,
    }
    for setter, value in setters.items():
        if value is not None:
            setter(value)
    return method
