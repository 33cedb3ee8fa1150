"""Repeated random splits: how a difference of two systems is distributed over seeds, and what that says.

One split into a training and a test part is one draw. Over many seeds of the same splitting rule a difference has a
distribution, and its mean can be tested, if one thing is minded: the splits share most of their clips, so their scores
are not independent. The plain t-test takes them for independent and finds differences where there are none; the
corrected one (Nadeau & Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003, section 6, DOI
10.1023/A:1024068626366) replaces the variance of the mean

    s2 / J                    by                (1 / J + n2 / n1) s2

with J splits, n1 clips that train, n2 that are tested and s2 the sample variance of the differences: it supposes that
two splits' scores correlate by n2 / (n1 + n2), the share of the clips that is tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fleeting.errors import UserError

Folds = Mapping[tuple[int, str], Mapping[str, Sequence[str]]]
_QUANTILES = (0.025, 0.25, 0.5, 0.75, 0.975)


def tested(folds: Folds, part: str | None) -> dict[int, set[str]]:
    """Seed -> keys that its folds test, in one part or in all; folds as in `runs.Run.folds`."""
    found: dict[int, set[str]] = {}
    for (seed, _), parts in folds.items():
        keys = found.setdefault(seed, set())
        keys.update(key for name, listed in parts.items() if part in (None, name) for key in listed)
    return found


def drawn(folds: Folds) -> bool:
    """Whether each seed draws a test part of its own: some seeds test other clips than others."""
    return len({frozenset(keys) for keys in tested(folds, None).values()}) > 1


def differences(
    first: Mapping[int, float], second: Mapping[int, float], train: float, test: float, level: float = 0.95
) -> dict[str, Any]:
    """The distribution of first minus second, split by split, and two t-tests of its mean.

    Args:
        first: seed -> score of one system on that seed's split.
        second: the same seeds -> score of the other system on the same splits.
        train: n1, clips of a split that are not tested: they train or choose an epoch. A mean where splits differ.
        test: n2, clips of a split that are tested.
        level: of the intervals, in (0, 1).

    Returns:
        ``by_seed`` {seed: first - second}, ``splits`` J, ``mean``, ``sd``, ``range``, ``quantiles`` {share: value},
        ``higher`` (share of the seeds where first is better, ties count half), ``relative`` (mean over the mean of
        first; None where that is 0), ``train``, ``test``, and ``plain`` and ``corrected``: {se, t, p, interval}, the t
        distribution with J - 1 degrees of freedom, two-sided. With all differences equal there is no spread to test
        against: t is None, p is 1 where they are 0 and 0 elsewhere.

    Raises:
        UserError: seeds that differ, fewer than two of them, a score that is no number, sizes below 1.
    """
    seeds = sorted(first)
    _check(first, second, (train, test), level)
    found = np.array([first[seed] - second[seed] for seed in seeds])
    count, mean, sd = len(found), float(found.mean()), float(found.std(ddof=1))
    whole = float(np.mean([first[seed] for seed in seeds]))
    return {
        "by_seed": {str(seed): float(value) for seed, value in zip(seeds, found, strict=True)},
        "splits": count,
        "mean": mean,
        "sd": sd,
        "range": [float(found.min()), float(found.max())],
        "quantiles": {str(q): float(np.quantile(found, q)) for q in _QUANTILES},
        "higher": float((found > 0).mean() + (found == 0).mean() / 2),
        "relative": mean / whole if whole else None,
        "train": float(train),
        "test": float(test),
        "plain": _tested(mean, sd * math.sqrt(1 / count), count, level),
        "corrected": _tested(mean, sd * math.sqrt(1 / count + test / train), count, level),
    }


def _tested(mean: float, error: float, count: int, level: float) -> dict[str, Any]:
    from scipy.special import stdtr, stdtrit

    if error < 1e-12:
        return {"se": 0.0, "t": None, "p": 1.0 if abs(mean) < 1e-12 else 0.0, "interval": [mean, mean]}
    t, reach = mean / error, float(stdtrit(count - 1, (1 + level) / 2)) * error
    p = 2 * float(stdtr(count - 1, -abs(t)))
    return {"se": error, "t": t, "p": p, "interval": [mean - reach, mean + reach]}


def _check(first: Mapping[int, float], second: Mapping[int, float], sizes: tuple[float, float], level: float) -> None:
    if set(first) != set(second):
        raise UserError(
            f"second: want the seeds {sorted(first)} as in first, got {sorted(second)}; compare split by split"
        )
    if len(first) < 2:
        raise UserError(f"want at least two seeds for a distribution over splits, got {len(first)}; run more seeds")
    values: npt.NDArray[Any] = np.array([*first.values(), *second.values()], dtype=np.float64)
    if not np.isfinite(values).all():
        raise UserError("want a score of every split, got some that are no numbers; finish the runs first")
    if not min(sizes) >= 1:
        raise UserError(f"want at least one clip on either side of a split, got {sizes[0]} and {sizes[1]}")
    if not 0 < level < 1:
        raise UserError(f"level: want a share between 0 and 1, got {level!r}; .95 is usual")
