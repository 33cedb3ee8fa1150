"""The greatest optical flow since the onset, in the brows and at the mouth corners, less that of the head.

What is known of ME-PLAN's detector, by which MERba got its apex frames of SMIC-HS (Zhao et al., "ME-PLAN: A deep
prototypical learning with local attention network for dynamic micro-expression recognition", Neural Networks 2022,
doi 10.1016/j.neunet.2022.06.024): a "unimodal pattern constraint" on a curve over time keeps noise out (highlights);
the curves are the mean flow and strain from the onset to each frame in the brows and at the mouth corners, the mean
flow at the ridge of the nose being subtracted first; the eyes count only where no other part has a peak (the authors'
published code). How the constraint chooses the peak is not known to us.

Ours, therefore: the constraint as a least-squares fit (`peak`), the mean of the four parts, rectangles instead of
polygons, DIS instead of Farneback or TV-L1, no strain, never the eyes, and everything about recordings without
annotation: there the flow runs over half an expression around each frame, and intervals are found as common spotters
find them. Also ours is what is taken for the head (`head`): the nose tells how a head is shifted, not how it turns and
nears, and that moves brows and mouth as far as an expression does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from fleeting import motion, plugins
from fleeting.records import Array, FaceClip, Moment
from fleeting.spotting import _curves, _head, _recordings, _regions
from fleeting.spotting._curves import Rule
from fleeting.spotting._recordings import Pair

LOOKS = True
BATCH = 16


class Options(BaseModel, frozen=True, extra="forbid"):
    """How motion is measured, and what counts as a peak.

    Attributes:
        flow: name of the flow method, used with its own defaults.
        regions: mean flow of the four "parts" (brows, mouth corners), or of the whole "face" picture.
        head: what is taken for the motion of the head and subtracted: the "similarity" transform (shift, turn,
            change of size) that fits most of the face; the "translation" of the ridge of the nose, as the source
            has it (where there are no landmarks the median of the picture); or "none".
        peak: "unimodal": the apex of the curve that rises, then falls and fits best; "highest": the greatest value.
        duration_s: how long an expression lasts: intervals of a recording are so long. Seconds; half a second is the
            usual upper bound of a micro-expression.
        share: threshold of a peak in a recording: p in mean + p (max - mean) of the smoothed curve.
        least_px: how far a peak must rise above the calmest part of a recording, in pixels of the aligned picture.
            Common spotters have no such floor (0), and find expressions where nobody moves.
    """

    flow: str = "dis"
    regions: Literal["parts", "face"] = "parts"
    head: Literal["similarity", "translation", "none"] = "similarity"
    peak: Rule = "unimodal"
    duration_s: float = Field(0.5, gt=0)
    share: float = Field(0.55, ge=0, le=1)
    least_px: float = Field(0.1, ge=0)


def uses(options: Options) -> tuple[tuple[str, str], ...]:
    """The flow method: another plug-in whose change changes the moments."""
    return (("flow", options.flow),)


def locate(face: FaceClip, options: Options) -> list[Moment]:
    """Moments by flow; their score is the mean flow at the apex since the onset, pixels of the aligned picture.

    Returns:
        One moment for a clip with onset and offset (apex None where nothing moves), else any number in order.
        Frames without a face are not looked at; see `_recordings.locate` for the gaps that they leave.

    Raises:
        UserError: no such flow method, a labelled clip without a face, or a recording without a frame rate.
    """
    search = _recordings.Search(
        apex=lambda frames: _curves.peak(_since_first(face, options, frames), options.peak),
        running=partial(_around, face, options),
        duration_s=options.duration_s,
        share=options.share,
        least=options.least_px,
    )
    return _recordings.locate(face, search)


def _since_first(face: FaceClip, options: Options, frames: Array) -> Array:
    """(n,) motion from the first of the frames to each, px."""
    start = int(frames[0])
    reference = _recordings.grey(face.frames[start])
    pairs = ((frame, start, reference, _recordings.grey(face.frames[frame])) for frame in map(int, frames))
    return np.array([moved for _, moved in _motions(face, options, pairs)])


def _around(face: FaceClip, options: Options, frames: Array, lag: int) -> Array:
    """(T,) motion between two frames `lag` apart, px, at the frame in their middle.

    At the middle, because the curve of a rise and fall of `lag` frames each has two equal peaks there, half a lag
    before and after the apex, which smoothing over twice the lag joins at the apex.
    """
    curve = np.full(len(face.frames), np.nan)
    for middle, moved in _motions(face, options, _recordings.pairs(face, frames, lag)):
        curve[middle] = moved
    return curve


def _motions(face: FaceClip, options: Options, pairs: Iterable[Pair]) -> Iterator[tuple[int, float]]:
    """(middle, motion in px) of each pair, computed in batches."""
    method = plugins.load("flow", options.flow)
    settings, waiting = method.Options(), iter(pairs)
    while batch := list(islice(waiting, BATCH)):
        one, two = (np.stack([pair[side] for pair in batch]) for side in (2, 3))
        for (middle, first, *_), uv in zip(batch, method.flow(one, two, settings), strict=True):
            yield middle, _amount(uv, _regions.points(face, first, uv.shape[1:]), face, options)


def _amount(uv: Array, spots: Array, face: FaceClip, options: Options) -> float:
    """Mean length of the flow in the parts, the head's motion subtracted. Flow (2, h, w), px."""
    shape = uv.shape[1:]
    length = motion.magnitude(uv - _head_of(uv, spots, face, options))
    if options.regions == "face":
        return float(length.mean())
    return float(np.mean([length[part].mean() for part in _regions.brows_and_corners(spots, shape)]))


def _head_of(uv: Array, spots: Array, face: FaceClip, options: Options) -> Array:
    """(2, h, w) or (2, 1, 1): what is taken for the motion of the head, px."""
    shape = uv.shape[1:]
    if options.head == "similarity":
        return _head.similarity(uv, _regions.face(spots, shape))
    if options.head == "none":
        return np.zeros((2, 1, 1), uv.dtype)
    if face.landmarks is None or not face.landmarks.shape[1]:
        return np.median(uv, axis=(1, 2), keepdims=True)
    rows, columns = _regions.nose(spots, shape)
    return np.asarray(uv[:, rows, columns].mean(axis=(1, 2), keepdims=True))
