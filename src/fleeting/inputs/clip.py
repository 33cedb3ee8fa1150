"""A whole clip from onset to offset at a fixed number of instants: frames, or their flow from the onset.

For networks that see time. Clips last from ten to hundreds of frames; temporal interpolation gives them one length
(Pfister et al., "Recognising spontaneous facial micro-expressions", ICCV 2011, with ten frames among others).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from fleeting.inputs import _flow, _needs, _pictures, _places, _time
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Plan, View


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the clip shows, and when.

    Attributes:
        what: "frames", or "flow" of each frame from the onset, in pixels.
        length: number of instants, evenly spread from onset to offset.
        interpolation: "tim": the temporal interpolation model, which bends through all frames; "linear" between two
            frames; "nearest" frame, where nothing is blended. "tim" and "linear" blend pixels, not motion.
        colour: of "frames": "rgb", or "grey" with one channel.
        size: side of the picture; None leaves the size of the aligned faces.
    """

    what: Literal["frames", "flow"] = "frames"
    length: int = Field(10, ge=2)
    interpolation: _time.Interpolation = "tim"
    colour: _pictures.Colour = "rgb"
    size: int | None = Field(None, ge=4, examples=[32])


def channels(options: Options) -> dict[str, tuple[str, ...]]:
    """``{"frames": (r, g, b)}`` or ``{"frames": (grey,)}``; ``{"flow": (u, v)}``."""
    return {"flow": ("u", "v")} if options.what == "flow" else {"frames": _pictures.NAMES[options.colour]}


def plan(moment: Moment, options: Options) -> Plan:
    """The frames that the instants are made of; for "flow", the pairs of the onset and each of them.

    A moment needs no apex.
    """
    looked_at = _weights(moment, options)
    if options.what == "frames":
        return Plan(frames=tuple(looked_at))
    if moment.onset == moment.offset:
        return Plan(pairs=((moment.onset, moment.onset),))
    # the flow from the onset to itself is zero, and needs no computing
    return Plan(pairs=tuple((moment.onset, index) for index in looked_at if index != moment.onset))


def make(face: FaceClip, flows: Mapping[Pair, FlowField], options: Options) -> list[View]:
    """One view, ``{"frames": (C, T, h, w) uint8}`` or ``{"flow": (2, T, h, w) float32}`` with T = length.

    Args:
        face: with a moment, and frames for "frames".
        flows: of the planned pairs, in pixels.

    Raises:
        UserError: there are no frames, or the flow is published and min-max scaled.
    """
    moment = _needs.moment(face)
    weights = _weights(moment, options)
    if options.what == "flow":
        pairs = plan(moment, options).pairs
        found = ((weights[pair[1]], _sized(face, flows[pair], options)) for pair in pairs)
        return [View(name="clip", x={"flow": _blended(found)})]
    pictures = (
        (share, _pictures.array(_needs.frame(face, index), options.size, options.colour))
        for index, share in weights.items()
    )
    # the curve of "tim" may swing past black and white
    clip = np.clip(np.round(_blended(pictures)), 0, 255).astype(np.uint8)
    return [View(name="clip", x={"frames": clip})]


def place(heat: Array, face: FaceClip, options: Options) -> Array:
    """A heat map (h, w) of all instants together as one of the aligned face (H, W): it covers the whole picture."""
    return _places.whole(heat, face)


def _weights(moment: Moment, options: Options) -> dict[int, Array]:
    """Frame -> (T,) its share in each instant; frames without any are left out."""
    columns = _time.weights(moment.offset - moment.onset + 1, options.length, options.interpolation).T
    return {moment.onset + step: column for step, column in enumerate(columns) if column.any()}


def _sized(face: FaceClip, field: FlowField, options: Options) -> Array:
    uv = _needs.pixels(field, face.clip.key)
    return uv if options.size is None else _flow.resized(field, options.size)


def _blended(parts: Iterable[tuple[Array, Array]]) -> Array:
    """(C, T, h, w) float32 of (shares (T,), picture (C, h, w)); one picture in memory at a time."""
    total: Array | None = None
    for shares, picture in parts:
        part = shares.astype(np.float32)[None, :, None, None] * picture[:, None].astype(np.float32)
        total = part if total is None else total + part
    if total is None:
        raise ValueError("want at least one picture to blend, got none")
    return total
