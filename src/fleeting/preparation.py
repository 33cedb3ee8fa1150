"""Stages 3 to 10: from clips to packed views, each step kept under a digest of all that it depends on.

Tracks, moments, flow fields and views lie in the cache by stage, clip and digest; aligned pictures are never stored.
A digest covers the options of its stage and of those before it, the source of the code that they name, and the
clip's files, so a change recomputes what depends on it and nothing else. Sees no label, fold or class.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fleeting import cache, engine, files, samples, seeing
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.records import Array, Clip, Moment, Samples, View
from fleeting.seeing import Progress, Seen, quiet
from fleeting.stages import Stages, source

_CHUNK = 8  # clips whose flow is computed in one batch


class Prepared(NamedTuple):
    """Packed views, key -> reason of every broken clip, and key -> what a user should know of a clip."""

    samples: Samples
    broken: dict[str, str]
    notices: dict[str, list[str]]


def prepare(experiment: Experiment, clips: Sequence[Clip], progress: Progress = quiet, jobs: int = 1) -> Prepared:
    """The packed views of all clips, from the cache where nothing changed.

    Args:
        experiment: resolved.
        clips: labelled or not; each gives the views of one moment.
        progress: for a progress bar.
        jobs: parallel processes, one thread each.

    Returns:
        Samples, broken clips and notices. A broken clip (a frame is missing, no face, no apex) stops no other.

    Raises:
        UserError: the plan wants what published flow cannot give, every clip is broken, or the disk is full.
    """
    stages = Stages(experiment)
    seeing.check_published(stages, clips)
    digests = {clip.key: stages.views_digest(clip) for clip in clips}
    folder = (
        cache.folder() / "packed" / cache.digest(list(digests.items()), stages.input.digest, source(samples.__name__))
    )
    said = folder / "said.json"
    try:
        broken, notices = json.loads(said.read_text(encoding="utf-8"))
        if not broken:  # what broke may have been mended without a trace, by a right to read or a disk that is back
            return Prepared(samples.read(folder), broken, notices)
    except (UserError, OSError, ValueError):
        pass  # nothing there, or damaged: packed anew
    broken, notices = _made(experiment, clips, digests, jobs, progress)
    files.write_text(said, json.dumps([broken, notices]))
    kept = [clip.key for clip in clips if clip.key not in broken]
    if not kept:
        first = next(iter(broken.values()), "")
        raise UserError(f"want at least one clip that can be prepared, got none of {len(clips)}; the first: {first}")
    channels = stages.input.module.channels(stages.input.options)
    return Prepared(samples.pack(folder, _Stored(kept, digests), channels), broken, notices)


class Viewed(NamedTuple):
    """The views of one moment, and what a user should know of it."""

    moment: Moment | None
    views: list[View]
    notices: list[str]


def views(experiment: Experiment, clip: Clip, progress: Progress = quiet) -> list[Viewed]:
    """The moments of one clip or recording, and the views of each.

    Raises:
        UserError: the clip is broken; no moment was found.
    """
    stages = Stages(experiment)
    make = stages.input.module.make
    with seeing.look(experiment, clip, progress) as seen:
        return [
            Viewed(one.face.moment, make(one.face, one.flows, stages.input.options), seeing.notices(one))
            for one in seen
        ]


class _Stored(Mapping[str, Sequence[View]]):
    """Views read from the cache, one clip at a time."""

    def __init__(self, keys: Sequence[str], digests: Mapping[str, str]) -> None:
        self._keys, self._digests = keys, digests

    def __getitem__(self, key: str) -> Sequence[View]:
        stored = cache.get(cache.folder(), "views", key, self._digests[key])
        if stored is None:
            raise UserError(f"{key}: want its prepared views in {cache.folder()}, found none; run again")
        return _unpacked(stored)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


class _Told(NamedTuple):
    """What became of a clip: why it is broken or "", its notices, and array -> shape and type of its views."""

    reason: str
    notices: list[str]
    shapes: dict[str, str]


def _made(
    experiment: Experiment, clips: Sequence[Clip], digests: Mapping[str, str], jobs: int, progress: Progress
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Makes the views of all clips; key -> reason where that failed, and key -> notices."""
    # with several processes small enough that the last ones end together
    size = max(1, min(_CHUNK, -(-len(clips) // (16 * jobs if jobs > 1 else 4))))
    chunks = [clips[start : start + size] for start in range(0, len(clips), size)]
    told: dict[str, _Told] = {}
    for made in _each(experiment, chunks, digests, jobs):
        told |= made
        progress("preparing clips", len(told), len(clips))
    ordered = {clip.key: told[clip.key] for clip in clips}
    broken = {key: one.reason for key, one in ordered.items() if one.reason} | _odd(ordered)
    return broken, {key: one.notices for key, one in ordered.items() if one.notices}


def _odd(told: Mapping[str, _Told]) -> dict[str, str]:
    """Clips whose views have another size than those of most: they cannot be packed together."""
    whole = {key: json.dumps(one.shapes, sort_keys=True) for key, one in told.items() if not one.reason}
    if len(set(whole.values())) < 2:
        return {}
    usual = Counter(whole.values()).most_common(1)[0][0]
    return {
        key: f"{key}: want views like the other clips', {usual}, got {shapes}; give the input or the alignment one size"
        for key, shapes in whole.items()
        if shapes != usual
    }


def _each(
    experiment: Experiment, chunks: Sequence[Sequence[Clip]], digests: Mapping[str, str], jobs: int
) -> Iterator[dict[str, _Told]]:
    if jobs == 1 or len(chunks) == 1:
        for chunk in chunks:
            yield _make_all(chunk, experiment, digests)
        return
    call = partial(_make_all, experiment=experiment, digests=digests)
    for _, made in engine.spread(call, chunks, min(jobs, len(chunks))):
        yield made


def _make_all(clips: Sequence[Clip], experiment: Experiment, digests: Mapping[str, str]) -> dict[str, _Told]:
    """Makes and stores the views of a few clips."""
    stages = Stages(experiment)
    told: dict[str, _Told] = {}
    with seeing.one_thread(), ExitStack() as opened:
        works: list[Seen] = []
        for clip in clips:
            stored = cache.get(cache.folder(), "views", clip.key, digests[clip.key])
            if stored is not None:
                told[clip.key] = _Told("", [str(notice) for notice in stored["notices"]], _shapes(_unpacked(stored)))
                continue
            try:
                works.append(_one(clip, list(seeing.started(stages, clip, opened))))
            except files.Unwritable:  # a full disk is no fault of the clip
                raise
            except Exception as error:
                told[clip.key] = _Told(_complaint(clip.key, error), [], {})
        for work, reason in seeing.with_flow(stages, works):
            told[work.clip.key] = _Told(reason, [], {}) if reason else _store(stages, work, digests[work.clip.key])
            work.flows.clear()
    return told


def _complaint(key: str, error: Exception) -> str:
    """A fault of a plug-in stops its clip, not the others."""
    return str(error) if isinstance(error, UserError) else f"{key}: {type(error).__name__}: {error}"


def _one(clip: Clip, works: list[Seen]) -> Seen:
    if len(works) != 1:
        raise UserError(f"{clip.key}: want one moment in a labelled clip, got {len(works)}; choose another spotter")
    return works[0]


def _store(stages: Stages, work: Seen, digest: str) -> _Told:
    notices = seeing.notices(work)
    try:
        made = stages.input.module.make(work.face, work.flows, stages.input.options)
        for view in made:
            samples.check(work.clip.key, view)
    except Exception as error:
        return _Told(_complaint(work.clip.key, error), notices, {})
    cache.put(cache.folder(), "views", work.clip.key, digest, _packed(made, notices))
    return _Told("", notices, _shapes(made))


def _shapes(made: Sequence[View]) -> dict[str, str]:
    """Array -> "3 x 28 x 28 float32", as of the first view; the views of a clip are checked when they are packed."""
    x = made[0].x if made else {}
    return {name: f"{' x '.join(map(str, array.shape))} {array.dtype}" for name, array in x.items()}


def _packed(made: Sequence[View], notices: Sequence[str]) -> dict[str, Any]:
    """Views as the arrays of one file."""
    arrays = {f"{index}.{name}": array for index, view in enumerate(made) for name, array in view.x.items()}
    names = np.array([view.name for view in made], np.str_)
    train_only = np.array([view.train_only for view in made], bool)
    return {"names": names, "train_only": train_only, "notices": np.array(notices, np.str_), **arrays}


def _unpacked(stored: Mapping[str, Any]) -> list[View]:
    arrays: list[dict[str, Array]] = [{} for _ in stored["names"]]
    for name, array in stored.items():
        index, _, array_name = name.partition(".")
        if array_name:
            arrays[int(index)][array_name] = array
    columns = zip(stored["names"], arrays, stored["train_only"], strict=True)
    return [View(str(name), x, bool(train_only)) for name, x, train_only in columns]
