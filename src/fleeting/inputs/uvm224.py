"""u, v and their magnitude between onset and apex at 224 x 224: the input of MERba.

Mao et al., "MERba" (section III): (u, v, m) with m = sqrt(u^2 + v^2), TV-L1 flow from the onset to the apex of
aligned faces of 224 x 224.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from fleeting.inputs import _flow, _needs, _places
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Plan, View


class Options(BaseModel, frozen=True, extra="forbid"):
    """How the picture is made.

    Attributes:
        size: side of the picture; flow of another size is resized and counts pixels of the new one.
        scale: the paper does not say how flow is scaled. "px": as it is, so that m belongs to u and v, as the
            paper's formula has it, and strength counts; "minmax255": each channel to 0..255 by its own minimum and
            maximum, as the published flow of others is (then strength, zero and the sign of u and v are lost).
    """

    size: int = Field(224, ge=4)
    scale: Literal["px", "minmax255"] = "px"


def channels(options: Options) -> dict[str, tuple[str, ...]]:
    """``{"flow": (u, v, magnitude)}``, the names ending in 255 where the channels are min-max scaled."""
    suffix = "255" if options.scale == "minmax255" else ""
    return {"flow": tuple(f"{name}{suffix}" for name in ("u", "v", "magnitude"))}


def plan(moment: Moment, options: Options) -> Plan:
    """The pair (onset, apex).

    Raises:
        UserError: the moment has no apex.
    """
    return Plan(pairs=((moment.onset, _needs.apex(moment, "uvm224")),))


def make(face: FaceClip, flows: Mapping[Pair, FlowField], options: Options) -> list[View]:
    """One view, ``{"flow": (3, size, size) float32}``.

    Of published min-max scaled flow the magnitude is that of (u, v) minus their medians.

    Args:
        face: with a moment.
        flows: of the planned pair.

    Raises:
        UserError: min-max scaled flow is asked for in pixels.
    """
    (pair,) = plan(_needs.moment(face), options).pairs
    field = flows[pair]
    if options.scale == "px":
        _needs.pixels(field, face.clip.key, "set input.scale = 'minmax255'")
    uv = _flow.resized(field, options.size)
    picture = np.concatenate([uv, _flow.magnitude(uv, field.unit)[None]])
    if options.scale == "minmax255":
        picture = _flow.minmax255(picture)
    return [View(name="apex", x={"flow": np.ascontiguousarray(picture, dtype=np.float32)})]


def place(heat: Array, face: FaceClip, options: Options) -> Array:
    """A heat map (h, w) of the flow as one of the aligned face (H, W): it covers the whole picture."""
    return _places.whole(heat, face)
