"""MEGC2019 composite (CDE): CASME II, SAMM and SMIC-HS together, 3 classes, 68 subjects left out one by one.

See et al., "MEGC 2019 - The Second Facial Micro-Expressions Grand Challenge", FG 2019. Results are pooled over
all folds, then UF1 and UAR are computed; those of one corpus are the same predictions restricted to it.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from fleeting.protocols import loso
from fleeting.records import Clip, Fold

_CLASSES = ("negative", "positive", "surprise")
_NEGATIVE = ("negative", "anger", "contempt", "disgust", "fear", "sadness", "repression")


class Options(BaseModel, frozen=True, extra="forbid"):
    """Nothing to choose."""


def classes(options: Options) -> tuple[str, ...]:
    """negative, positive, surprise."""
    return _CLASSES


def label(clip: Clip, options: Options) -> str | None:
    """The class of the challenge: happiness is positive; anger, contempt, disgust, fear, sadness and repression
    are negative (CASME II's list holds none of its few fear and sadness clips); "other(s)" is dropped."""
    emotion = (clip.emotion or "").strip().lower()
    if clip.dataset == "casme2" and emotion in ("fear", "sadness"):
        return None
    if emotion in _NEGATIVE:
        return "negative"
    return {"positive": "positive", "happiness": "positive", "surprise": "surprise"}.get(emotion)


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold a subject of a corpus, named ``dataset/subject``; all other clips train.

    Raises:
        UserError: fewer than two subjects.
    """
    return loso.by_group(clips)
