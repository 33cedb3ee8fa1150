"""SAMM alone with 3 or 5 classes, one subject left out at a time.

Three (133 clips) as in AMMSM, Table II, which adopts MEGC2019's protocol: happiness is positive; anger, contempt,
disgust, fear and sadness are negative; "Other" is dropped. Five (136) are the field's usual choice.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from fleeting.protocols import loso
from fleeting.protocols._maps import three
from fleeting.records import Clip, Fold

_FIVE = ("anger", "contempt", "happiness", "surprise", "others")
_MAPS = {
    3: three("anger", "contempt", "disgust", "fear", "sadness"),
    5: loso.Options(classes=_FIVE, map={"other": "others"}),
}


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the classes are.

    Attributes:
        classes: how many.
    """

    classes: Literal[3, 5] = 3


def classes(options: Options) -> tuple[str, ...]:
    """3: negative, positive, surprise; 5: anger, contempt, happiness, surprise, others."""
    return _MAPS[options.classes].classes


def label(clip: Clip, options: Options) -> str | None:
    """The clip's class; None for other corpora, and for emotions without a class."""
    return loso.label(clip, _MAPS[options.classes]) if clip.dataset == "samm" else None


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold a subject, named ``samm/<subject>``; all other clips train.

    Raises:
        UserError: fewer than two subjects.
    """
    return loso.by_group(clips)
