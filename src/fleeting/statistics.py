"""How sure a score is: subject bootstrap and paired permutation.

Conventions

* The unit is the **subject**, not the clip: clips of one person are not independent. So everything starts
  from one confusion matrix a subject, (G, C, C), rows truth (`counting.by_group`), or (S, G, C, C) for S
  seeds.
* With seeds, a statistic is the mean over the seeds of the score of each seed's pooled matrix; whatever is
  done to a subject is done to it in every seed. A seed without any clip (possible in a resample of repeated
  random splits) is left out of the mean.
* Every function takes a seed and returns the same numbers for the same seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fleeting.counting import Floats, check_matrix
from fleeting.errors import UserError
from fleeting.metrics import METRICS, macro

EXACT_GROUPS = 13
"""Up to so many subjects `permutation` enumerates all exchanges (2**13 = 8192) instead of drawing them."""

_BUDGET = 2**22  # numbers held at once by one chunk: 32 MB of float64


# --- what is asked of the input


def check_choice(value: str, choices: Sequence[str], name: str) -> None:
    """Refuse a word that is not among the choices."""
    if value not in choices:
        raise UserError(f"{name}: want one of {', '.join(choices)}, got {value!r}; choose one of these")


def check_count(value: int, name: str) -> None:
    """Refuse what is no whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise UserError(f"{name}: want a whole number of at least 1, got {value!r}; give more")


def _check_resamples(rounds: int, level: float) -> None:
    check_count(rounds, "rounds")
    if not 0 < level < 1:
        raise UserError(f"level: want a share between 0 and 1, got {level!r}; .95 is usual")


def _check_seeds(matrices: npt.ArrayLike, name: str) -> Floats:
    """(S, G, C, C) float64 with S, G >= 1 and at least one clip, from (G, C, C) or (S, G, C, C)."""
    counts = check_matrix(matrices, name)
    if counts.ndim not in (3, 4) or 0 in counts.shape:
        raise UserError(
            f"{name}: want (subjects, C, C) or (seeds, subjects, C, C), got {counts.shape}; "
            "make one matrix a subject with counting.by_group"
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


def chunks(total: int, each: int) -> Iterator[slice]:
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
    for part in chunks(rounds, groups + seeds.size // groups):
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
    check_choice(metric, tuple(METRICS), "metric")
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
    check_choice(metric, tuple(METRICS), "metric")
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
    check_choice(metric, tuple(METRICS), "metric")
    check_count(rounds, "rounds")
    a, b = _check_pair(first, second)
    groups = a.shape[1]
    exact = groups <= EXACT_GROUPS
    total, rng = (2**groups, None) if exact else (rounds, np.random.default_rng(seed))
    difference = float(_differences(a, b, metric, np.zeros((1, groups), dtype=bool))[0])
    count = 0
    for part in chunks(total, groups + 2 * a.size // groups):
        others = _differences(a, b, metric, _exchanges(groups, part, rng))
        count += int((np.abs(others) >= abs(difference) - 1e-12).sum())
    p = count / total if exact else (1 + count) / (1 + total)
    return {"difference": difference, "p": p, "rounds": total, "exact": exact}
