"""How sure a score is: subject bootstrap, paired permutation, and the dice-roll floor of a selection rule.

Conventions

* The unit is the **subject**, not the clip: clips of one person are not independent. So everything starts
  from one confusion matrix a subject, (G, C, C), rows truth (`metrics.by_group`), or (S, G, C, C) for S
  seeds.
* With seeds, a statistic is the mean over the seeds of the score of each seed's pooled matrix; whatever is
  done to a subject is done to it in every seed. A seed without any clip (possible in a resample of repeated
  random splits) is left out of the mean.
* Every function takes a seed and returns the same numbers for the same seed.
* An epoch trace is (E, n) predictions of n clips after each of E epochs.

The selection rules: "last" and "inner" look at no test label; "oracle" keeps, for each left-out subject, the
epoch that scores best on that subject's own labels. The tie rules are those of two published codes: HTNet, by
accuracy with `best <= now`, so the latest; BOWAM, by macro F1 with `now > best`, so the earliest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleeting.errors import UserError
from fleeting.metrics import (
    METRICS,
    Floats,
    Ints,
    check_groups,
    check_labels,
    check_matrix,
    confusion,
    f1,
    macro,
)

EXACT_GROUPS = 13
"""Up to so many subjects `permutation` enumerates all exchanges (2**13 = 8192) instead of drawing them."""

_BUDGET = 2**22  # numbers held at once by one chunk: 32 MB of float64
_SELECT, _BY, _TIES = ("last", "inner", "oracle"), ("accuracy", "uf1"), ("latest", "earliest")


# --- what is asked of the input


def _check_choice(value: str, choices: Sequence[str], name: str) -> None:
    """Refuse a word that is not among the choices."""
    if value not in choices:
        raise UserError(f"{name}: want one of {', '.join(choices)}, got {value!r}; choose one of these")


def _check_count(value: int, name: str) -> None:
    """Refuse what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise UserError(f"{name}: want a whole number of at least 1, got {value!r}; give more")


def _check_resamples(rounds: int, level: float) -> None:
    _check_count(rounds, "rounds")
    if not 0 < level < 1:
        raise UserError(f"level: want a share between 0 and 1, got {level!r}; .95 is usual")


def _check_seeds(matrices: npt.ArrayLike, name: str) -> Floats:
    """(S, G, C, C) float64 with S, G >= 1 and at least one clip, from (G, C, C) or (S, G, C, C)."""
    counts = check_matrix(matrices, name)
    if counts.ndim not in (3, 4) or 0 in counts.shape:
        raise UserError(
            f"{name}: want (subjects, C, C) or (seeds, subjects, C, C), got {counts.shape}; "
            "make one matrix a subject with metrics.by_group"
        )
    if not counts.any():
        raise UserError(f"{name}: want at least one clip, got none; check the predictions table")
    return counts.reshape(-1, *counts.shape[-3:])


def _check_pair(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Two (S, G, C, C) about the same clips; unequal S are repeated to their least common multiple."""
    a, b = _check_seeds(first, "first"), _check_seeds(second, "second")
    if a.shape[1:] != b.shape[1:]:
        raise UserError(
            f"second: want {a.shape[1]} subjects and {a.shape[2]} classes as in first, got {b.shape[1]} and "
            f"{b.shape[2]}; compare runs on the same subjects, in the same order"
        )
    if not np.allclose(a.sum(-1).mean(0), b.sum(-1).mean(0), rtol=0, atol=1e-9):
        raise UserError(
            "second: want the same true labels for every subject as in first, got others; "
            "compare runs on the clips that both have, with subjects in the same order"
        )
    seeds = math.lcm(len(a), len(b))  # repeating a whole set of seeds leaves its mean as it is
    return np.tile(a, (seeds // len(a), 1, 1, 1)), np.tile(b, (seeds // len(b), 1, 1, 1))


# --- what bootstrap and permutation share


def _chunks(total: int, each: int) -> Iterator[slice]:
    """Cut range(total) so that a chunk of items, each of so many numbers, stays within the budget."""
    step = max(1, _BUDGET // max(1, each))
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _pooled(weights: npt.NDArray[Any], seeds: Floats) -> Floats:
    """Weighted sums over subjects: (R, G) and (S, G, C, C) -> (R, S, C, C). Whole counts stay exact."""
    return np.tensordot(weights.astype(np.float64), seeds, axes=(1, 1))


def _score(metric: str, pooled: Floats) -> Floats:
    """Mean over the seeds of a score: (..., S, C, C) -> (...,); seeds without a clip are left out."""
    scores = METRICS[metric](pooled)
    return macro(scores, pooled.sum((-1, -2)))


# --- bootstrap


def _resampled(seeds: Floats, metrics: Sequence[str], rounds: int, seed: int) -> Floats:
    """Scores of subject resamples, (M, rounds); every metric sees the same resamples."""
    rng, groups = np.random.default_rng(seed), seeds.shape[1]
    scores = np.empty((len(metrics), rounds))
    for part in _chunks(rounds, groups + seeds.size // groups):
        times = rng.multinomial(groups, np.full(groups, 1 / groups), size=part.stop - part.start)  # (r, G)
        pooled = _pooled(times, seeds)
        for row, metric in zip(scores, metrics, strict=True):
            row[part] = _score(metric, pooled)
    return scores


def _percentiles(
    matrices: npt.ArrayLike, metrics: Sequence[str], rounds: int, level: float, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile interval of each metric; see `intervals`."""
    seeds = _check_seeds(matrices, "matrices")
    _check_resamples(rounds, level)
    if seeds.shape[1] == 1:
        return dict.fromkeys(metrics, (math.nan, math.nan))
    scores = _resampled(seeds, metrics, rounds, seed)
    low, high = np.nanquantile(scores, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return {metric: (float(low[m]), float(high[m])) for m, metric in enumerate(metrics)}


def bootstrap(
    matrices: npt.ArrayLike, metric: str, rounds: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of one score, over subjects (Efron & Tibshirani 1993, chapter 13).

    Subjects are drawn with replacement, their matrices are summed, the sum is scored. The interval says how
    the score would vary with other subjects; it does not hold the spread between seeds, which are averaged.

    Args:
        matrices: (G, C, C) or (S, G, C, C) counts, one matrix a subject (and seed); rows truth.
        metric: a name of `metrics.METRICS`.
        rounds: number of resamples, at least 1.
        level: coverage in (0, 1).
        seed: of the resamples.

    Returns:
        (low, high), both in [0, 1]; (nan, nan) for a single subject, which says nothing about others.

    Raises:
        UserError: for other shapes, no clips, an unknown metric, rounds < 1, a level outside (0, 1).
    """
    _check_choice(metric, tuple(METRICS), "metric")
    return _percentiles(matrices, [metric], rounds, level, seed)[metric]


def intervals(
    matrices: npt.ArrayLike, rounds: int = 2000, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals of all scores from one set of resamples.

    Args:
        matrices: (G, C, C) or (S, G, C, C) counts, one matrix a subject (and seed); rows truth.
        rounds: number of resamples, at least 1.
        level: coverage in (0, 1).
        seed: of the resamples.

    Returns:
        {metric: (low, high)} for every name of `metrics.METRICS`, each equal to `bootstrap` of that metric.

    Raises:
        UserError: for other shapes, no clips, rounds < 1, a level outside (0, 1).
    """
    return _percentiles(matrices, tuple(METRICS), rounds, level, seed)


def bootstrap_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    metric: str = "uf1",
    rounds: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a difference: both systems are scored on the same resamples of subjects.

    Args:
        first: (G, C, C) or (S, G, C, C) counts, one matrix a subject (and seed); rows truth.
        second: the same subjects and clips in the same order, see `permutation`.
        metric: a name of `metrics.METRICS`.
        rounds, level, seed: as in `bootstrap`.

    Returns:
        (low, high) of the score of first minus that of second; (nan, nan) for a single subject.

    Raises:
        UserError: as `permutation`, or for a level outside (0, 1).
    """
    _check_choice(metric, tuple(METRICS), "metric")
    _check_resamples(rounds, level)
    a, b = _check_pair(first, second)
    if a.shape[1] == 1:
        return math.nan, math.nan
    # both are as large, so that the same seed draws the same subjects
    differences = _resampled(a, [metric], rounds, seed)[0] - _resampled(b, [metric], rounds, seed)[0]
    low, high = np.nanquantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# --- permutation


def _exchanges(groups: int, part: slice, rng: np.random.Generator | None) -> npt.NDArray[np.bool_]:
    """Which subjects are exchanged, (r, G): numbers of the part in binary, or drawn if there is an rng."""
    if rng is not None:
        return rng.random((part.stop - part.start, groups)) < 0.5
    bits: npt.NDArray[np.bool_] = (np.arange(part.start, part.stop)[:, None] >> np.arange(groups)) & 1 == 1
    return bits


def _differences(a: Floats, b: Floats, metric: str, exchange: npt.NDArray[np.bool_]) -> Floats:
    """Score of a minus score of b after each exchange: (S, G, C, C) twice, (R, G) -> (R,)."""
    moved = _pooled(exchange, b - a)
    return _score(metric, a.sum(1) + moved) - _score(metric, b.sum(1) - moved)


def permutation(
    first: npt.ArrayLike, second: npt.ArrayLike, metric: str = "uf1", rounds: int = 10000, seed: int = 0
) -> dict[str, Any]:
    """Paired permutation test over subjects: could the difference of two systems be chance?

    Under the null hypothesis it does not matter which system a subject's predictions came from, so each
    subject's two sets of predictions (all seeds of it) are exchanged with probability 1/2. Two-sided
    p = (1 + #{|d*| >= |d|}) / (1 + rounds) (Phipson & Smyth 2010, never 0); with up to `EXACT_GROUPS`
    subjects all 2**G exchanges are enumerated and p = #{|d*| >= |d|} / 2**G.

    Args:
        first: (G, C, C) or (S, G, C, C) counts, one matrix a subject (and seed); rows truth.
        second: the same subjects and clips in the same order. Its number of seeds may differ; both are then
            repeated to the least common multiple, and the test holds approximately: a mean over fewer seeds
            varies more.
        metric: a name of `metrics.METRICS`.
        rounds: number of exchanges drawn, at least 1; not used when all are enumerated.
        seed: of the exchanges.

    Returns:
        difference (score of first minus score of second, mean over seeds), p in (0, 1], rounds (exchanges
        looked at: 2**G when exact) and exact.

    Raises:
        UserError: for other shapes, no clips, subjects, classes or true labels that differ between the two,
            an unknown metric, rounds < 1.
    """
    _check_choice(metric, tuple(METRICS), "metric")
    _check_count(rounds, "rounds")
    a, b = _check_pair(first, second)
    groups = a.shape[1]
    exact = groups <= EXACT_GROUPS
    total, rng = (2**groups, None) if exact else (rounds, np.random.default_rng(seed))
    difference = float(_differences(a, b, metric, np.zeros((1, groups), dtype=bool))[0])
    count = 0
    for part in _chunks(total, groups + 2 * a.size // groups):
        others = _differences(a, b, metric, _exchanges(groups, part, rng))
        count += int((np.abs(others) >= abs(difference) - 1e-12).sum())
    p = count / total if exact else (1 + count) / (1 + total)
    return {"difference": difference, "p": p, "rounds": total, "exact": exact}


# --- the selection rule that looks at test labels, and its floor


class _Rule(NamedTuple):
    """What decides an epoch: by "accuracy" | "uf1", ties "latest" | "earliest"."""

    by: str
    ties: str


def _check_rule(by: str, ties: str) -> _Rule:
    """A rule of known words."""
    _check_choice(by, _BY, "by")
    _check_choice(ties, _TIES, "ties")
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
        for part in _chunks(rounds, epochs * len(rows)):
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
    _check_choice(select, _SELECT, "select")
    for number in {epochs} if isinstance(epochs, int) else set(np.asarray(epochs).tolist()):
        _check_count(number, "epochs")
    _check_count(rounds, "rounds")
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
