"""Flow from the apex back to the onset plus flow on to the offset, at 240 x 240: the input of BOWAM.

Xie et al., "Micro-Expression Recognition Based on Bidirectional Optical Flow and Wavelet-Based Attention Mechanism",
Chinese Journal of Computers 2026, DOI 10.11897/SP.J.1016.2026.00328, equation 1. An expression rises and falls, so both
flows point back to the neutral face and add up; a head that drifts on evenly moves them in opposite directions, and
the sum cancels it where the apex lies in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, field_validator

from fleeting import motion
from fleeting.inputs import _flow, _needs, _places
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Plan, View

_COLOURS: dict[str, tuple[str, ...]] = {"flow": ("wheel_r", "wheel_g", "wheel_b"), "picture": ("r", "g", "b")}


class Options(BaseModel, frozen=True, extra="forbid"):
    """How the picture is made.

    Attributes:
        fusion: "sum" of the two flows (equation 1); their element-wise "product" and their "concatenation", which the
            paper's Table 5 compares; "conventional": onset to apex alone, the paper's F_trad.
        encoding: "colour": the colour-wheel picture of the flow, uint8. The paper draws its flow so, resizes,
            jitters colours and starts from weights for photographs, and the published code loads RGB flow
            pictures; the text itself only says that the sum is the input. "uv": the two components in pixels;
            "uvm": with their magnitude.
        augment_as: what the colours are to augmentation. "flow": channels are named wheel_r, wheel_g, wheel_b, so
            that a mirror or a turn gives hues of the mirrored or turned motion; "picture": r, g, b, so that it moves
            pixels and leaves hues, as the published code does (a motion to the left then still has the colour of
            left).
        size: side of the picture; flow of another size is resized and counts pixels of the new one.
        max_px: length of the vector with full colour, in pixels at `size` (longer ones are darkened); None: the
            longest of each picture, so that strength is lost. The paper says neither.
        near: frames near the apex that give more views for training, as numbers of frames from it; none in the
            paper. (-2, -1, 1, 2) is what the published code adds. Those outside the moment, and onset and offset
            themselves, are left out: flow to itself is no expression.
    """

    fusion: Literal["sum", "product", "concatenation", "conventional"] = "sum"
    encoding: Literal["colour", "uv", "uvm"] = "colour"
    augment_as: Literal["flow", "picture"] = "flow"
    size: int = Field(240, ge=4)
    max_px: float | None = Field(None, gt=0, allow_inf_nan=False, examples=[2.0])
    near: tuple[int, ...] = Field((), examples=[(-2, -1, 1, 2)])

    @field_validator("near")
    @classmethod
    def _each_once(cls, near: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in near or any(first >= second for first, second in pairwise(near)):
            raise ValueError("numbers in rising order, without 0: the apex is always a view")
        return near


def channels(options: Options) -> dict[str, tuple[str, ...]]:
    """``{"flow": names}``: of one flow, or twice the same names where two are concatenated.

    A product has the names uu, vv (and magnitude): its mirror image keeps their signs.
    """
    names: tuple[str, ...]
    if options.encoding == "colour":
        # the product of two mirrored flows is the mirrored product, colours and all
        names = _COLOURS["picture" if options.fusion == "product" else options.augment_as]
    else:
        names = ("uu", "vv") if options.fusion == "product" else ("u", "v")
        names += ("magnitude",) if options.encoding == "uvm" else ()
    return {"flow": names * 2 if options.fusion == "concatenation" else names}


def plan(moment: Moment, options: Options) -> Plan:
    """For the apex and each frame near it: the pair to the onset and that to the offset, or that from the onset.

    Raises:
        UserError: the moment has no apex.
    """
    centres = _centres(moment, options).values()
    return Plan(pairs=tuple(dict.fromkeys(pair for centre in centres for pair in _pairs(moment, centre, options))))


def make(face: FaceClip, flows: Mapping[Pair, FlowField], options: Options) -> list[View]:
    """A view of the apex, and those of the frames near it, which are for training only.

    Args:
        face: with a moment.
        flows: of the planned pairs, in pixels.

    Returns:
        ``{"flow": (C, size, size)}``: "colour" uint8, the others float32 in pixels (a product in their square).

    Raises:
        UserError: the flow is published and min-max scaled: two such flows cannot be added.
    """
    moment = _needs.moment(face)
    views = []
    for name, centre in _centres(moment, options).items():
        fields = [_pixels(face, flows[pair], options) for pair in _pairs(moment, centre, options)]
        picture = np.concatenate([_encoded(uv, options) for uv in _fused(fields, options)])
        views.append(View(name=name, x={"flow": picture}, train_only=name != "apex"))
    return views


def place(heat: Array, face: FaceClip, options: Options) -> Array:
    """A heat map (h, w) of the flow as one of the aligned face (H, W): it covers the whole picture."""
    return _places.whole(heat, face)


def _centres(moment: Moment, options: Options) -> dict[str, int]:
    """Name of a view -> the frame whose expression it shows, the apex first."""
    apex = _needs.apex(moment, "bidirectional240")
    near = {f"apex{step:+d}": apex + step for step in options.near}
    return {"apex": apex} | {name: frame for name, frame in near.items() if moment.onset < frame < moment.offset}


def _pairs(moment: Moment, centre: int, options: Options) -> tuple[Pair, ...]:
    if options.fusion == "conventional":
        return ((moment.onset, centre),)
    return ((centre, moment.onset), (centre, moment.offset))


def _pixels(face: FaceClip, field: FlowField, options: Options) -> Array:
    _needs.pixels(field, face.clip.key)
    return _flow.resized(field, options.size)


def _fused(fields: list[Array], options: Options) -> list[Array]:
    if options.fusion == "sum":
        return [fields[0] + fields[1]]
    if options.fusion == "product":
        return [fields[0] * fields[1]]
    return fields


def _encoded(uv: Array, options: Options) -> Array:
    """(2, h, w) flow as (C, h, w) channels."""
    if options.encoding == "colour":
        return np.ascontiguousarray(np.moveaxis(motion.colours(uv, options.max_px), -1, 0))
    return uv if options.encoding == "uv" else np.concatenate([uv, motion.magnitude(uv)[None]])
