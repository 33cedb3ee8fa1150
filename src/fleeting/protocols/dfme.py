"""DFME with its official split: train on part "train", test on A and B; 7 or 3 classes.

The split of the CCAC2024 challenge, used by MERba (Table IV, tests A and B) and BOWAM (Table 3, test B): 1,856 clips
of 176 subjects train, 474 of 42 and 299 of 41 others test. Three classes: happiness is positive; anger, contempt,
disgust, fear and sadness are negative; surprise. Results of A and B are never pooled.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from fleeting.errors import UserError
from fleeting.protocols import loso
from fleeting.protocols._maps import three
from fleeting.records import Clip, Fold

_MAPS = {
    3: three("anger", "contempt", "disgust", "fear", "sadness"),
    # the order of the sheets' EmotionId
    7: loso.Options(classes=("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")),
}


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the classes are, and what is tested.

    Attributes:
        classes: how many.
        parts: the test sets.
        valid_share: part of the training subjects, drawn with the seed, whose clips validate instead of training
            (0.2 of 176 subjects: 35). 0 as in the papers, which train on all of them.
    """

    classes: Literal[3, 7] = 7
    parts: tuple[Literal["A", "B"], ...] = Field(("A", "B"), min_length=1, max_length=2)
    valid_share: float = Field(0.0, ge=0, lt=1)


def classes(options: Options) -> tuple[str, ...]:
    """7: anger, contempt, disgust, fear, happiness, sadness, surprise; 3: negative, positive, surprise."""
    return _MAPS[options.classes].classes


def label(clip: Clip, options: Options) -> str | None:
    """The clip's class; None for other corpora, and for emotions without a class."""
    return loso.label(clip, _MAPS[options.classes]) if clip.dataset == "dfme" else None


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold, ``official``; its parts are the test sets. No seed changes what is tested.

    Raises:
        UserError: a part has no clips, or a tested subject trains too.
    """
    groups = {name: [clip for clip in clips if clip.part == name] for name in ("train", *dict.fromkeys(options.parts))}
    for name, members in groups.items():
        if not members:
            raise UserError(f"want clips of part {name!r} of dfme, got none; add its folder or correct protocol.parts")
    train = groups.pop("train")
    seen = {clip.group for clip in train}
    both = seen & {clip.group for members in groups.values() for clip in members}
    if both:
        raise UserError(f"want a tested subject not to train, got {min(both)} on both sides; correct the parts")
    held = _held_out(sorted(seen), options.valid_share, seed)
    return [
        Fold(
            name="official",
            train=tuple(clip.key for clip in train if clip.group not in held),
            valid=tuple(clip.key for clip in train if clip.group in held),
            test={name: tuple(clip.key for clip in members) for name, members in groups.items()},
        )
    ]


def _held_out(subjects: Sequence[str], share: float, seed: int) -> set[str]:
    """A share of the subjects, rounded down, but neither all of them nor, if any are wanted, none."""
    if not share:
        return set()
    if len(subjects) < 2:
        raise UserError(f"want at least two training subjects for valid_share, got {len(subjects)}; set it to 0")
    count = min(max(1, int(share * len(subjects))), len(subjects) - 1)
    return {subjects[index] for index in np.random.default_rng(seed).permutation(len(subjects))[:count]}
