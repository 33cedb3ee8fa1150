"""Divide and conquer: the half of the clip with the higher peaks is kept until one frame is left (D&C-RoIs).

Liong et al., "Automatic apex frame spotting in micro-expression database", ACPR 2015, doi 10.1109/ACPR.2015.7486586;
used for SMIC by HTNet (Wang et al., Neurocomputing 2024). Uniform LBP histograms of three regions (each eye with its
brow, the mouth), placed by the landmarks of the onset frame, are compared with those of the onset frame. HTNet's
equation 1 prints

    d = sum_{i=1..B} h1_i h_{h2 i} / sqrt(sum_{i=1..B} h1_i^2  sum_{i=2..B} h2_i^2)

with B bins, h1 of the first frame, h2 of another. It is the cosine of two histograms, with an h too many and the last
sum begun at 2; both are taken for misprints (`equation`). As d is 1 for equal histograms, the "rate of difference" of
which the text wants the highest is 1 - d.

The source computes the rate of every frame, finds the local peaks of the curve, halves the clip, keeps the half whose
peaks have the greater sum, and so on until one peak is left. `search` "exhaustive" does that. "binary" computes a rate
only when a decision wants it: a few frames at equal distances, peaks and sums among these, the better half again at
half the distance, down to neighbours. On a curve with one peak both end there; where noise makes many peaks, the
source's sums favour the half that has more of them, the coarse sums less. We know of no margin of the regions, no
blocks, and no rule for a curve without a peak in the source: here the half with the greatest rate is then kept.

The method knows clips that hold one expression. In a recording without annotation the intervals are found first, as
common spotters find them, by the rate between frames half an expression apart: that looks at every frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field
from scipy.signal import find_peaks

from fleeting.errors import UserError
from fleeting.records import Array, FaceClip, Moment
from fleeting.spotting import _curves, _lbp, _recordings, _regions

LOOKS = True


class Options(BaseModel, frozen=True, extra="forbid"):
    """How frames are compared and searched.

    Attributes:
        search: "binary" looks at few frames, "exhaustive" at all (the source).
        samples: of "binary": the most frames compared at a time; more are slower and err less in noise.
        equation: HTNet's equation 1 "corrected", or as "printed", with the first bin missing in the last sum.
        combine: the rate of a frame is the "mean" of the rates of the three regions, or the greatest of them.
        radius: of the local binary patterns, pixels.
        blocks: rows and columns of blocks into which each region is divided.
        duration_s: how long an expression lasts: intervals of a recording are so long. Seconds.
        share: threshold of a peak in a recording: p in mean + p (max - mean) of the smoothed curve.
        least: how far a peak must rise above the calmest part of a recording, as a rate of difference.
    """

    search: Literal["binary", "exhaustive"] = "binary"
    samples: int = Field(8, ge=4)
    equation: Literal["corrected", "printed"] = "corrected"
    combine: Literal["mean", "greatest"] = "mean"
    radius: int = Field(1, ge=1)
    blocks: int = Field(4, ge=1)
    duration_s: float = Field(0.5, gt=0)
    share: float = Field(0.55, ge=0, le=1)
    least: float = Field(0.01, ge=0)


def locate(face: FaceClip, options: Options) -> list[Moment]:
    """Moments by divide and conquer; their score is the apex' rate of difference to the onset, from 0 to 1.

    Returns:
        One moment for a clip with onset and offset (apex None where nothing changes), else any number in order.
        Frames without a face are not looked at; see `_recordings.locate` for the gaps that they leave.

    Raises:
        UserError: a labelled clip without a face, a recording without a frame rate, or pictures so small that the
            patterns of `radius` do not fit.
    """
    search = _recordings.Search(
        apex=partial(_apex, face, options),
        running=partial(_around, face, options),
        duration_s=options.duration_s,
        share=options.share,
        least=options.least,
    )
    return _recordings.locate(face, search)


def _apex(face: FaceClip, options: Options, frames: Array) -> tuple[int | None, float]:
    """Where the search ends, and the rate there; None where it is 0."""
    rate = _rate(face, options, frames)
    samples = len(frames) if options.search == "exhaustive" else options.samples
    at = divide(rate, len(frames), samples)
    return (at, rate(at)) if rate(at) > _curves.FLAT else (None, 0.0)


def _around(face: FaceClip, options: Options, frames: Array, lag: int) -> Array:
    """(T,) rate of difference of two frames `lag` apart, at the frame in their middle."""
    curve = np.full(len(face.frames), np.nan)
    for middle, first, one, two in _recordings.pairs(face, frames, lag):
        parts = _parts(face, first, one, options)
        before, after = (_describe(picture, parts, options) for picture in (one, two))
        curve[middle] = _difference(before, after, options)
    return curve


def divide(rate: Callable[[int], float], count: int, samples: int) -> int:
    """The position at which the search ends.

    Args:
        rate: position in [0, count) -> rate of difference.
        count: positions, at least one.
        samples: the most positions looked at in one interval; `count` for the source's way.

    Returns:
        The position. `rate` was called for it.
    """
    low, high, stride = 0, count - 1, 1
    while count > samples * stride:
        stride *= 2
    known: dict[int, float] = {}
    while True:
        known.update({at: rate(at) for at in range(low + -low % stride, high + 1, stride) if at not in known})
        peaks = {at: value for at, value in _peaks(known).items() if low <= at <= high}
        if stride == 1 and (low == high or len(peaks) == 1):
            return next(iter(peaks), low)
        if low < high:
            low, high = _better_half(low, high, peaks, known)
        stride = max(stride // 2, 1)


def _better_half(low: int, high: int, peaks: dict[int, float], known: dict[int, float]) -> tuple[int, int]:
    """The half whose peaks have the greater sum; where none has one, that with the greatest rate; else the first."""
    middle = (low + high) // 2
    halves = (low, middle), (middle + 1, high)
    scores = [
        (
            sum(value for at, value in peaks.items() if first <= at <= last),
            max((value for at, value in known.items() if first <= at <= last), default=0.0),
        )
        for first, last in halves
    ]
    return halves[1] if scores[1] > scores[0] else halves[0]


def _peaks(known: dict[int, float]) -> dict[int, float]:
    """Positions higher than the known ones beside them, of a plateau the middle one; never the ends of the clip."""
    positions = sorted(known)
    found, _ = find_peaks([known[at] for at in positions])
    return {positions[at]: known[positions[at]] for at in found}


def _rate(face: FaceClip, options: Options, frames: Array) -> Callable[[int], float]:
    """Position among the frames -> rate of difference to the first of them; a frame is read once, when asked for."""
    onset = _recordings.grey(face.frames[int(frames[0])])
    parts = _parts(face, int(frames[0]), onset, options)
    reference = _describe(onset, parts, options)

    @cache
    def rate(position: int) -> float:
        if position == 0:
            return 0.0
        picture = _recordings.grey(face.frames[int(frames[position])])
        return _difference(reference, _describe(picture, parts, options), options)

    return rate


def _parts(face: FaceClip, frame: int, picture: Array, options: Options) -> list[_regions.Region]:
    parts = _regions.eyes_and_mouth(_regions.points(face, frame, picture.shape), picture.shape)
    for height, width in (picture[part].shape for part in parts):
        if min(height, width) <= 2 * options.radius:
            raise UserError(
                f"{face.clip.key}: want eyes and mouth more than {2 * options.radius} px wide and high for "
                f"spotting.radius = {options.radius}, got {width} x {height} px; choose a smaller radius, larger "
                "pictures (align.size), or another spotter"
            )
    return parts


def _describe(picture: Array, parts: list[_regions.Region], options: Options) -> list[Array]:
    """The histograms of each region, its blocks one after the other."""
    return [_lbp.histograms(picture[part], options.radius, options.blocks).ravel() for part in parts]


def _difference(first: list[Array], second: list[Array], options: Options) -> float:
    """Rate of difference of two frames: 1 - d of each region, their mean or the greatest."""
    rates = [1 - agreement(one, two, options.equation) for one, two in zip(first, second, strict=True)]
    return max(0.0, max(rates) if options.combine == "greatest" else sum(rates) / len(rates))


def agreement(first: Array, second: Array, equation: Literal["corrected", "printed"]) -> float:
    """d of HTNet's equation 1.

    Args:
        first, second: (B,) histograms h1 and h2, not negative, not all zero.
        equation: "corrected": their cosine, 1 for equal ones; "printed": h2's first bin is missing below.

    Returns:
        d; 0 where the denominator is 0.
    """
    below = second[1:] if equation == "printed" else second
    length = float(np.sqrt((first @ first) * (below @ below)))
    return float(first @ second) / length if length > 0 else 0.0
