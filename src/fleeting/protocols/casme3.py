"""CAS(ME)^3 part A with 3, 4 or 7 classes, one subject left out at a time: BOWAM's Table 2 and HTNet's Table 3.

Three: happy is positive; disgust, fear, anger and sad are negative; surprise; others are dropped (457, 55, 187 clips
of 88 subjects in the sheet). Four: these and others (161). Seven: the sheet's own words. A run has one negative clip
fewer (456): of spNO.214/c@5, disgust, nobody knows the offset; and 160 others where spNO.216/e has no picture 0.

No paper prints counts that the sheet gives: HTNet prints 508, 64, 201 (943 clips, 100 subjects), BOWAM 1,109 clips,
both of a larger release.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from fleeting.protocols import loso
from fleeting.protocols._maps import three
from fleeting.records import Clip, Fold

_THREE = three("disgust", "fear", "anger", "sadness", "sad")
_SEVEN = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "others")
_MAPS = {
    3: _THREE,
    4: loso.Options(classes=(*_THREE.classes, "others"), map=_THREE.map | {"other": "others"}),
    7: loso.Options(classes=_SEVEN, map={"happy": "happiness", "sad": "sadness", "other": "others"}),
}
# rows of the sheet that HTNet's published list (cas(me)3_part_A_edited.csv) does not have; why is not known
_NOT_IN_HTNET = frozenset(
    f"casme3/spNO.{subject}/{name}"
    for subject, names in {
        9: ("g@234", "g@980", "h@4"),
        186: ("f@448", "l@3634", "l@3677"),
        217: ("a@233", "c@2302", "g@739", "k@1412", "l@164", "l@3201"),
    }.items()
    for name in names
)


class Options(BaseModel, frozen=True, extra="forbid"):
    """What the classes are.

    Attributes:
        classes: how many.
        rows: "sheet", or "htnet": the list in HTNet's repository, which lacks 12 clips with a coarse class, among
            them all of spNO.9: with 3 classes 449, 54, 184 clips of 87 subjects, of which a run has 448, 54, 184
            (spNO.214/c@5 is in the list).
    """

    classes: Literal[3, 4, 7] = 3
    rows: Literal["sheet", "htnet"] = "sheet"


def classes(options: Options) -> tuple[str, ...]:
    """3: negative, positive, surprise; 4: and others; 7: anger, disgust, fear, happiness, sadness, surprise, others."""
    return _MAPS[options.classes].classes


def label(clip: Clip, options: Options) -> str | None:
    """The clip's class; None for other corpora, and for emotions without a class."""
    left_out = options.rows == "htnet" and clip.key in _NOT_IN_HTNET
    return loso.label(clip, _MAPS[options.classes]) if clip.dataset == "casme3" and not left_out else None


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold a subject, named ``casme3/<subject>``; all other clips train.

    Raises:
        UserError: fewer than two subjects.
    """
    return loso.by_group(clips)
