"""What travels between the stages: frozen records, checked when they are made.

Conventions: frame indices are 0-based and inclusive, points are (x, y), flow is (u right, v down) from the
first to the second frame. A clip's key is ``dataset/subject/name``; it is the same in every loader of a corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fleeting.errors import UserError

Array = npt.NDArray[Any]
Pair = tuple[int, int]
Unit = Literal["px", "minmax"]


@dataclass(frozen=True)
class FlowFile:
    """A published flow picture that stands in for computed flow.

    Attributes:
        path: the picture.
        pair: (first, second) frame of the clip between which the flow runs.
        channels: what the picture's channels hold in the order in which OpenCV reads them (B, G, R);
            a permutation of "u", "v", "strain".
        unit: "minmax" where each channel was scaled to 0..255 by its own minimum and maximum, so that
            sign, zero and amplitude are lost.
    """

    path: Path
    pair: Pair
    channels: tuple[str, str, str]
    unit: Unit = "minmax"

    def __post_init__(self) -> None:
        if sorted(self.channels) != ["strain", "u", "v"]:
            raise UserError(f"{self.path}: want channels u, v and strain once each, got {self.channels}")


@dataclass(frozen=True)
class Clip:
    """One recording, or one annotated stretch of one.

    Attributes:
        dataset: the corpus (not the loader).
        subject, name: as the corpus writes them.
        frames: a video file, or the frame pictures in order; None where only published flow exists.
        fps: frames a second, None if unknown.
        onset, apex, offset: 0-based inclusive indices, None if unknown.
        emotion: the corpus' own word, None if unlabelled.
        action_units: codes as the sheet writes them.
        part: the corpus' own part ("A", "B"), "" if it has none.
        flow_files: published flow.
        span: first and last frame of `frames` that belong to the clip, inclusive, None for all; the clip's own
            indices count from the first.
        problem: why the clip cannot be used ("want ..., got ...; do ..."): it is then reported, counted and
            dropped, and nothing else about it is checked.

    Raises:
        UserError: a name is empty or contains "/" or "~", the indices are out of order, or there is nothing
            to look at.
    """

    dataset: str
    subject: str
    name: str
    frames: Path | tuple[Path, ...] | None
    fps: float | None = None
    onset: int | None = None
    apex: int | None = None
    offset: int | None = None
    emotion: str | None = None
    action_units: tuple[str, ...] = ()
    part: str = ""
    flow_files: tuple[FlowFile, ...] = ()
    span: Pair | None = None
    problem: str = ""

    def __post_init__(self) -> None:
        for part in (self.dataset, self.subject, self.name):
            if not part or any(letter in part for letter in "/~"):
                raise UserError(f"{self.key}: want names that are not empty and hold no '/' or '~', got {part!r}")
        if self.problem:
            return
        if self.frames is None and not self.flow_files:
            raise UserError(f"{self.key}: want frames or published flow, got neither")
        count = len(self.frames) if isinstance(self.frames, tuple) else None
        if self.span is not None:
            _check_order(f"{self.key}, span", self.span, count)
            count = self.span[1] - self.span[0] + 1
        _check_order(self.key, (self.onset, self.apex, self.offset), count)

    @property
    def key(self) -> str:
        """``dataset/subject/name``, unique in a run."""
        return f"{self.dataset}/{self.subject}/{self.name}"

    @property
    def group(self) -> str:
        """``dataset/subject``: what must never stand on both sides of a fold."""
        return f"{self.dataset}/{self.subject}"


def _check_order(what: str, indices: Sequence[int | None], count: int | None) -> None:
    known = [index for index in indices if index is not None]
    inside = not known or (known[0] >= 0 and (count is None or known[-1] < count))
    if not inside or known != sorted(known):
        end = f" < {count} frames" if count is not None else ""
        got = ", ".join("?" if index is None else str(index) for index in indices)
        raise UserError(f"{what}: want 0 <= onset <= apex <= offset{end}, got {got}; correct the annotation")


@dataclass(frozen=True)
class Moment:
    """One (micro-)expression in a recording: frame indices, and the spotter's score where it has one."""

    onset: int
    apex: int | None
    offset: int
    score: float | None = None

    def __post_init__(self) -> None:
        _check_order("moment", (self.onset, self.apex, self.offset), None)


@dataclass(frozen=True)
class Plan:
    """Every frame, and every pair of frames, that an input will look at."""

    frames: tuple[int, ...] = ()
    pairs: tuple[Pair, ...] = ()


@dataclass(frozen=True, eq=False)
class Track:
    """Landmarks of a recording.

    Attributes:
        landmarks: (T, K, 2) float32, pixels of the recording; NaN where there is no face.
        state: (T,) int8: 1 face, 0 no face, -1 not looked for.
        boxes: (T, 4) float32 (left, top, right, bottom) of the face detector, pixels, NaN where there is none;
            None from a tracker that has no boxes.
        notices: what a user should know, one line each ("2 faces on frame 0: took the larger one").
    """

    landmarks: Array
    state: Array
    boxes: Array | None = None
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.landmarks.ndim != 3 or self.landmarks.shape[::2] != (len(self.state), 2):
            raise ValueError(f"want landmarks (T, K, 2) and state (T,), got {self.landmarks.shape}, {self.state.shape}")
        if self.boxes is not None and self.boxes.shape != (len(self.state), 4):
            raise ValueError(f"want boxes ({len(self.state)}, 4), got {self.boxes.shape}")


@dataclass(frozen=True, eq=False)
class FaceClip:
    """A recording as the later stages see it.

    Attributes:
        clip, moment: what it was cut from.
        frames: aligned pictures, lazy; ``[i]`` is (h, w, 3) uint8 RGB; empty for published flow.
        landmarks: (T, K, 2) float32 pixels of the aligned picture, or None.
    """

    clip: Clip
    moment: Moment | None
    frames: Sequence[Array] = ()
    landmarks: Array | None = None


@dataclass(frozen=True, eq=False)
class FlowField:
    """Optical flow between two frames.

    Attributes:
        uv: (2, h, w) float32, u to the right and v down.
        unit: "px", or "minmax" for published pictures: each channel in [0, 1] by its own minimum and maximum.
        strain: (h, w) float32 optical strain, only where it was published with the flow.
    """

    uv: Array
    unit: Unit
    strain: Array | None = None

    def __post_init__(self) -> None:
        if self.uv.ndim != 3 or self.uv.shape[0] != 2 or self.uv.dtype != np.float32:
            raise ValueError(f"want float32 flow of shape (2, h, w), got {self.uv.dtype} {self.uv.shape}")
        if self.strain is not None and self.strain.shape != self.uv.shape[1:]:
            raise ValueError(f"want strain of shape {self.uv.shape[1:]} like the flow, got {self.strain.shape}")
        if not np.isfinite(self.uv).all() or (self.strain is not None and not np.isfinite(self.strain).all()):
            raise UserError("want finite flow, got NaN or infinity; look at the two frames that it was made from")


@dataclass(frozen=True, eq=False)
class View:
    """One thing that a model eats: named arrays; `train_only` views are never tested."""

    name: str
    x: Mapping[str, Array]
    train_only: bool = False


@dataclass(frozen=True, eq=False)
class Samples:
    """A selection of packed views.

    The arrays of all views stay on disk; `rows` says which of them this selection holds. A pickled selection
    is its folder and its rows (a memory map would be pickled by value).

    Attributes:
        folder: where the arrays lie.
        keys, views, train_only: (N,) of all packed views.
        x: arrays (N, ...), memory-mapped, in the input's dtype.
        channels: the names of each array's channels.
        rows: (M,) int64, positions in the packed arrays.
        y: (M,) int64 classes, in training parts only.
        classes: how many there are, 0 without `y`.
    """

    folder: Path
    keys: Array
    views: Array
    train_only: Array
    x: Mapping[str, Array]
    channels: Mapping[str, tuple[str, ...]]
    rows: Array
    y: Array | None = None
    classes: int = 0

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Fold:
    """A split of the clips.

    Attributes:
        name: unique in a protocol and seed.
        train, valid: clip keys.
        test: part -> clip keys; results are pooled inside a part, never over parts.

    Raises:
        UserError: a key stands on both sides.
    """

    name: str
    train: tuple[str, ...]
    test: Mapping[str, tuple[str, ...]]
    valid: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        tested = [key for keys in self.test.values() for key in keys]
        sides = (*self.train, *self.valid, *tested)
        if len(set(sides)) != len(sides):
            twice = next(key for key in sides if sides.count(key) > 1)
            raise UserError(f"fold {self.name}: want every clip on one side, got {twice} twice; correct the protocol")

    @property
    def tested(self) -> tuple[str, ...]:
        """All tested keys, in order."""
        return tuple(key for keys in self.test.values() for key in keys)


@dataclass(frozen=True)
class FoldTask:
    """One training: what a worker is told. It holds labels of the training side only.

    Attributes:
        fold: name of the fold.
        seed: of the experiment; the task's own seed is derived from (seed, fold, inner).
        inner: None, or the number of the inner split that this task trains on.
        train, valid: key -> class.
        test: keys, without labels.
    """

    fold: str
    seed: int
    inner: int | None
    train: Mapping[str, int]
    valid: Mapping[str, int]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        leaked = set(self.test) & {*self.train, *self.valid}
        if leaked:
            raise UserError(
                f"fold {self.fold}: want no tested clip in training, got {min(leaked)}; correct the protocol"
            )

    @property
    def name(self) -> str:
        """``<fold>@<seed>[.inner<i>]``, with "/" written "~": the name of the task's file."""
        inner = "" if self.inner is None else f".inner{self.inner}"
        return f"{self.fold.replace('/', '~')}@{self.seed}{inner}"


@dataclass(frozen=True, eq=False)
class FoldResult:
    """What a task gives back.

    Attributes:
        task: name of the task.
        keys, views: (N,) of the tested views.
        probs: (E, N, C) float32: every epoch, every test view.
        log: arrays over the epochs ("loss", "train_accuracy", "learning_rate") and single values
            ("fitted_accuracy": of the finished network on its training part).
        seconds: wall time.
    """

    task: str
    keys: Array
    views: Array
    probs: Array
    log: Mapping[str, Array]
    seconds: float

    def __post_init__(self) -> None:
        if self.probs.ndim != 3 or self.probs.shape[1] != len(self.keys):
            raise ValueError(f"want probs (E, {len(self.keys)}, C), got {self.probs.shape}")
        if not np.isfinite(self.probs).all():
            raise UserError(f"{self.task}: want finite probabilities, got NaN; lower the learning rate")


@dataclass(frozen=True)
class Info:
    """What a corpus is.

    Attributes:
        title, paper, doi, licence: of the corpus.
        request: where one asks for it or gets it.
        counts: published clips: corpus -> class -> number.
        subjects: published subjects: corpus -> number.
        fetchable: whether `fleeting data fetch` can get it.
    """

    title: str
    paper: str
    licence: str
    request: str
    counts: Mapping[str, Mapping[str, int]]
    subjects: Mapping[str, int]
    doi: str = ""
    fetchable: bool = False


@dataclass(frozen=True)
class Paper:
    """Where a model comes from.

    Attributes:
        title, venue, year, doi: of the paper; doi "" where none is known.
        parameters: of the network at `Options()` on `INPUT` with `classes` classes; None for a method without.
        classes: for which `parameters` is counted.
        deviations: one sentence each: where the paper and its code differ or the paper errs, what is done here
            by default and which option gives the alternative.
    """

    title: str
    venue: str
    year: int
    doi: str = ""
    parameters: int | None = None
    classes: int = 3
    deviations: tuple[str, ...] = ()


def unique(keys: Iterable[str], where: Path | str = "") -> tuple[str, ...]:
    """The keys as a tuple.

    Args:
        keys: of clips.
        where: the file or folder that names them, for the complaint.

    Raises:
        UserError: a key occurs twice.
    """
    listed = tuple(keys)
    if len(set(listed)) != len(listed):
        twice = next(key for key in listed if listed.count(key) > 1)
        place = f"{where}: " if where else ""
        raise UserError(f"{place}want unique clip keys, got {twice} twice; correct the corpus' list")
    return listed


__all__ = [
    "Array", "Clip", "FaceClip", "FlowField", "FlowFile", "Fold", "FoldResult", "FoldTask", "Info", "Moment", "Pair",
    "Paper", "Plan", "Samples", "Track", "Unit", "View", "unique",
]  # fmt: skip
