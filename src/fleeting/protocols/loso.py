"""Leave one subject out, or a group of subjects, for any corpora and any map from emotion words to classes."""

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from pydantic import BaseModel, Field

from fleeting.errors import UserError
from fleeting.records import Clip, Fold


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the classes are.

    Attributes:
        classes: in the order of their numbers.
        map: emotion word -> class, both compared in lower case; a word that is itself a class needs no entry,
            any other word drops the clip (and is counted).
        groups: deal the subjects into that many groups of about as many clips and leave one group out at a time,
            another dealing each seed: fewer trainings than subjects. None: every subject by itself.
    """

    classes: tuple[str, ...] = Field(("negative", "positive", "surprise"), min_length=2)
    map: dict[str, str] = {}
    groups: int | None = Field(None, ge=2, examples=[5])


def classes(options: Options) -> tuple[str, ...]:
    """The class words in the order of their numbers."""
    return options.classes


def label(clip: Clip, options: Options) -> str | None:
    """The clip's class word, or None: dropped.

    Raises:
        UserError: the map names a class that is not one of `classes`.
    """
    words = {name.lower(): name for name in options.classes}
    words |= {emotion.lower(): name for emotion, name in options.map.items()}
    wrong = set(words.values()) - set(options.classes)
    if wrong:
        raise UserError(f"want protocol.map to lead to {options.classes}, got {sorted(wrong)}; correct the map")
    emotion = (clip.emotion or "").strip().lower()
    return words.get(emotion)


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold a subject of a corpus, named ``dataset/subject``, or one a group; all other clips train.

    Raises:
        UserError: fewer than two subjects, or fewer than groups.
    """
    return left_out(clips, options.groups, seed)


def left_out(clips: Sequence[Clip], groups: int | None, seed: int) -> list[Fold]:
    """`by_group`, or a group of subjects at a time.

    Raises:
        UserError: fewer than two subjects, or fewer than groups.
    """
    return by_group(clips) if groups is None else _dealt(clips, groups, seed)


def by_group(clips: Sequence[Clip]) -> list[Fold]:
    """Leaves each (corpus, subject) out once.

    Raises:
        UserError: fewer than two subjects.
    """
    groups = _subjects(clips)
    if len(groups) < 2:
        raise UserError(f"want at least two subjects to leave one out, got {len(groups)}; add clips")
    return [
        Fold(
            name=group,
            train=tuple(clip.key for clip in clips if clip.group != group),
            test={"all": tuple(keys)},
        )
        for group, keys in sorted(groups.items())
    ]


def _dealt(clips: Sequence[Clip], groups: int, seed: int) -> list[Fold]:
    """Leaves groups of subjects out: dealt in random order, each to the group that has the fewest clips so far."""
    subjects = _subjects(clips)
    if len(subjects) < groups:
        raise UserError(f"want at least protocol.groups = {groups} subjects, got {len(subjects)}; lower groups")
    names = sorted(subjects)
    order = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    hands: list[list[str]] = [[] for _ in range(groups)]
    for name in order:
        min(hands, key=lambda hand: sum(len(subjects[other]) for other in hand)).append(name)
    return [
        Fold(
            name=f"group{number}",
            train=tuple(clip.key for clip in clips if clip.group not in hand),
            test={"all": tuple(chain.from_iterable(subjects[name] for name in hand))},
        )
        for number, hand in enumerate(hands, 1)
    ]


def _subjects(clips: Sequence[Clip]) -> dict[str, list[str]]:
    """The clips of each (corpus, subject), by key."""
    found: dict[str, list[str]] = {}
    for clip in clips:
        found.setdefault(clip.group, []).append(clip.key)
    return found
