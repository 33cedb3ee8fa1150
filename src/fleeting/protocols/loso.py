"""Leave one subject out, for any corpora and any map from emotion words to classes."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from fleeting.errors import UserError
from fleeting.records import Clip, Fold


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the classes are.

    Attributes:
        classes: in the order of their numbers.
        map: emotion word -> class, both compared in lower case; a word that is itself a class needs no entry,
            any other word drops the clip (and is counted).
    """

    classes: tuple[str, ...] = Field(("negative", "positive", "surprise"), min_length=2)
    map: dict[str, str] = {}


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
    """One fold a subject of a corpus, named ``dataset/subject``; all other clips train.

    Raises:
        UserError: fewer than two subjects.
    """
    return by_group(clips)


def by_group(clips: Sequence[Clip]) -> list[Fold]:
    """Leaves each (corpus, subject) out once.

    Raises:
        UserError: fewer than two subjects.
    """
    groups: dict[str, list[str]] = {}
    for clip in clips:
        groups.setdefault(clip.group, []).append(clip.key)
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
