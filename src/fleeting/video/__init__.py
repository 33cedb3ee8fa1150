"""Recordings as lazy frames with time stamps: video files through PyAV, folders and lists of pictures through OpenCV.

A frame is read when it is asked for, and little is kept, so a recording of two hours needs no more memory than one
of a minute. The same index gives the same bytes whatever was read before.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, overload

import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array, Clip, Pair
from fleeting.video.movies import Movie
from fleeting.video.pictures import SUFFIXES, Pictures, listed
from fleeting.video.writing import write

Source = Clip | Path | str | Sequence[Path]


class Reader(Protocol):
    """What stands behind `Frames`: a whole video file, or pictures in order."""

    what: str
    size: Pair
    gaps: tuple[int, ...]
    notices: tuple[str, ...]

    @property
    def stamps(self) -> Array:
        """(T,) float64: seconds, or the numbers of pictures."""

    @property
    def fps(self) -> float | None:
        """Frames a second, None of pictures."""

    def read(self, index: int) -> Array:
        """(H, W, 3) uint8 RGB, an array of the caller's own."""

    def close(self) -> None:
        """Lets go of the file; the next `read` opens it again."""


class Frames(Sequence[Array]):
    """The frames of a recording: ``len``, ``[i]`` -> (H, W, 3) uint8 RGB; pickled as its source and opened again.

    Attributes:
        source: what was opened.
        times_s: (T,) float64, seconds: of a video its exact time stamps (the first need not be 0), of pictures
            number / fps, so that a missing picture leaves a hole. Where fps is None: the pictures' numbers.
        fps: frames a second; of a video the mean rate, None of pictures whose rate nobody named.
        size: (height, width), rotation applied.
        gaps: missing numbers between the first and the last picture; empty for a video.
        notices: what a user should know, one line each, without the name of the recording.
    """

    def __init__(self, source: Source, reader: Reader, span: Pair | None, fps: float | None) -> None:
        self.source, self._reader = source, reader
        self._first, last = span or (0, len(reader.stamps) - 1)
        stamps = reader.stamps[self._first : last + 1]
        self.size, self.gaps, self.notices = reader.size, reader.gaps, reader.notices
        self.times_s, self.fps, more = _timed(stamps, reader.fps, fps)
        self.notices += more

    def __len__(self) -> int:
        return len(self.times_s)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> list[Array]: ...
    def __getitem__(self, index: int | slice) -> Array | list[Array]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        position = operator.index(index)
        if not -len(self) <= position < len(self):
            raise IndexError(f"{self._reader.what}: want a frame below {len(self)}, got {position}")
        with _readable(self._reader.what):
            return self._reader.read(self._first + position % len(self))

    def __iter__(self) -> Iterator[Array]:
        return (self[index] for index in range(len(self)))

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.source,)

    def close(self) -> None:
        """Lets go of the file and of what is kept of it."""
        self._reader.close()


def open(source: Source) -> Frames:
    """A recording.

    Args:
        source: a clip, a video file, a folder of pictures (in the order of the last number in their names) or
            pictures in order. Of a clip with a span, the frames of the span; a clip's own fps stands over the file's.

    Raises:
        UserError: the clip has a problem or no frames, the file is missing, damaged, cut off or holds no video,
            pictures have no numbers or share one, the frames are below 16 px a side, or the clip's indices lie outside.
    """
    what = source.key if isinstance(source, Clip) else str(source)
    with _readable(what):
        return _opened(source)


def _opened(source: Source) -> Frames:
    if not isinstance(source, Clip):
        return Frames(source, _reader(source, None), None, None)
    if source.problem:
        raise UserError(f"{source.key}: {source.problem}")
    if source.frames is None:
        raise UserError(
            f"{source.key}: want frames, got published flow only; choose an input that needs none, "
            "or get the recordings"
        )
    if not isinstance(source.frames, tuple) and not source.frames.is_dir():
        movie = _reader(source.frames, None)
        _check_inside(source, movie, source.span)
        frames = Frames(source, movie, source.span, source.fps)
    else:
        frames = Frames(source, _reader(source.frames, source.span), None, source.fps)
    _check_inside(source, frames, (source.onset, source.apex, source.offset))
    return frames


def windows(clip: Clip, frames: Frames, length_s: float = 60.0, overlap_s: float = 4.0) -> list[Clip]:
    """A long recording as overlapping clips, so that no stage has to hold more than a window of it.

    An expression that is not longer than the overlap lies whole in one of them; 4 s is the longest that is counted
    as a macro-expression (Yan et al., "How fast are the leaked facial expressions", J. Nonverbal Behavior 2013).

    Args:
        clip: the recording; its onset, apex, offset and emotion stay with the windows that hold all of them.
        frames: the same, opened.
        length_s, overlap_s: seconds.

    Returns:
        clips with a span and a name ending in ``@<first frame>``; the clip itself where it is not longer than
        `length_s`.

    Raises:
        UserError: nobody named the frame rate of the pictures, or the overlap is not below the length.
    """
    if not 0 <= overlap_s < length_s:
        raise UserError(f"want windows longer than their overlap, got {length_s} s and {overlap_s} s; change one")
    if frames.fps is None:
        raise UserError(f"{clip.key}: want a frame rate to cut windows of {length_s} s, got none; name the clip's fps")
    times = frames.times_s - frames.times_s[0]
    end_s = times[-1] + 1 / frames.fps
    # half a frame: a minute of 1800 frames is not longer than a minute
    if end_s <= length_s + 0.5 / frames.fps:
        return [clip]
    step = length_s - overlap_s
    starts = np.arange(max(1, int(np.ceil((end_s - overlap_s) / step - 1e-9)))) * step
    tick = 1e-6
    firsts, ends = (np.searchsorted(times, starts + add - tick) for add in (0.0, length_s))
    # a hole in time can swallow a whole window
    return [_window(clip, int(first), int(end) - 1) for first, end in zip(firsts, ends, strict=True) if first < end]


def _window(clip: Clip, first: int, last: int) -> Clip:
    start = clip.span[0] if clip.span else 0
    known = [index for index in (clip.onset, clip.apex, clip.offset) if index is not None]
    holds = bool(known) and first <= known[0] and known[-1] <= last
    moved = [None if index is None or not holds else index - first for index in (clip.onset, clip.apex, clip.offset)]
    return replace(
        clip,
        name=f"{clip.name}@{start + first}",
        span=(start + first, start + last),
        onset=moved[0],
        apex=moved[1],
        offset=moved[2],
        emotion=clip.emotion if holds else None,
        action_units=clip.action_units if holds else (),
    )


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """A file that the system does not let us read is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{what}: cannot be read ({error.strerror or error}); check that the file is there and that you may read it"
        ) from error


def _reader(source: Path | str | Sequence[Path], span: Pair | None) -> Reader:
    """`span` picks pictures; of a video it is a view."""
    if isinstance(source, str):
        source = Path(source)
    if isinstance(source, Path) and source.is_dir():
        paths: tuple[Path, ...] = listed(source)
        return Pictures(_spanned(str(source), paths, span), str(source), source)
    if isinstance(source, Path) and source.suffix.lower() not in SUFFIXES:
        return Movie(source)
    paths = (source,) if isinstance(source, Path) else tuple(Path(path) for path in source)
    if not paths:
        raise UserError("want at least one picture, got an empty list; look at the corpus' folder")
    return Pictures(_spanned(str(paths[0].parent), paths, span), str(paths[0]), None)


def _spanned(what: str, paths: tuple[Path, ...], span: Pair | None) -> tuple[Path, ...]:
    if span is None:
        return paths
    if span[1] >= len(paths):
        raise UserError(f"{what}: want pictures {span[0]} to {span[1]}, got {len(paths)}; look for missing files")
    return paths[span[0] : span[1] + 1]


def _check_inside(clip: Clip, frames: Reader | Frames, indices: Sequence[int | None] | None) -> None:
    count = len(frames) if isinstance(frames, Frames) else len(frames.stamps)
    known = [index for index in indices or () if index is not None]
    if known and known[-1] >= count:
        raise UserError(
            f"{clip.key}: want frames up to {known[-1]}, got a recording of {count}; correct the annotation, "
            "or look for missing frames"
        )


def _timed(stamps: Array, measured: float | None, named: float | None) -> tuple[Array, float | None, tuple[str, ...]]:
    """Seconds, frames a second and a notice from time stamps or picture numbers and the rate that a corpus names."""
    if measured is None:
        return (stamps if named is None else stamps / named), named, ()
    if named is None:
        return stamps, measured, ()
    usual = 1 / np.median(np.diff(stamps)) if len(stamps) > 1 else measured
    # high-speed cameras write their pictures at 25 or 30 frames a second: slow motion, with time stamps to match
    if all(abs(rate / named - 1) > 0.1 for rate in (measured, usual)):
        slow = f"the file says {measured:.6g} frames a second, the corpus {named:.6g}: time follows the corpus"
        return stamps * (measured / named), named, (slow,)
    return stamps, named, ()


__all__ = ["Frames", "Source", "open", "windows", "write"]
