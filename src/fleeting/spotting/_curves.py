"""Curves over time: smoothing, their one peak (apex of a labelled clip) and their several (a recording)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.signal import find_peaks

from fleeting.records import Array

Rule = Literal["highest", "unimodal"]
# below this a curve is flat: rounding errors of float32 pictures and flow
FLAT = 1e-6


def smooth(values: Array, half: int) -> Array:
    """Means over 2 half + 1 values, of those that are there.

    Args:
        values: (T,); NaN where nothing was measured.
        half: frames to either side.

    Returns:
        (T,) float64; NaN where `values` is.
    """
    there = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(there, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(there)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    means = (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
    return np.asarray(np.where(there, means, np.nan))


def apex(values: Array, rule: Rule) -> int | None:
    """Where a curve has its one peak.

    Args:
        values: (T,), all finite.
        rule: "highest": the first greatest value; "unimodal": the mode of the rising, then falling curve that
            fits best (least squares), so that a spike beside a broad rise and fall does not win.

    Returns:
        The position, None if the curve is flat.
    """
    if not len(values) or np.ptp(values) < FLAT:
        return None
    if rule == "highest":
        return int(np.argmax(values))
    errors = _rising_errors(values) + _rising_errors(values[::-1])[::-1]
    best = np.flatnonzero(errors <= errors.min() + FLAT**2)
    # a frame beside the peak can fit as well as the peak
    return int(best[np.argmax(values[best])])


def peak(values: Array, rule: Rule) -> tuple[int | None, float]:
    """`apex` with the value there, 0 where there is none."""
    at = apex(values, rule)
    return at, 0.0 if at is None else float(values[at])


def _rising_errors(values: Array) -> Array:
    """(T,): squared error of the best rising fit of ``values[: t + 1]``, all t in one sweep.

    Pool adjacent violators; that prefixes come for free is Stout, "Unimodal regression via prefix isotonic
    regression", Computational Statistics and Data Analysis 2008, doi 10.1016/j.csda.2008.08.005.
    """
    means: list[float] = []
    counts: list[int] = []
    spreads: list[float] = []
    errors = np.empty(len(values))
    total = 0.0
    for index, value in enumerate(np.asarray(values, np.float64)):
        mean, count, spread = float(value), 1, 0.0
        while means and means[-1] >= mean:
            other, many, total = means.pop(), counts.pop(), total - spreads[-1]
            spread += spreads.pop() + (other - mean) ** 2 * count * many / (count + many)
            mean = (mean * count + other * many) / (count + many)
            count += many
        means.append(mean)
        counts.append(count)
        spreads.append(spread)
        total += spread
        errors[index] = total
    return errors


def intervals(values: Array, half: int, share: float, least: float) -> list[tuple[int, int, int]]:
    """Stretches around the peaks of a curve, in order and apart.

    As common spotters do it (SOFTNet: Liong et al., ICIP 2021; MEAN): smoothed over 2 half + 1 frames, peaks above
    mean + share (max - mean), each with `half` frames to either side. They let peaks come as near as `half`, so
    that stretches overlap; here the higher of two such peaks stays.

    Args:
        values: (T,); NaN where there is no face or no pair: no stretch reaches into such a gap, no mean over it.
        half: half the length of an expression in frames.
        share: p, from the mean (0) to the greatest value (1).
        least: how far a peak must rise above the lowest value of the smoothed curve. The source has no such
            floor; without it a recording in which nobody moves has peaks, too.

    Returns:
        (first, peak, last), inclusive; none for a flat curve.
    """
    runs, curve = _runs(np.isfinite(values)), np.full(len(values), np.nan)
    for first, last in runs:
        curve[first : last + 1] = smooth(values[first : last + 1], half)
    known = curve[np.isfinite(curve)]
    if not len(known) or np.ptp(known) < FLAT:
        return []
    threshold = max(known.mean() + share * (known.max() - known.mean()), known.min() + least)
    found = []
    for first, last in runs:
        peaks, _ = find_peaks(curve[first : last + 1], height=threshold, distance=2 * half + 1)
        found += [(max(first, first + at - half), first + at, min(last, first + at + half)) for at in map(int, peaks)]
    return found


def _runs(there: Array) -> list[tuple[int, int]]:
    """First and last index, inclusive, of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]
