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


@dataclass(frozen=True)
class Search:
    """How a spotter measures and decides.

    Attributes:
        apex: frames (n,), the first of them the onset -> position of the apex among them and its score; position
            None where nothing changes.
        running: frames (n,) and a lag -> (T,): change over `lag` frames around each frame, NaN where unknown.
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
    curve = search.running(frames, half)
    moments = []
    for first, peak, last in _curves.intervals(curve, half, search.share, search.least):
        inside = frames[(frames >= first) & (frames <= last)]
        at, score = search.apex(inside)
        moments.append(Moment(first, peak if at is None else int(inside[at]), last, score))
    return moments


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


def pairs(face: FaceClip, frames: Array, lag: int) -> Iterator[tuple[int, int, Array, Array]]:
    """(first, second, grey first, grey second) of all frames that lie `lag` apart, each picture read once.

    No more than lag + 1 pictures are held.
    """
    held: deque[tuple[int, Array]] = deque()
    for frame in map(int, frames):
        held.append((frame, grey(face.frames[frame])))
        while held[0][0] < frame - lag:
            held.popleft()
        if held[0][0] == frame - lag:
            yield frame - lag, frame, held[0][1], held[-1][1]
