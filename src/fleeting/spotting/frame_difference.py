"""The greatest difference of grey values to the onset, in ten cells of the face.

The cells and the ratio are those of Quang, Chun and Tokuyama, "CapsuleNet for micro-expression recognition" (FG 2019,
doi 10.1109/FG.2019.8756544), who needed apex frames for SMIC-HS: each pixel's difference to the onset frame over its
difference to the frame before, (|I_t - I_on| + 1) / (|I_t - I_(t-1)| + 1) in grey levels 0..255, averaged over cells
of brows, eye corners, nose wings, mouth corners and chin; the apex is the greatest. The denominator prefers frames at
which the face holds still. So does their published code; it also computes the ratio to the offset frame, and leaves it
out (here: `reference`). They place the cells anew on every frame; here those of the onset frame stay, as landmarks
jitter by more than an expression moves.

No flow is computed: fast, but light that changes and a head that moves count as expressions (`brightness` mends what
is common to the picture). ME-PLAN's detector is something else: see flow_peak. Recordings without annotation are ours:
the plain difference over half an expression around each frame, and the intervals of common spotters.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from fleeting.records import Array, FaceClip, Moment
from fleeting.spotting import _curves, _recordings, _regions
from fleeting.spotting._curves import Rule

LOOKS = True


class Options(BaseModel, frozen=True, extra="forbid"):
    """How frames are compared, and what counts as a peak.

    Attributes:
        measure: "ratio" of the paper, or the "plain" mean absolute difference in grey levels.
        reference: the difference to the "onset" (the published code), or the mean of those to "both" ends.
        brightness: "equal": the mean of the cells is taken from each frame first (ours, as lamps flicker);
            "kept": as the paper has it.
        peak: "highest" value (the paper), or the apex of the "unimodal" curve that fits best.
        smooth: frames to either side over which the curve is averaged before its peak is taken; the paper has 0.
        duration_s: how long an expression lasts: intervals of a recording are so long. Seconds.
        share: threshold of a peak in a recording: p in mean + p (max - mean) of the smoothed curve.
        least: how far a peak must rise above the calmest part of a recording, in grey levels of 255.
    """

    measure: Literal["ratio", "plain"] = "ratio"
    reference: Literal["onset", "both"] = "onset"
    brightness: Literal["equal", "kept"] = "equal"
    peak: Rule = "highest"
    smooth: int = Field(0, ge=0)
    duration_s: float = Field(0.5, gt=0)
    share: float = Field(0.55, ge=0, le=1)
    least: float = Field(0.25, ge=0)


def locate(face: FaceClip, options: Options) -> list[Moment]:
    """Moments by differences; their score is the value at the apex (a ratio, or grey levels).

    Returns:
        One moment for a clip with onset and offset (apex None where nothing changes), else any number in order.
        Frames without a face are not looked at; see `_recordings.locate` for the gaps that they leave.

    Raises:
        UserError: a labelled clip without a face, or a recording without a frame rate.
    """
    search = _recordings.Search(
        apex=lambda frames: _curves.peak(_since_first(face, options, frames), options.peak),
        running=partial(_around, face, options),
        duration_s=options.duration_s,
        share=options.share,
        least=options.least,
    )
    return _recordings.locate(face, search)


def _since_first(face: FaceClip, options: Options, frames: Array) -> Array:
    """(n,) the measure of each frame against the first, and by option the last; the first itself is the calmest."""
    if len(frames) < 3:
        # the ratio of the frame after the onset is always 1: its frame before is the onset
        options = options.model_copy(update={"measure": "plain"})
    parts = _parts(face, int(frames[0]))
    read = partial(_levels, face, parts=parts, options=options)
    ends = [read(int(frames[0]))] + ([read(int(frames[-1]))] if options.reference == "both" else [])
    # what is the same as itself: a ratio of 1, a difference of 0
    values, before = np.full(len(frames), 1.0 if options.measure == "ratio" else 0.0), ends[0]
    for index, frame in enumerate(frames[1:], 1):
        now = read(int(frame))
        values[index] = np.mean([_compare(now, end, before, options) for end in ends])
        before = now
    return values if not options.smooth else _curves.smooth(values, options.smooth)


def _compare(now: list[Array], end: list[Array], before: list[Array], options: Options) -> float:
    """The mean over cells of the ratio, or of the plain difference."""
    if options.measure == "plain":
        return float(np.mean([np.abs(a - b).mean() for a, b in zip(now, end, strict=True)]))
    cells = zip(now, end, before, strict=True)
    return float(np.mean([((np.abs(a - b) + 1) / (np.abs(a - c) + 1)).mean() for a, b, c in cells]))


def _around(face: FaceClip, options: Options, frames: Array, lag: int) -> Array:
    """(T,) plain difference of two frames `lag` apart, grey levels, at the frame in their middle."""
    curve = np.full(len(face.frames), np.nan)
    for middle, first, one, two in _recordings.pairs(face, frames, lag):
        parts = _parts(face, first, one.shape)
        cells = (_cells(picture, parts, options) for picture in (one, two))
        curve[middle] = np.mean([np.abs(a - b).mean() for a, b in zip(*cells, strict=True)])
    return curve


def _parts(face: FaceClip, frame: int, shape: tuple[int, ...] | None = None) -> list[_regions.Region]:
    shape = face.frames[frame].shape[:2] if shape is None else shape
    return _regions.cells(_regions.points(face, frame, shape), shape)


def _levels(face: FaceClip, frame: int, parts: list[_regions.Region], options: Options) -> list[Array]:
    return _cells(_recordings.grey(face.frames[frame]), parts, options)


def _cells(picture: Array, parts: list[_regions.Region], options: Options) -> list[Array]:
    """Grey levels 0..255 of each cell, by option less their common mean."""
    cells = [255 * picture[part] for part in parts]
    mean = np.concatenate([cell.ravel() for cell in cells]).mean() if options.brightness == "equal" else 0.0
    return [cell - mean for cell in cells]
