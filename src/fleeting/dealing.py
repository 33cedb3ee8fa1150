"""Who is in which part: subjects dealt into groups, and folds less the clips that could not be prepared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fleeting.errors import UserError
from fleeting.records import Fold


def group(key: str) -> str:
    """The corpus and the subject of a clip's key, as `Clip.group`."""
    return key.rpartition("/")[0]


class Partly(NamedTuple):
    """A subject of which a fold of a seed tests `tested` of `clips` clips, and not the others."""

    seed: int
    fold: str
    subject: str
    tested: int
    clips: int


def partly(keys: Iterable[str], folds: Mapping[tuple[int, str], Mapping[str, Sequence[str]]]) -> Iterator[Partly]:
    """Who is on both sides of a fold.

    Args:
        keys: of all clips.
        folds: (seed, fold) -> part -> tested keys, as `runs.Run.folds`.
    """
    everything = Counter(group(key) for key in keys)
    for (seed, fold), parts in folds.items():
        tested = Counter(group(key) for part in parts.values() for key in part)
        for name, count in sorted(tested.items()):
            if count < everything[name]:
                yield Partly(seed, fold, name, count, everything[name])


def deal(keys: Sequence[str], parts: int, seed: int) -> list[set[str]]:
    """Clip keys in `parts` sets of about equal size, each subject in one."""
    sizes = Counter(group(key) for key in keys)
    if parts > len(sizes):
        raise UserError(f"want at least {parts} training subjects for inner = {parts}, got {len(sizes)}; lower inner")
    order = [sorted(sizes)[index] for index in np.random.default_rng(seed).permutation(len(sizes))]
    dealt: list[list[str]] = [[] for _ in range(parts)]
    for subject in sorted(order, key=lambda name: -sizes[name]) if parts else []:
        min(dealt, key=lambda part: sum(sizes[name] for name in part)).append(subject)
    return [{key for key in keys if group(key) in part} for part in dealt]


def without(folds: Sequence[Fold], broken: Container[str]) -> list[Fold]:
    """Folds less the clips that could not be prepared, and less the folds that have nothing else to test.

    They are taken out after the clips are dealt, so that a clip which fails under one preprocessing moves no other one:
    two preprocessings are compared on the same split.

    Raises:
        UserError: nothing is left to train or validate on in a fold, or to test in any.
    """

    def left(keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(key for key in keys if key not in broken)

    found = [
        Fold(
            name=fold.name,
            train=left(fold.train),
            test={part: kept for part, keys in fold.test.items() if (kept := left(keys))},
            valid=left(fold.valid),
        )
        for fold in folds
    ]
    found = [fold for fold in found if fold.tested]
    held = {fold.name for fold in folds if fold.valid}
    for fold in found:
        if not fold.train or (fold.name in held and not fold.valid):
            side = "validate" if fold.train else "train"
            raise UserError(f"fold {fold.name}: want clips to {side} on, got none that can be prepared; mend the clips")
    if not found:
        raise UserError("want clips to test, got none that can be prepared; mend the clips")
    return found
