"""Histograms of the flow from onset to apex, Bi-WOOF, MDMO or HOOF: a picture for a network, or numbers for a machine.

As published these are features of a support vector machine (`form = "vector"`, model `svm`): Bi-WOOF, Liong et al.,
"Less is more: Micro-expression recognition from video using apex frame", Signal Processing: Image Communication 62,
2018, DOI 10.1016/j.image.2017.11.006; MDMO, Liu et al., "A Main Directional Mean Optical Flow Feature for Spontaneous
Micro-Expression Recognition", IEEE Transactions on Affective Computing 7(4), 2016, DOI 10.1109/TAFFC.2015.2485205;
HOOF, Chaudhry et al., CVPR 2009, DOI 10.1109/CVPR.2009.5206821. BOWAM (Table 11a) puts the first two in the place of
the flow that its network sees, and does not say how: `form = "map"` is a picture in which each block or region holds
its own values. See `fleeting.histograms` for the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from fleeting import histograms, motion
from fleeting.errors import UserError
from fleeting.inputs import _flow, _needs, _places
from fleeting.records import Array, FaceClip, FlowField, Moment, Pair, Plan, View

_REGIONS = 36


class Options(BaseModel, frozen=True, extra="forbid"):
    """What is counted, and in which form.

    Attributes:
        feature: "biwoof": directions of each block, weighed by the length of the flow, blocks by their strain;
            "hoof": the same without the strain; "mdmo": the mean flow of the main direction of 36 regions, which
            landmarks of the onset frame give.
        form: "map": a picture, channels of directions or, for "mdmo", u and v in pixels of it. "vector": the numbers
            alone, (bins, rows, columns), or (2, 36, 1) for "mdmo": lengths divided by the longest, and angles. The
            paper weighs lengths against angles; a machine that standardises does so by their spread.
        bins: directions.
        blocks: rows and columns of "biwoof" and "hoof".
        size: side of the map, for which the flow is resized first; a vector is that of the flow at its own size.
    """

    feature: Literal["biwoof", "hoof", "mdmo"] = "biwoof"
    form: Literal["map", "vector"] = "map"
    bins: int = Field(8, ge=2, le=360, examples=[7])
    blocks: tuple[int, int] = Field((5, 5), examples=[(3, 4)])
    size: int = Field(240, ge=4, examples=[28])

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if min(self.blocks) < 1 or max(self.blocks) > self.size:
            raise ValueError("blocks: at least one, and no more than pixels")
        return self


def channels(options: Options) -> dict[str, tuple[str, ...]]:
    """``{"flow": names}``: bin0of8, ... are directions from the left over the top, as `histograms.hoof` has them."""
    if options.feature == "mdmo":
        return {"flow": ("u", "v") if options.form == "map" else ("length", "angle")}
    return {"flow": tuple(f"bin{number}of{options.bins}" for number in range(options.bins))}


def mirrors(options: Options) -> bool:
    """Whether a mirror by channel name gives the mirrored face: not for regions in a row, nor an odd number of bins."""
    return options.form == "map" if options.feature == "mdmo" else options.bins % 2 == 0


def plan(moment: Moment, options: Options) -> Plan:
    """The pair (onset, apex).

    Raises:
        UserError: the moment has no apex.
    """
    return Plan(pairs=((moment.onset, _needs.apex(moment, "histograms")),))


def make(face: FaceClip, flows: Mapping[Pair, FlowField], options: Options) -> list[View]:
    """One view, ``{"flow": float32}``: (bins, size, size) or (bins, rows, columns); of "mdmo" two channels.

    Args:
        face: with landmarks of the onset frame (68, 468 or 478) for "mdmo".
        flows: of the planned pair, in pixels.

    Raises:
        UserError: the flow is published and min-max scaled, smaller than the blocks, or landmarks are missing, of
            another kind, or NaN.
    """
    (pair,) = plan(_needs.moment(face), options).pairs
    field = flows[pair]
    given = _needs.pixels(field, face.clip.key)
    uv = _flow.resized(field, options.size) if options.form == "map" else given
    try:
        if options.feature == "mdmo":
            # flow has the size of the aligned face
            found = _regional(uv, _points(face, given.shape[1:], uv.shape[1:]), options)
        else:
            found = _blocked(uv, options)
    except UserError as error:
        raise UserError(f"{face.clip.key}: {error}") from error
    return [View(name="apex", x={"flow": np.ascontiguousarray(found, dtype=np.float32)})]


def place(heat: Array, face: FaceClip, options: Options) -> Array:
    """A heat map as one of the aligned face (H, W): of a vector of regions each over its own, NaN between them.

    Args:
        heat: (h, w), of regions (36, 1).
        face: as `make` had it.

    Raises:
        UserError: as `make`.
    """
    if options.feature != "mdmo" or options.form == "map":
        return _places.whole(heat, face)
    size = face.frames[_needs.moment(face).onset].shape[:2]
    masks = histograms.regions36(_points(face, size, size), *size)
    values = np.asarray(heat, np.float32).reshape(_REGIONS)
    return np.where(masks.any(axis=0), np.einsum("r,ryx->yx", values, masks), np.float32(np.nan))


def _blocked(uv: Array, options: Options) -> Array:
    """(bins, h, w), or (bins, rows, columns)."""
    strain = motion.strain(uv) if options.feature == "biwoof" else np.ones(uv.shape[1:], np.float32)
    if options.form == "map":
        return histograms.bi_woof_map(uv, strain, options.blocks, options.bins)
    return np.moveaxis(histograms.bi_woof(uv, strain, options.blocks, options.bins), -1, 0)


def _regional(uv: Array, points: Array, options: Options) -> Array:
    """(2, h, w), or (2, 36, 1)."""
    if options.form == "map":
        return histograms.mdmo_map(uv, points, options.bins)
    found = histograms.mdmo(uv, points, options.bins)
    longest = float(found[:, 0].max())
    return np.stack([found[:, 0] / (longest or 1.0), found[:, 1]])[..., None]


def _points(face: FaceClip, size: tuple[int, ...], wanted: tuple[int, ...]) -> Array:
    """(K, 2) landmarks of the onset, on a picture (h, w) that the face of `size` is brought to.

    Raises:
        UserError: there are none.
    """
    if face.landmarks is None:
        raise UserError("want landmarks for the regions of mdmo, got none; choose a face tracker")
    points = face.landmarks[_needs.moment(face).onset].astype(np.float64)
    return np.asarray((points + 0.5) * (wanted[1] / size[1], wanted[0] / size[0]) - 0.5)
