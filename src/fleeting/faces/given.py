"""Landmarks from files that somebody else made: arrays or tables, one file a clip."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fleeting import landmarks
from fleeting.errors import UserError
from fleeting.faces._files import SUFFIXES, read
from fleeting.records import Array, Clip, Track

Source = Clip | Path | str | Sequence[Path]


class Options(BaseModel, frozen=True, extra="forbid"):
    """Where the file of a clip lies.

    Attributes:
        folder: of the files; ``~`` and ``$NAME`` are replaced, so that an experiment need not name a place on one
            machine. Empty: beside the recordings, `pattern` then counts from the folder above a recording's.
        pattern: of a file below `folder`, with or without ".npy", ".npz" or ".csv". A recording (a video file
            without its suffix, or the folder of its pictures) is called ``{name}``, the folders above it are
            ``{parent}``, ``{parent2}``, ``{parent3}``; of a corpus' clip also ``{dataset}``, ``{subject}`` and
            ``{clip}``, as in its key.
    """

    folder: str = ""
    pattern: str = "{parent}/{name}"


def track(frames: Sequence[Array], which: Sequence[int], options: Options) -> Track:
    """The landmarks of a recording's file.

    Args:
        frames: a recording as `video.open` gives it: it knows its `source`.
        which: indices of the frames asked for.
        options: see `Options`.

    Returns:
        As many landmarks as the file has, `boxes` None. Landmarks of one frame hold for the whole clip; of those
        of a whole recording a clip with a span takes its part. State 0 where the file has no face for a frame.

    Raises:
        UserError: no such file, or not one of landmarks; it has another number of frames than the recording;
            the points lie outside the picture.
    """
    source = getattr(frames, "source", None)
    if source is None:
        raise UserError("want a recording with a path, got pictures in memory; choose another face tracker")
    path = locate(source, options)
    points = _fitted(path, read(path), len(frames), source)
    asked = np.isin(np.arange(len(frames)), list(which))
    _check_place(path, points[asked], frames, which)
    found = np.isfinite(points).all(axis=(1, 2))
    points[~asked] = np.nan
    return Track(points, np.where(asked, found, -1).astype(np.int8))


def reads(clip: Clip, options: Options) -> tuple[Path, ...]:
    """The files that may hold a clip's landmarks, there or not: what the track depends on besides the recording."""
    return () if clip.frames is None else tuple(_choices(clip, options))


def locate(source: Source, options: Options) -> Path:
    """The file of a recording's landmarks.

    Args:
        source: what `video.open` opened.
        options: see `Options`.

    Raises:
        UserError: the pattern has another placeholder, there is no file, or several.
    """
    choices = _choices(source, options)
    found = [choice for choice in choices if choice.is_file()]
    if len(found) != 1:
        tried = f"{choices[0]}{'' if len(choices) == 1 else ' (or ' + ', '.join(SUFFIXES[1:]) + ')'}"
        got = " and ".join(choice.name for choice in found) or "none"
        what = source.key if isinstance(source, Clip) else _recording(source)
        raise UserError(f"{what}: want one file of landmarks, {tried}, got {got}; correct `folder` or `pattern`")
    return found[0]


def _choices(source: Source, options: Options) -> list[Path]:
    recording = _recording(source)
    above = [*recording.parents, Path(), Path(), Path()]
    words = {"name": recording.name, "parent": above[0].name, "parent2": above[1].name, "parent3": above[2].name}
    if isinstance(source, Clip):
        words |= {"dataset": source.dataset, "subject": source.subject, "clip": source.name}
    try:
        below = options.pattern.format(**words)
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        known = ", ".join(f"{{{word}}}" for word in words)
        raise UserError(f"pattern {options.pattern!r}: want some of {known}, got {error}; correct it") from error
    folder = Path(os.path.expandvars(options.folder)).expanduser() if options.folder else above[1]
    wanted = folder / below
    return [wanted] if wanted.suffix in SUFFIXES else [wanted.with_name(wanted.name + end) for end in SUFFIXES]


def _recording(source: Source) -> Path:
    """The recording's path without suffix, or the folder of its pictures."""
    frames = source.frames if isinstance(source, Clip) else source
    if isinstance(frames, str | Path):
        path = Path(frames).absolute()
        return path if path.is_dir() else path.with_suffix("")
    if not frames:
        raise UserError("want a recording with a path, got none; choose another face tracker")
    return Path(frames[0]).absolute().parent


def _fitted(path: Path, points: Array, count: int, source: Source) -> Array:
    """(count, K, 2): one frame held, a whole recording cut to the clip's span."""
    if len(points) == 1:
        return points.repeat(count, axis=0)
    span = source.span if isinstance(source, Clip) else None
    if span is not None and len(points) != count and len(points) > span[1]:
        points = points[span[0] : span[1] + 1].copy()
    if len(points) != count:
        raise UserError(
            f"{path}: want landmarks of 1 or {count} frames, as in the recording, got {len(points)}; "
            "give those of this recording"
        )
    return points


def _check_place(path: Path, points: Array, frames: Sequence[Array], which: Sequence[int]) -> None:
    """Refuses landmarks that were made from other pictures: shares of a side, or those of the uncropped frames."""
    boxes = landmarks.box(points)
    boxes = boxes[np.isfinite(boxes).all(axis=1)]
    if not len(boxes):
        return
    height, width = getattr(frames, "size", None) or np.shape(frames[min(which)])[:2]
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((middles >= 0) & (middles < (width, height))).all(axis=1)
    large = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) >= 8
    if not (inside & large).all():
        left, top, right, bottom = boxes[int((inside & large).argmin())].round(1).tolist()
        raise UserError(
            f"{path}: want pixels of a recording of {width} x {height}, got a face from ({left}, {top}) to "
            f"({right}, {bottom}); give landmarks of these pictures"
        )
