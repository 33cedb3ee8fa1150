"""u, v and strain between onset and apex at 28 x 28, of the whole face or composed of four facial areas.

The input of STSTNet (Liong et al., FG 2019) and HTNet (Wang et al., Neurocomputing 2024). HTNet's paper crops
areas of 14 x 14 around both eyes and both mouth corners and puts them together as [[left eye, right eye],
[left lip, right lip]]; "left" is the picture's left here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from fleeting import landmarks, motion
from fleeting.errors import UserError
from fleeting.inputs import _flow, _needs, _places
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Plan, View

SIDE = 28
# Where HTNet's published code puts eyes, nose and mouth corners, as (x, y) on the 28 x 28 picture, when its face
# detector finds nothing there, which is nearly always.
CENTRES = ((9.53, 11.06), (21.40, 10.92), (15.38, 17.38), (10.26, 22.12), (20.58, 22.26))

_LANDMARKS = (
    "want landmarks of [5, 68, 468, 478] points, got {got}; set input.areas = 'constant' for published flow, or choose "
    "a face tracker"
)


class Options(BaseModel, frozen=True, extra="forbid"):
    """How the picture is made.

    Attributes:
        areas: "whole" face; four areas around "landmarks" of the apex frame (the paper); four areas around the
            "constant" centres of HTNet's code, the only ones that published 28 x 28 flow allows.
        axes: "xy" crops with x as column; "code" with x as row, as HTNet's code does: the same four areas in
            another order, [[left eye, left lip], [right eye, right lip]].
        crop: side of an area in pixels of the 28 x 28 picture, even; the input is 2 crop x 2 crop. Areas
            beyond 14 overlap (HTNet, Table 4: block size = crop / 2).
        third: "strain" (the paper), or the "magnitude" of (u, v), as HTNet's code has it for CAS(ME)^3; of
            published min-max scaled flow it is that of (u, v) minus their medians.
        strain: the "standard" form, or "htnet": equation 3 of HTNet as printed, see `motion.strain`. Strain that was
            published with the flow counts as standard.
        scale: "minmax255": each channel to 0..255 by its own minimum and maximum before cropping (both
            published codes); "px": flow in pixels of the 28 x 28 picture.
    """

    areas: Literal["whole", "landmarks", "constant"] = "whole"
    axes: Literal["xy", "code"] = "xy"
    crop: int = Field(14, ge=2, le=SIDE, multiple_of=2)
    third: Literal["strain", "magnitude"] = "strain"
    strain: Literal["standard", "htnet"] = "standard"
    scale: Literal["minmax255", "px"] = "minmax255"


def channels(options: Options) -> dict[str, tuple[str, ...]]:
    """``{"flow": (u, v, strain)}``, the names ending in 255 where the channels are min-max scaled."""
    suffix = "255" if options.scale == "minmax255" else ""
    return {"flow": (f"u{suffix}", f"v{suffix}", f"{options.third}{suffix}")}


def mirrors(options: Options) -> bool:
    """Whether the mirrored picture is that of the mirrored face: not where "code" puts the lips beside the eyes."""
    return options.areas == "whole" or options.axes == "xy"


def plan(moment: Moment, options: Options) -> Plan:
    """The pair (onset, apex), and the apex frame where landmarks are wanted.

    Raises:
        UserError: the moment has no apex.
    """
    apex = _needs.apex(moment, "uvs28")
    frames = (apex,) if options.areas == "landmarks" else ()
    return Plan(frames=frames, pairs=((moment.onset, apex),))


def make(face: FaceClip, flows: Mapping[Pair, FlowField], options: Options) -> list[View]:
    """One view, ``{"flow": (3, S, S) float32}`` with S = 28 (whole) or 2 crop (areas).

    Args:
        face: with landmarks of the aligned picture where `areas` is "landmarks".
        flows: of the planned pair.

    Raises:
        UserError: min-max scaled flow is asked for in pixels or with HTNet's strain, or the landmarks are missing, of
            an unknown kind, or NaN at the apex (no face found).
    """
    (pair,) = plan(_needs.moment(face), options).pairs
    picture = _picture(flows[pair], options, face.clip.key)
    if options.scale == "minmax255":
        picture = _flow.minmax255(picture)
    if options.areas != "whole":
        picture = _compose(picture, _centres(face, pair[1], flows[pair].uv.shape, options), options)
    return [View(name="apex", x={"flow": np.ascontiguousarray(picture, dtype=np.float32)})]


def place(heat: Array, face: FaceClip, options: Options) -> Array:
    """A heat map of the picture as one of the aligned face.

    Args:
        heat: (h, w) of any size that covers the picture.
        face: as `make` had it.

    Returns:
        (H, W) of the aligned face, (28, 28) of published flow without frames. Areas return to where they were cut
        out: NaN where no area looks, the sum where several do.

    Raises:
        UserError: as `make`.
    """
    if options.areas == "whole":
        return _places.whole(heat, face)
    apex = _needs.apex(_needs.moment(face), "uvs28")
    shape = (2, *face.frames[apex].shape[:2]) if len(face.frames) else (2, SIDE, SIDE)
    side = options.crop
    composed = np.asarray(heat, np.float32)
    if any(length % 2 for length in heat.shape):
        composed = motion.resize_map(composed, 2 * side, 2 * side)
    height, width = composed.shape[0] // 2, composed.shape[1] // 2
    total, looked = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), bool)
    for index, (row, column) in enumerate(_corners(_centres(face, apex, shape, options), options)):
        top, left = index // 2 * height, index % 2 * width
        area = composed[top : top + height, left : left + width]
        window = np.s_[row : row + side, column : column + side]
        # one area at a time: interpolation must not mix an eye with a lip
        total[window] += motion.resize_map(area, side, side)
        looked[window] = True
    return _places.whole(np.where(looked, total, np.float32(np.nan)), face)


def _picture(field: FlowField, options: Options, key: str) -> Array:
    """(3, 28, 28): u, v and the third channel."""
    if options.scale == "px":
        _needs.pixels(field, key, "set input.scale = 'minmax255'")
    uv = _flow.resized(field, SIDE)
    third = _flow.magnitude(uv, field.unit) if options.third == "magnitude" else _strain(field, options, key)
    return np.concatenate([uv, third[None]])


def _strain(field: FlowField, options: Options, key: str) -> Array:
    """(28, 28): as published, else of the flow at its own size."""
    if options.strain == "htnet":
        _needs.pixels(field, key, "set input.strain = 'standard'")
    elif field.strain is not None:
        return motion.resize_map(field.strain, SIDE, SIDE)
    return motion.resize_map(motion.strain(field.uv, form=options.strain), SIDE, SIDE)


def _centres(face: FaceClip, apex: int, shape: tuple[int, ...], options: Options) -> Array:
    """(5, 2) points (x, y) on the 28 x 28 picture."""
    if options.areas == "constant":
        return np.array(CENTRES)
    if face.landmarks is None:
        raise UserError(f"{face.clip.key}: {_LANDMARKS.format(got='none')}")
    try:
        five = landmarks.five(face.landmarks[apex])
    except UserError as error:
        got = f"{face.landmarks.shape[1]} points"
        raise UserError(f"{face.clip.key}: {_LANDMARKS.format(got=got)}") from error
    if not np.isfinite(five).all():
        raise UserError(
            f"{face.clip.key}: want a face on the apex frame {apex}, got none; set input.areas = 'constant' or choose "
            "another face tracker"
        )
    return np.asarray(five * (SIDE / shape[2], SIDE / shape[1]))


def _compose(picture: Array, centres: Array, options: Options) -> Array:
    """(3, 2 crop, 2 crop): the areas around points 0, 1, 3 and 4, clamped to lie inside."""
    first, second, third, fourth = (
        picture[:, row : row + options.crop, column : column + options.crop]
        for row, column in _corners(centres, options)
    )
    top, bottom = np.concatenate([first, second], axis=2), np.concatenate([third, fourth], axis=2)
    return np.concatenate([top, bottom], axis=1)


def _corners(centres: Array, options: Options) -> Array:
    """(4, 2) row and column at which the areas begin, in the order of the picture: both above, then both below."""
    half = options.crop // 2
    corners = np.clip(centres, half, SIDE - half).astype(int) - half
    if options.axes == "xy":
        corners = corners[:, ::-1]
    return corners[[0, 1, 3, 4]]
