"""Stages 3 to 10: from clips to packed views, each step kept under a digest of all that it depends on.

Tracks, moments, flow fields and views lie in the cache by stage, clip and digest; aligned pictures are never stored.
A digest covers the options of its stage and of those before it, the source of the code that they name, and the
clip's files, so a change recomputes what depends on it and nothing else. Sees no label, fold or class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing import get_context
from typing import Any, NamedTuple

import cv2
import numpy as np

from fleeting import cache, files, samples, seeing
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
    folder = cache.folder() / "packed" / cache.digest(digests, stages.input.digest, source(samples.__name__))
    said = folder / "said.json"
    try:
        broken, notices = json.loads(said.read_text(encoding="utf-8"))
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


def views(experiment: Experiment, clip: Clip, progress: Progress = quiet) -> list[tuple[Moment | None, list[View]]]:
    """The moments of one clip or recording, and the views of each.

    Raises:
        UserError: the clip is broken; no moment was found.
    """
    stages = Stages(experiment)
    make = stages.input.module.make
    with seeing.look(experiment, clip, progress) as seen:
        return [(one.face.moment, make(one.face, one.flows, stages.input.options)) for one in seen]


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


def _made(
    experiment: Experiment, clips: Sequence[Clip], digests: Mapping[str, str], jobs: int, progress: Progress
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Makes the views of all clips; key -> reason where that failed, and key -> notices."""
    size = max(1, min(_CHUNK, -(-len(clips) // (4 * jobs))))
    chunks = [clips[start : start + size] for start in range(0, len(clips), size)]
    told: dict[str, tuple[str, list[str]]] = {}
    for made in _each(experiment, chunks, digests, jobs):
        told |= made
        progress("preparing clips", len(told), len(clips))
    ordered = {clip.key: told[clip.key] for clip in clips}
    broken = {key: reason for key, (reason, _) in ordered.items() if reason}
    return broken, {key: notices for key, (_, notices) in ordered.items() if notices}


def _each(
    experiment: Experiment, chunks: Sequence[Sequence[Clip]], digests: Mapping[str, str], jobs: int
) -> Iterator[dict[str, tuple[str, list[str]]]]:
    if jobs == 1 or len(chunks) == 1:
        for chunk in chunks:
            yield _make_all(experiment, chunk, digests)
        return
    pool = ProcessPoolExecutor(
        min(jobs, len(chunks)), mp_context=get_context("spawn"), initializer=_one_thread_for_good
    )
    try:
        pending = {
            pool.submit(_make_all, experiment, chunk, {clip.key: digests[clip.key] for clip in chunk})
            for chunk in chunks
        }
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "want every process to live, got one that was killed (out of memory?); what is done is kept: run again "
            "with fewer --jobs"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread_for_good() -> None:
    import os

    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)


def _make_all(
    experiment: Experiment, clips: Sequence[Clip], digests: Mapping[str, str]
) -> dict[str, tuple[str, list[str]]]:
    """Makes and stores the views of a few clips: key -> (reason why not or "", notices)."""
    stages = Stages(experiment)
    told: dict[str, tuple[str, list[str]]] = {}
    with seeing.one_thread(), ExitStack() as opened:
        works: list[Seen] = []
        for clip in clips:
            stored = cache.get(cache.folder(), "views", clip.key, digests[clip.key])
            if stored is not None:  # by a run that was interrupted
                told[clip.key] = ("", [str(notice) for notice in stored["notices"]])
                continue
            try:
                works.append(_one(clip, list(seeing.started(stages, clip, opened))))
            except files.Unwritable:  # a full disk is no fault of the clip
                raise
            except UserError as error:
                told[clip.key] = (str(error), [])
        for work, reason in seeing.with_flow(stages, works):
            notices = seeing.notices(work)
            told[work.clip.key] = (reason or _store(stages, work, digests[work.clip.key], notices), notices)
    return told


def _one(clip: Clip, works: list[Seen]) -> Seen:
    if len(works) != 1:
        raise UserError(f"{clip.key}: want one moment in a labelled clip, got {len(works)}; choose another spotter")
    return works[0]


def _store(stages: Stages, work: Seen, digest: str, notices: Sequence[str]) -> str:
    """The reason why there are no views, or ""."""
    try:
        made = stages.input.module.make(work.face, work.flows, stages.input.options)
    except UserError as error:
        return str(error)
    cache.put(cache.folder(), "views", work.clip.key, digest, _packed(made, notices))
    return ""


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
