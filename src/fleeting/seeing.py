"""Stages 3 to 8: from a clip to what an input sees, the aligned recording at a moment and its planned flow.

Tracks, moments and flow fields lie in the cache by clip and digest; aligned pictures are never stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from fleeting import align, cache, files, motion, video
from fleeting.config import Experiment
from fleeting.errors import UserError, ranges, spans
from fleeting.records import Array, Clip, FaceClip, FlowField, Moment, Pair, Plan, Track
from fleeting.stages import Stages

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""

_FLOW_BATCH = 32


def quiet(what: str, done: int, total: int) -> None:
    """No progress."""


@dataclass
class Seen:
    """One moment of a clip as an input sees it; filled on its way through the stages.

    Attributes:
        clip, plan: whose moment it is, and what the input wants.
        face: the aligned recording.
        frames: the recording, open; None for published flow.
        track: of the frames that were looked at.
        track_digest: of what the track depends on.
        flows: of the planned pairs.
    """

    clip: Clip
    plan: Plan
    face: FaceClip
    frames: video.Frames | None = None
    track: Track | None = None
    track_digest: str = ""
    flows: dict[Pair, FlowField] = field(default_factory=dict)


@contextmanager
def look(experiment: Experiment, clip: Clip, progress: Progress = quiet) -> Iterator[Iterator[Seen]]:
    """Each moment of one clip or recording as an input sees it, one after the other; open inside the block.

    Raises:
        UserError: the clip is broken; no moment was found.
    """
    if clip.problem:
        raise UserError(f"{clip.key}: {clip.problem}")
    stages = Stages(experiment)
    check_published(stages, [clip])
    with one_thread(), ExitStack() as opened:
        yield _each(stages, clip, opened, progress)


def seen_as(stages: Stages, seen: Seen, moment: Moment) -> Seen:
    """The same faces and moment for another input or flow.

    Args:
        stages: the other way; its face tracker and its alignment are those of `seen`.
        seen: of a recording whose every frame was looked at.
        moment: that of `seen`.

    Raises:
        UserError: the flow cannot be computed.
    """
    other = replace(seen, plan=stages.input.module.plan(moment, stages.input.options), flows={})
    ((other, reason),) = with_flow(stages, [other])
    if reason:
        raise UserError(reason)
    return other


def _each(stages: Stages, clip: Clip, opened: ExitStack, progress: Progress) -> Iterator[Seen]:
    """One moment at a time, so that memory does not grow with their number."""
    none = True
    for one in started(stages, clip, opened, progress):
        for seen, reason in with_flow(stages, [one]):
            if reason:
                raise UserError(reason)
            none = False
            yield seen
    if none:
        raise UserError(f"{clip.key}: want a moment, found none; choose another spotter, or loosen its options")


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV and torch on one thread: more change the last bits, and processes share the cores better."""
    torch = sys.modules.get("torch")
    before = cv2.getNumThreads(), torch.get_num_threads() if torch else 1
    cv2.setNumThreads(1)
    if torch:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        if torch:
            torch.set_num_threads(before[1])


def notices(seen: Seen) -> list[str]:
    """What a user should know of the recording and of its faces, one line each."""
    if seen.frames is None or seen.track is None:
        return []
    gaps, away = seen.frames.gaps, spans(np.flatnonzero(seen.track.state == 0))
    missing = [f"missing on disk: {len(gaps)} of the frames, the first is {gaps[0]}"] if gaps else []
    faceless = [f"no face on frames {ranges(away)} of {len(seen.frames)}"] if away else []
    return [*missing, *seen.frames.notices, *seen.track.notices, *faceless]


def started(stages: Stages, clip: Clip, opened: ExitStack, progress: Progress = quiet) -> Iterator[Seen]:
    """Stages 3 to 7: one piece of work a moment. What the corpus says of the emotion ends here."""
    clip = replace(clip, emotion=None, action_units=())
    module, options = stages.input.module, stages.input.options
    if clip.frames is None:
        for moment in _moments(stages, clip, FaceClip(clip, None)):
            yield Seen(clip, module.plan(moment, options), FaceClip(clip, moment))
        return
    frames = opened.enter_context(video.open(clip))
    if clip.fps is None:
        clip = replace(clip, fps=frames.fps)  # spotters count in seconds
    whole = _track(stages, clip, frames, None, progress) if stages.looks(clip) else None
    if whole:
        moments = _looked_for(stages, clip, frames, whole[0], progress)
    else:
        moments = _moments(stages, clip, FaceClip(clip, None))
    for moment in moments:
        plan = module.plan(moment, options)
        which = _looked_at(clip, moment, plan, len(frames))
        track, digest = whole or _track(stages, clip, frames, which, progress)
        face = align.face(clip, frames, track, moment, stages.align.options)
        yield Seen(clip, plan, face, frames, track, digest)


def _moments(stages: Stages, clip: Clip, face: FaceClip) -> list[Moment]:
    """Stage 4: the annotation where it names everything, else the spotter."""
    if not stages.spots(clip) and clip.onset is not None and clip.offset is not None:
        return [Moment(clip.onset, clip.apex, clip.offset)]
    found: list[Moment] = stages.spotter.module.locate(face, stages.spotter.options)
    return found


def _looked_for(stages: Stages, clip: Clip, frames: video.Frames, track: Track, progress: Progress) -> list[Moment]:
    """Stage 4 for a spotter that looks, kept in the cache. -1 stands for no apex, NaN for no score."""
    digest = stages.moment_digest(clip)
    stored = cache.get(cache.folder(), "moments", clip.key, digest)
    if stored is None:
        watched = _Counted(frames, "looking for the moments", progress)
        found = _moments(stages, clip, align.face(clip, watched, track, None, stages.align.options))
        indices = [(moment.onset, -1 if moment.apex is None else moment.apex, moment.offset) for moment in found]
        scores = [np.nan if moment.score is None else moment.score for moment in found]
        stored = {"indices": np.array(indices, np.int64).reshape(-1, 3), "scores": np.array(scores, np.float64)}
        cache.put(cache.folder(), "moments", clip.key, digest, stored)
    return [
        Moment(int(onset), None if apex < 0 else int(apex), int(offset), None if np.isnan(score) else float(score))
        for (onset, apex, offset), score in zip(stored["indices"], stored["scores"], strict=True)
    ]


def _track(
    stages: Stages, clip: Clip, frames: video.Frames, which: tuple[int, ...] | None, progress: Progress
) -> tuple[Track, str]:
    """Stage 6, kept in the cache, and the digest under which it lies; `which` None: every frame."""
    digest = stages.track_digest(clip, which)
    stored = cache.get(cache.folder(), "tracks", clip.key, digest)
    if stored is None:
        watched = _Counted(frames, "looking for the face", progress)
        chosen = range(len(frames)) if which is None else which
        track: Track = stages.faces.module.track(watched, chosen, stages.faces.options)
        stored = {"landmarks": track.landmarks, "state": track.state, "notices": np.array(track.notices, np.str_)}
        stored |= {} if track.boxes is None else {"boxes": track.boxes}
        cache.put(cache.folder(), "tracks", clip.key, digest, stored)
    notices = tuple(str(notice) for notice in stored["notices"])
    return Track(stored["landmarks"], stored["state"], stored.get("boxes"), notices), digest


def _looked_at(clip: Clip, moment: Moment, plan: Plan, count: int) -> tuple[int, ...]:
    """The onset, whose face makes the alignment, and every frame of the plan."""
    which = sorted({moment.onset, *plan.frames, *(frame for pair in plan.pairs for frame in pair)})
    if which[0] < 0 or which[-1] >= count:
        raise UserError(
            f"{clip.key}: want frames {which[0]} to {which[-1]}, got a recording of {count}; correct the annotation"
        )
    return tuple(which)


def with_flow(stages: Stages, works: Sequence[Seen]) -> Iterator[tuple[Seen, str]]:
    """Stage 8: fills in the flow of every planned pair, pairs of several clips in one batch; (work, "" or why not)."""
    failed: dict[int, str] = {}
    waiting: dict[tuple[int, ...], list[tuple[Seen, Pair, Array, Array]]] = {}
    for work in works:
        try:
            for pair, one, two in _missing_pairs(stages, work):
                group = waiting.setdefault(one.shape, [])
                group.append((work, pair, one, two))
                if len(group) == _FLOW_BATCH:  # pictures are let go as soon as they may
                    _compute(stages, group, failed)
                    group.clear()
        except files.Unwritable:
            raise
        except UserError as error:
            failed[id(work)] = str(error)
    for group in waiting.values():
        _compute(stages, group, failed)
    for work in works:
        yield work, failed.get(id(work), "")


def _missing_pairs(stages: Stages, work: Seen) -> Iterator[tuple[Pair, Array, Array]]:
    """Takes published and stored flow; what is left, with its two grey pictures."""
    published = {file.pair: file for file in work.clip.flow_files}
    grey: dict[int, Array] = {}
    for pair in work.plan.pairs:
        if pair in published:
            work.flows[pair] = motion.read(published[pair])
            continue
        stored = cache.get(cache.folder(), "flow", work.clip.key, _flow_digest(stages, work, pair))
        if stored is not None:
            work.flows[pair] = FlowField(stored["uv"], "px")
            continue
        for index in pair:
            if index not in grey:
                grey[index] = align.grey(work.face.frames[index])
        yield pair, grey[pair[0]], grey[pair[1]]


def _compute(stages: Stages, group: Sequence[tuple[Seen, Pair, Array, Array]], failed: dict[int, str]) -> None:
    if not group:
        return
    first, second = np.stack([one for *_, one, _ in group]), np.stack([two for *_, two in group])
    try:
        fields = stages.flow.module.flow(first, second, stages.flow.options)
    except UserError as error:
        failed |= {id(work): str(error) for work, *_ in group}
        return
    for (work, pair, *_), uv in zip(group, fields, strict=True):
        try:
            work.flows[pair] = FlowField(uv, "px")
        except UserError as error:
            failed[id(work)] = f"{work.clip.key}, frames {pair[0]} and {pair[1]}: {error}"
        else:
            cache.put(cache.folder(), "flow", work.clip.key, _flow_digest(stages, work, pair), {"uv": uv})


def _flow_digest(stages: Stages, work: Seen, pair: Pair) -> str:
    onset = work.face.moment.onset if work.face.moment else None
    return cache.digest(stages.flow.digest, stages.align.digest, work.track_digest, onset, pair)


def check_published(stages: Stages, clips: Sequence[Clip]) -> None:
    """One complaint before any work if published flow cannot give what the plan wants."""
    for clip in clips:
        if clip.frames is not None:
            continue
        if stages.looks(clip):
            raise UserError(
                f"{clip.key}: want frames to look at, got a clip of published flow; choose spotting.name = 'annotated'"
            )
        for moment in _moments(stages, clip, FaceClip(clip, None)):
            _check_plan(clip, stages.input.module.plan(moment, stages.input.options))


def _check_plan(clip: Clip, plan: Plan) -> None:
    given = {file.pair for file in clip.flow_files}
    missing = [pair for pair in plan.pairs if pair not in given]
    if plan.frames or missing:
        what = f"frames {plan.frames}" if plan.frames else f"flow between frames {missing[0]}"
        raise UserError(
            f"{clip.key}: want {what}, got a clip of published flow without frames; choose an input (such as uvs28 "
            "with areas = 'constant' or 'whole') that needs none"
        )


class _Counted(Sequence[Array]):
    """Frames that tell a progress bar how many of them were looked at; all else is theirs."""

    def __init__(self, frames: video.Frames, what: str, progress: Progress) -> None:
        self._frames, self._what, self._progress, self._seen = frames, what, progress, 0

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        self._seen += 1
        if self._progress is not quiet:
            self._progress(self._what, min(self._seen, len(self)), len(self))
        return self._frames[index]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frames, name)
