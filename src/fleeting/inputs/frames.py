"""Frames: the apex (AF), key frames (KFS) or windows around the key frames (MFS), a view each or together.

The input of the frame study: Fikri and Ramadhani, "Preprocessing Paradox in Vision Transformer-Based Micro-Expression
Recognition" (section II). Every view is trained on and tested; a clip's decision is the vote over its views
(``recipe.vote``). The two preprocessings of the study, M1 and M2, are alignments. Frames together, in order, are for
networks that see time, the study's future work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from fleeting.inputs import _needs, _pictures, _places
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Plan, View

# sampling -> key frame -> frames counted from it; a frame of two windows goes by the name of the first
_WINDOWS: dict[str, dict[str, tuple[int, ...]]] = {
    "AF": {"apex": (0,)},
    "KFS": {"apex": (0,), "onset": (0,), "offset": (0,)},
    "MFS": {"apex": (-2, -1, 0, 1, 2), "onset": (0, 1, 2, 3), "offset": (-3, -2, -1, 0)},
}


class Options(BaseModel, frozen=True, extra="forbid"):
    """Which frames, and how they look.

    Attributes:
        sampling: "AF": the apex; "KFS": onset, apex and offset; "MFS" (the study's best): onset to 3 frames after
            it, 2 frames before the apex to 2 after, 3 frames before the offset to it. Frames outside the moment
            are left out and no frame is taken twice, so a clip has up to 1, 3 or 13 views: in CASME II's 255
            clips MFS gives 12.85 in the mean. (The study prints "13 frames per video" and "10.25x" in one
            sentence; its windows name 13.)
        views: "each" frame is a view, decided alone, as in the study; "together": one view a clip that holds 1, 3 or
            13 frames in their order in the clip. There a frame outside the moment is replaced by the moment's first or
            last, and a frame of two windows is there twice, so that all clips have the same number.
        colour: "rgb", or "grey" with one channel.
        size: side of the picture; None leaves the size of the aligned faces.
    """

    sampling: Literal["AF", "KFS", "MFS"] = "MFS"
    views: Literal["each", "together"] = "each"
    colour: _pictures.Colour = "rgb"
    size: int | None = Field(None, ge=4, examples=[32])


def channels(options: Options) -> dict[str, tuple[str, ...]]:
    """``{"frame": (r, g, b)}``, or ``{"frame": (grey,)}``; together ``{"frames": ...}``."""
    return {"frame" if options.views == "each" else "frames": _pictures.NAMES[options.colour]}


def plan(moment: Moment, options: Options) -> Plan:
    """The sampled frames, in order, each once.

    Raises:
        UserError: the moment has no apex.
    """
    return Plan(frames=tuple(_names(moment, options)))


def make(face: FaceClip, flows: Mapping[Pair, FlowField], options: Options) -> list[View]:
    """One view a frame, ``{"frame": (C, h, w) uint8}``, in order; their names are such as "onset", "apex-2".

    Together: one view "clip", ``{"frames": (C, T, h, w) uint8}`` with T = 1, 3 or 13.

    Args:
        face: with a moment and frames.
        flows: not looked at.

    Raises:
        UserError: there are no frames.
    """
    moment = _needs.moment(face)
    if options.views == "each":
        return [
            View(name=name, x={"frame": _picture(face, at, options)}) for at, name in _names(moment, options).items()
        ]
    held = _held(moment, options)
    pictures = {index: _picture(face, index, options) for index in dict.fromkeys(held)}
    return [View(name="clip", x={"frames": np.stack([pictures[index] for index in held], axis=1)})]


def place(heat: Array, face: FaceClip, options: Options) -> Array:
    """A heat map (h, w) of a frame, or of all together, as one of the aligned face (H, W): of the whole picture."""
    return _places.whole(heat, face)


def _picture(face: FaceClip, index: int, options: Options) -> Array:
    return _pictures.array(_needs.frame(face, index), options.size, options.colour)


def _names(moment: Moment, options: Options) -> dict[int, str]:
    """Frame -> name of its view, in the order of the frames; none outside the moment."""
    found: dict[int, str] = {}
    for index, name in _windows(moment, options):
        if moment.onset <= index <= moment.offset:
            found.setdefault(index, name)
    return dict(sorted(found.items()))


def _held(moment: Moment, options: Options) -> list[int]:
    """As many frames for every clip, in order: what is outside the moment is held at its end."""
    return sorted(min(max(index, moment.onset), moment.offset) for index, _ in _windows(moment, options))


def _windows(moment: Moment, options: Options) -> Iterator[tuple[int, str]]:
    """Frames and their names, window by window."""
    keys = {"apex": _needs.apex(moment, "frames"), "onset": moment.onset, "offset": moment.offset}
    for key, steps in _WINDOWS[options.sampling].items():
        for step in steps:
            yield keys[key] + step, f"{key}{step:+d}" if step else key
