"""Holdout-database evaluation (HDE): all corpora but one train, the remaining one tests; MEGC2018's task.

Yap et al., "Facial Micro-Expressions Grand Challenge 2018 Summary", FG 2018; here with MEGC2019's three classes.
A corpus is a part of its own: results are never pooled over corpora.
"""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from fleeting.errors import UserError
from fleeting.protocols import megc2019
from fleeting.records import Clip, Fold


class Options(BaseModel, frozen=True, extra="forbid"):
    """Nothing to choose."""


def classes(options: Options) -> tuple[str, ...]:
    """negative, positive, surprise."""
    return megc2019.classes(megc2019.Options())


def label(clip: Clip, options: Options) -> str | None:
    """As in the composite: `megc2019.label`."""
    return megc2019.label(clip, megc2019.Options())


def folds(clips: Sequence[Clip], labels: Mapping[str, int], options: Options, seed: int) -> list[Fold]:
    """One fold a corpus, named after the corpus that tests, which is also its only part.

    Raises:
        UserError: fewer than two corpora.
    """
    corpora = sorted({clip.dataset for clip in clips})
    if len(corpora) < 2:
        raise UserError(f"want at least two corpora for hde, got {corpora}; add one to datasets")
    return [
        Fold(
            name=corpus,
            train=tuple(clip.key for clip in clips if clip.dataset != corpus),
            test={corpus: tuple(clip.key for clip in clips if clip.dataset == corpus)},
        )
        for corpus in corpora
    ]
