"""The selection rule that looks at test labels, and its floor: what a dice roll reaches under it.

An epoch trace is (E, n) predictions of n clips after each of E epochs. The selection rules: "last" and "inner" look at
no test label; "oracle" keeps, for each left-out subject, the epoch that scores best on that subject's own labels. The
tie rules are those of two published codes: HTNet, by accuracy with `best <= now`, so the latest; BOWAM, by macro F1
with `now > best`, so the earliest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleeting.counting import Floats, Ints, check_groups, check_labels, confusion
from fleeting.errors import UserError
from fleeting.metrics import METRICS, f1
from fleeting.statistics import check_choice, check_count, chunks

_SELECT, _BY, _TIES = ("last", "inner", "oracle"), ("accuracy", "uf1"), ("latest", "earliest")


class _Rule(NamedTuple):
    """What decides an epoch: by "accuracy" | "uf1", ties "latest" | "earliest"."""

    by: str
    ties: str


def _check_rule(by: str, ties: str) -> _Rule:
    """A rule of known words."""
    check_choice(by, _BY, "by")
    check_choice(ties, _TIES, "ties")
    return _Rule(by, ties)


def _epoch_scores(preds: npt.NDArray[Any], true: npt.NDArray[Any], by: str) -> npt.NDArray[Any]:
    """Score of every epoch: (..., E, n) and (n,) -> (..., E); hits for accuracy, so that ties are exact."""
    if by == "accuracy":
        return np.asarray((preds == true).sum(-1, dtype=np.int32))
    there, n = np.unique(true, return_counts=True)
    hits = [((preds == c) & (true == c)).sum(-1, dtype=np.int32) for c in there]
    said = [(preds == c).sum(-1, dtype=np.int32) for c in there]
    scores: Floats = f1(np.stack(hits, -1), n, np.stack(said, -1)).mean(-1)
    return scores.round(12)  # equal scores whose terms were added in another order are ties


def _best(preds: npt.NDArray[Any], true: npt.NDArray[Any], rule: _Rule) -> Ints:
    """Index of the best epoch: (..., E, n) -> (...,)."""
    scores = _epoch_scores(preds, true, rule.by)
    if rule.ties == "earliest":
        return np.asarray(scores.argmax(-1), dtype=np.int64)
    return np.asarray(scores.shape[-1] - 1 - scores[..., ::-1].argmax(-1), dtype=np.int64)


def best_epochs(
    preds: npt.ArrayLike, true: npt.ArrayLike, classes: int, by: str = "accuracy", ties: str = "latest"
) -> Ints:
    """The epoch that the oracle rule keeps, for any number of traces on the same clips.

    This looks at test labels: a number selected so is printed with the word "oracle" and beside its `floor`.

    Args:
        preds: (..., E, n) integer labels in [0, classes): predictions of n clips after each of E epochs.
        true: (n,) integer labels in [0, classes), n >= 1.
        classes: number of classes, at least 1.
        by: "accuracy" (HTNet's code) or "uf1" (BOWAM's code: macro F1 over the classes in `true`).
        ties: "latest" (HTNet's `best <= now`) or "earliest" (BOWAM's `now > best`).

    Returns:
        (...,) int64, 0-based epoch.

    Raises:
        UserError: for other shapes, no epochs or clips, labels out of range, an unknown rule.
    """
    rule, truth, traces = _check_rule(by, ties), check_labels(true, classes, "true"), np.asarray(preds)
    if traces.ndim < 2 or traces.shape[-1] != len(truth) or 0 in traces.shape:
        raise UserError(
            f"preds: want (..., epochs, {len(truth)}) with at least one epoch and clip, got {traces.shape}; "
            "give every clip's prediction at every epoch"
        )
    check_labels(traces.reshape(-1), classes, "preds")
    return _best(traces, truth, rule)


def best_epoch(
    preds: npt.ArrayLike, true: npt.ArrayLike, classes: int, by: str = "accuracy", ties: str = "latest"
) -> int:
    """The epoch that the oracle rule keeps for one trace; see `best_epochs`.

    Args:
        preds: (E, n) integer labels in [0, classes): predictions of n clips after each of E epochs.
        true: (n,) integer labels in [0, classes), n >= 1.
        classes: number of classes, at least 1.
        by: "accuracy" or "uf1".
        ties: "latest" or "earliest".

    Returns:
        The 0-based epoch.

    Raises:
        UserError: for other shapes, no epochs or clips, labels out of range, an unknown rule.
    """
    if np.ndim(preds) != 2:
        raise UserError(f"preds: want one trace (epochs, clips), got {np.shape(preds)}; use best_epochs")
    return int(best_epochs(preds, true, classes, by, ties))


def _roll(rng: np.random.Generator, totals: Ints, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Classes drawn with the frequencies of the truth, exactly; totals = running sums of its counts."""
    wide = np.uint16 if totals[-1] < 2**16 else np.uint32
    ranks = rng.integers(0, totals[-1], size=shape, dtype=wide)
    preds = np.zeros(shape, dtype=np.min_scalar_type(len(totals)))
    for edge in totals[:-1]:
        preds += ranks >= edge
    return preds


def _roll_selected(
    true: Ints, fold: Ints, totals: Ints, rolls: tuple[int, Ints], rule: _Rule, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Dice predictions after selection, (rounds, n): per fold and round the best of (E, n_fold) rolls.

    rolls: rounds, and (n,) the epochs that each clip's fold has.
    """
    rounds, tries = rolls
    kept = np.empty((rounds, len(true)), dtype=np.min_scalar_type(len(totals)))
    labels = true.astype(kept.dtype)  # compared byte by byte
    for f in range(fold.max() + 1):
        rows = np.flatnonzero(fold == f)
        epochs = int(tries[rows[0]])
        for part in chunks(rounds, epochs * len(rows)):
            # clips first in memory: sums over clips then add long rows
            shape = (len(rows), part.stop - part.start, epochs)
            preds = np.moveaxis(_roll(rng, totals, shape), 0, -1)  # (r, E, n)
            best = _best(preds, labels[rows], rule)
            kept[part, rows] = np.take_along_axis(preds, best[:, None, None], axis=1)[:, 0]
    return kept


def _spread(true: Ints, preds: npt.NDArray[Any], classes: int) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation over rounds of pooled UF1 and UAR; preds (rounds, n)."""
    counts = np.stack([confusion(true, row, classes) for row in preds])
    scores = {name: METRICS[name](counts) for name in ("uf1", "uar")}
    return {name: (float(np.mean(s)), float(np.std(s))) for name, s in scores.items()}


def floor(
    truth: npt.ArrayLike,
    groups: Sequence[Any] | npt.NDArray[Any],
    classes: int,
    epochs: int | Sequence[int] | npt.NDArray[Any],
    select: str,
    by: str = "accuracy",
    ties: str = "latest",
    rounds: int = 200,
    seed: int = 0,
    parts: Sequence[Any] | npt.NDArray[Any] | None = None,
) -> dict[str, Any]:
    """The dice-roll floor of a selection rule: what it makes of a model that knows nothing.

    The "model" draws every prediction at every epoch from the class frequencies of the truth, and the rule
    selects as it would for a real one. "last" and "inner" look at no test label, so one roll is scored.
    "oracle" keeps for each group (fold) the epoch with the best score on that group's labels; then all groups
    are pooled. On MEGC2019 with 68 left-out subjects and 800 epochs the oracle's UF1 is .83.
    The draws are independent from epoch to epoch, a real trace's are not: the floor is that of so many
    independent tries.

    Args:
        truth: (n,) integer labels in [0, classes), n >= 1.
        groups: (n,) fold of each clip (the left-out subject), text or integers.
        classes: number of classes, at least 1.
        epochs: number of epochs that the rule can choose from, at least 1; those really run. (n,) numbers, the
            same for all clips of a group, where training stopped early in some.
        select: "last", "inner" or "oracle".
        by: what the oracle looks at, see `best_epochs`.
        ties: which of several best epochs the oracle keeps, see `best_epochs`.
        rounds: number of simulated models, at least 1.
        seed: of the dice.
        parts: (n,) part of each clip, text or integers, where a fold tests several parts (DFME's A and B):
            the epoch is then chosen for each fold and part.

    Returns:
        uf1 and uar, each (mean, standard deviation over the rounds) of the pooled score; epochs (the most that
        any group has), select, by, ties, rounds. With `parts` also parts {name: {uf1, uar}}, each part scored
        alone, which is what a table reports; uf1 and uar beside it are over all clips.

    Raises:
        UserError: for other shapes, no clips, labels out of range, an unknown rule, epochs or rounds < 1.
    """
    check_choice(select, _SELECT, "select")
    for number in {epochs} if isinstance(epochs, int) else set(np.asarray(epochs).tolist()):
        check_count(number, "epochs")
    check_count(rounds, "rounds")
    rule, true = _check_rule(by, ties), check_labels(truth, classes, "truth")
    if not len(true):
        raise UserError("truth: want at least one label, got none; check the predictions table")
    names, part = check_groups([0] * len(true) if parts is None else parts, len(true))
    fold = np.unique(check_groups(groups, len(true))[1] * len(names) + part, return_inverse=True)[1]
    totals = np.cumsum(np.bincount(true, minlength=classes))
    # one epoch leaves nothing to choose: "last" and "inner" go the same way
    tries = np.broadcast_to(np.asarray(epochs, dtype=np.int64), true.shape)
    rolls = (rounds, tries if select == "oracle" else np.ones_like(tries))
    preds = _roll_selected(true, fold, totals, rolls, rule, np.random.default_rng(seed))
    said = {"epochs": int(tries.max()), "select": select, "by": by, "ties": ties, "rounds": rounds}
    result: dict[str, Any] = {**_spread(true, preds, classes), **said}
    if parts is not None:
        rows = {name: part == i for i, name in enumerate(names)}
        result["parts"] = {name: _spread(true[at], preds[:, at], classes) for name, at in rows.items()}
    return result
