"""The onset picture and the flow from onset to apex, as two arrays: the input of AMMSM.

Liu et al., "AMMSM: Adaptive Motion Magnification and Sparse Mamba for Micro-Expression Recognition" (section III,
Fig. 2): a spatial stream takes the onset image, a temporal stream the flow. The paper prints no size; at 256 x 256 its
windows of 4 x 4 divide the feature maps of all four stages (64, 32, 16, 8).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, Field

from fleeting.inputs import _flow, _needs, _pictures, _places
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Plan, View


class Options(BaseModel, frozen=True, extra="forbid"):
    """How large the two arrays are.

    Attributes:
        size: side of the onset picture.
        flow_size: side of the flow where it is another; the flow counts pixels of its own size. At the size of the
            aligned faces it is left as it was computed.
    """

    size: int = Field(256, ge=4)
    flow_size: int | None = Field(None, ge=4, examples=[64])


def channels(options: Options) -> dict[str, tuple[str, ...]]:
    """``{"onset": (r, g, b), "flow": (u, v)}``."""
    return {"onset": _pictures.NAMES["rgb"], "flow": ("u", "v")}


def plan(moment: Moment, options: Options) -> Plan:
    """The onset frame, and the pair (onset, apex).

    Raises:
        UserError: the moment has no apex.
    """
    return Plan(frames=(moment.onset,), pairs=((moment.onset, _needs.apex(moment, "onset_flow")),))


def make(face: FaceClip, flows: Mapping[Pair, FlowField], options: Options) -> list[View]:
    """One view, ``{"onset": (3, size, size) uint8, "flow": (2, flow_size, flow_size) float32 px}``.

    Args:
        face: with a moment and frames.
        flows: of the planned pair, in pixels.

    Raises:
        UserError: there are no frames, or the flow is published and min-max scaled.
    """
    found = plan(_needs.moment(face), options)
    field = flows[found.pairs[0]]
    _needs.pixels(field, face.clip.key)
    onset = _pictures.array(_needs.frame(face, found.frames[0]), options.size, "rgb")
    flow = _flow.resized(field, options.flow_size or options.size)
    return [View(name="apex", x={"onset": onset, "flow": np.ascontiguousarray(flow, dtype=np.float32)})]


def place(heat: Array, face: FaceClip, options: Options) -> Array:
    """A heat map (h, w) of either array as one of the aligned face (H, W): both cover the whole picture."""
    return _places.whole(heat, face)
