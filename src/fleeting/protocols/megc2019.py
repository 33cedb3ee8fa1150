"""MEGC2019 composite (CDE): CASME II, SAMM and SMIC-HS together, 3 classes, 68 subjects left out one by one.

See et al., "MEGC 2019 - The Second Facial Micro-Expressions Grand Challenge", FG 2019. Results are pooled over
all folds, then UF1 and UAR are computed; those of one corpus are the same predictions restricted to it.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, Field

from fleeting.protocols import loso
from fleeting.records import Clip, Fold

_CLASSES = ("negative", "positive", "surprise")
# CAS(ME)^3 writes happy and sad
_POSITIVE = ("positive", "happiness", "happy")
_NEGATIVE = ("negative", "anger", "contempt", "disgust", "fear", "sadness", "sad", "repression")
# three-class rows of one or another revision of CASME II's sheet that the challenge's list does not hold
_UNLISTED = {
    "casme2/sub04/EP12_01f": "no apex",
    "casme2/sub05/EP09_05f": "the apex is the onset: no motion up to it",
    "casme2/sub24/EP02_07": "only in later revisions of the sheet",
    "casme2/sub24/EP07_01": "sadness in the 2014 sheet, surprise in that of 2019",
    "casme2/sub24/EP07_04f": "sadness in the 2014 sheet, surprise in that of 2019",
    "casme2/sub24/EP10_03": "sadness in the 2014 sheet, surprise in that of 2019",
}


class Options(BaseModel, frozen=True, extra="forbid"):
    """How the subjects are left out.

    Attributes:
        groups: None: one by one, as the challenge asks. Else the subjects of all corpora are dealt into that many
            groups, as `loso` does it: fewer trainings, each on fewer subjects, so not the challenge's number.
    """

    groups: int | None = Field(None, ge=2, examples=[10])


def classes(options: Options) -> tuple[str, ...]:
    """negative, positive, surprise."""
    return _CLASSES


def label(clip: Clip, options: Options) -> str | None:
    """The class of the challenge: happiness is positive; anger, contempt, disgust, fear, sadness and repression are
    negative; "other(s)" is dropped. CASME II's few fear and sadness clips are dropped too, and six clips by name,
    so that the three raw corpora give the challenge's 442 clips, whichever revision of CASME II's sheet is read.
    Other corpora follow the same words: CAS(ME)^3 has the 699 clips that its own protocol has."""
    emotion = (clip.emotion or "").strip().lower()
    if clip.key in _UNLISTED or (clip.dataset == "casme2" and emotion in ("fear", "sadness")):
        return None
    if emotion in _NEGATIVE:
        return "negative"
    if emotion in _POSITIVE:
        return "positive"
    return "surprise" if emotion == "surprise" else None


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold a subject of a corpus, named ``dataset/subject``, or one a group; all other clips train.

    Raises:
        UserError: fewer than two subjects, or fewer than groups.
    """
    return loso.left_out(clips, options.groups, seed)
