"""CASME II alone with 3, 5 or 7 classes: one subject left out at a time, or the frame study's random split.

Five classes (246 clips) and three (145) are those of AMMSM, "Adaptive Motion Magnification and Sparse Mamba for
Micro-Expression Recognition", Table I, which prints "depression" where the corpus says repression. Seven (255) are
those of the frame study ("preprocessing paradox"). Three follow MEGC2019, whose protocol AMMSM adopts: happiness is
positive; disgust and repression are negative; fear, sadness and others are dropped, and so are the two clips that
the challenge's list leaves out.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel

from fleeting.errors import UserError
from fleeting.protocols import loso
from fleeting.protocols._maps import three
from fleeting.records import Clip, Fold

_FIVE = ("disgust", "happiness", "repression", "surprise", "others")
_MAPS = {
    3: three("disgust", "repression"),
    5: loso.Options(classes=_FIVE, map={"other": "others"}),
    7: loso.Options(classes=(*_FIVE, "sadness", "fear"), map={"other": "others"}),
}
# no apex in some copies of the sheet; the apex is the onset
_NOT_IN_MEGC2019 = ("casme2/sub04/EP12_01f", "casme2/sub05/EP09_05f")


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the classes are, and how the clips are split.

    Attributes:
        classes: how many.
        subject_overlap: one split of the clips, not of the subjects, drawn with the seed and stratified by class:
            four fifths of each class train, half of the rest (at least one clip) validates, what remains is tested.
            With all 255 clips that is 201, 26 and 28 and no fear in the test part, as the frame study prints; with
            the 254 whose apex is annotated (all but sub04/EP12_01f, which takes a spotter) 200, 26 and 28. A face is
            then on both sides: such scores say little about new people.
    """

    classes: Literal[3, 5, 7] = 5
    subject_overlap: bool = False


def classes(options: Options) -> tuple[str, ...]:
    """3: negative, positive, surprise; 5: disgust, happiness, repression, surprise, others; 7: and sadness, fear."""
    return _MAPS[options.classes].classes


def label(clip: Clip, options: Options) -> str | None:
    """The clip's class; None for other corpora, and for emotions without a class."""
    left_out = options.classes == 3 and clip.key in _NOT_IN_MEGC2019
    return loso.label(clip, _MAPS[options.classes]) if clip.dataset == "casme2" and not left_out else None


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold a subject, named ``casme2/<subject>``; with `subject_overlap` one fold, ``stratified``.

    Raises:
        UserError: fewer than two subjects, or too few clips for a random split.
    """
    return [_stratified(clips, labels, seed)] if options.subject_overlap else loso.by_group(clips)


def _stratified(clips: Sequence[Clip], labels: Mapping[str, int], seed: int) -> Fold:
    rng = np.random.default_rng(seed)
    by_class: dict[int, list[str]] = {}
    for key in sorted(clip.key for clip in clips):
        by_class.setdefault(labels[key], []).append(key)
    train, valid, test = set[str](), set[str](), set[str]()
    for _, keys in sorted(by_class.items()):
        mixed = [keys[index] for index in rng.permutation(len(keys))]
        count = len(keys) * 4 // 5
        held = max(1, (len(keys) - count) // 2) if count else 0
        train.update(mixed[:count] if count else mixed)
        valid.update(mixed[count : count + held])
        test.update(mixed[count + held :] if count else [])
    if not test:
        raise UserError(f"want at least six clips of a class for a random split, got {len(clips)} clips; add clips")
    parts = [tuple(clip.key for clip in clips if clip.key in part) for part in (train, valid, test)]
    return Fold(name="stratified", train=parts[0], valid=parts[1], test={"all": parts[2]})
