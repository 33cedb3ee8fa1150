"""A recording as a spotter reads it: the frames to search, grey pictures one at a time, moments in the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array, FaceClip, Moment
from fleeting.spotting import _curves

BRIDGED = 0.25
"""Gaps of up to this share of half an expression are bridged, longer ones cut a recording in two."""
Pair = tuple[int, int, Array, Array]
"""Middle, first frame, grey first and grey second picture (h, w) float32 in [0, 1]."""


@dataclass(frozen=True)
class Search:
    """How a spotter measures and decides.

    Attributes:
        apex: frames (n,), the first of them the onset -> position of the apex among them and its score; position
            None where nothing changes.
        running: frames (n,) and a lag -> (T,): change over `lag` frames around each frame, NaN where unknown;
            `pairs` names the frames to compare.
        duration_s: how long an expression lasts, in seconds.
        share: threshold of a peak in a recording, from the mean (0) to the maximum (1) of the curve.
        least: how far a peak must rise above the lowest point of the curve, in the unit of `running`.
    """

    apex: Callable[[Array], tuple[int | None, float]]
    running: Callable[[Array, int], Array]
    duration_s: float
    share: float
    least: float


def locate(face: FaceClip, search: Search) -> list[Moment]:
    """The one moment of a clip with onset and offset, else those that stand out in the recording.

    A clip that is labelled gives its onset and offset back; its apex is None where nothing changes. In a recording
    an expression spans half of `duration_s` to either side of its peak, and its apex is looked for from there.

    A face that a tracker loses for a moment (a quarter of half an expression: at 100 frames a second and half a
    second six frames) is bridged: the nearest frames with a face stand for those without. Such frames can lie inside
    of a moment, but its onset, apex and offset show a face. Longer gaps cut: no moment reaches into one or over it.

    Raises:
        UserError: a labelled clip has no face between onset and offset or ends before its offset, or the frame
            rate of a recording is not known.
    """
    frames, clip = seen(face), face.clip
    if clip.onset is not None and clip.offset is not None:
        return [_labelled(frames, search, clip.onset, clip.offset)]
    half = half_length(face, search.duration_s)
    if len(frames) < 3:
        return []
    found = _curves.intervals(search.running(frames, half), half, search.share, search.least)
    return [_moment(frames[(frames >= first) & (frames <= last)], peak, search) for first, peak, last in found]


def _moment(frames: Array, peak: int, search: Search) -> Moment:
    """The moment on frames that all show a face; where nothing changes since the first, the apex is at the peak."""
    at, score = search.apex(frames)
    if at is None:
        at = int(np.abs(frames - peak).argmin())
    return Moment(int(frames[0]), int(frames[at]), int(frames[-1]), score)


def _labelled(frames: Array, search: Search, onset: int, offset: int) -> Moment:
    if onset == offset:
        return Moment(onset, onset, offset, 0.0)  # a single frame is its own apex
    at, score = search.apex(frames)
    return Moment(onset, None if at is None else int(frames[at]), offset, score)


def seen(face: FaceClip) -> Array:
    """(n,) int: the frames from onset to offset (of the recording, where there is none) that show a face.

    Without landmarks every frame does.

    Raises:
        UserError: there are no frames, the clip is shorter than its annotation, or it is labelled and no frame
            shows a face.
    """
    clip, count = face.clip, len(face.frames)
    if not count:
        raise UserError(f"{clip.key}: want frames to look at, got none; choose the spotter 'annotated' or 'middle'")
    first = clip.onset or 0
    last = count - 1 if clip.offset is None else clip.offset
    if max(first, last) >= count:
        raise UserError(f"{clip.key}: want onset and offset < {count} frames, got {first}, {last}; fix the annotation")
    frames = np.arange(first, last + 1)
    if face.landmarks is not None and face.landmarks.shape[1]:
        frames = frames[np.isfinite(face.landmarks[frames]).all(axis=(1, 2))]
    if not len(frames) and clip.onset is not None and clip.offset is not None:
        raise UserError(f"{clip.key}: want a face between onset and offset, got none; choose another face tracker")
    return frames


def half_length(face: FaceClip, duration_s: float) -> int:
    """Half the length of an expression in frames, k' of the common spotters.

    Raises:
        UserError: the clip has no frame rate.
    """
    if face.clip.fps is None:
        raise UserError(f"{face.clip.key}: want a frame rate to spot in a recording, got none; give the clip an fps")
    return max(1, round(face.clip.fps * duration_s / 2))


def grey(picture: Array) -> Array:
    """(h, w, 3) uint8 RGB to (h, w) float32 in [0, 1]."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32) / 255


def stretches(frames: Array, half: int) -> list[Array]:
    """Frames with a face, divided where a gap is too long to be bridged.

    Args:
        frames: (n,) in order.
        half: half the length of an expression in frames.
    """
    return list(np.split(frames, np.flatnonzero(np.diff(frames) > int(BRIDGED * half) + 1) + 1))


def pairs(face: FaceClip, frames: Array, lag: int) -> Iterator[Pair]:
    """All pairs of pictures that lie `lag` apart, half an expression, each picture read once.

    Of a frame in a short gap the nearest with a face is taken instead; no pair spans a long gap. No more than
    lag + 1 pictures are held.
    """
    for stretch in stretches(frames, lag):
        yield from _pairs(face, stretch, lag)


def _pairs(face: FaceClip, frames: Array, lag: int) -> Iterator[Pair]:
    wanted = np.arange(frames[0], frames[-1] + 1)
    later = np.searchsorted(frames, wanted)
    earlier = np.where(frames[later] == wanted, later, later - 1)
    nearest = frames[np.where(wanted - frames[earlier] <= frames[later] - wanted, earlier, later)]
    held: deque[tuple[int, Array]] = deque()
    unread = iter(map(int, frames))
    for start, first, second in zip(wanted, nearest, nearest[lag:], strict=False):
        while not held or held[-1][0] < second:
            frame = next(unread)
            held.append((frame, grey(face.frames[frame])))
        while held[0][0] < first:
            held.popleft()
        yield int(start) + lag // 2, int(first), held[0][1], held[-1][1]
