"""UF1, UAR, accuracy and macro precision: pure functions of labels and of confusion matrices.

Conventions

* A label is an integer in [0, C). Words are turned into integers before they come here.
* A confusion matrix is (C, C) counts: **rows are the truth, columns the prediction**. Every score takes
  (..., C, C) and returns (...,); the leading axes are folds, subjects, seeds or resamples.
* Scores are measured on *pooled* counts: sum the matrices of the folds, then score. Never average the scores
  of folds.
* UF1, UAR and macro precision are means over the classes that **occur in the truth** (row sum > 0). An
  absent class is skipped, also when it was predicted: such a prediction still costs the true class a miss.
  `uf1_all` is the one exception and says so: its mean is over all C classes, an absent class counts 0.
* The precision of a class that occurs but is never predicted is 0.
* No clips, no score: nan (None in `summary`).

Source of UF1 and UAR: See et al., "MEGC 2019 - The Second Facial Micro-Expressions Grand Challenge", FG 2019.
Every public function checks what it is given, then measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fleeting.counting import Floats, Ints, check_matrix
from fleeting.errors import UserError

# --- formulas on counts, for every caller that has hits and sums but no matrix


def divide(top: npt.ArrayLike, bottom: npt.ArrayLike, empty: float) -> Floats:
    """top / bottom, and `empty` where bottom is 0; shapes broadcast, no warning.

    Args:
        top: (...,) numbers.
        bottom: (...,) numbers >= 0.
        empty: the value where bottom is 0.

    Returns:
        (...,) float64; a numpy float where both are scalars.
    """
    over = np.asarray(bottom, dtype=np.float64)
    out = np.full(np.broadcast_shapes(np.shape(top), over.shape), empty, dtype=np.float64)
    np.divide(top, over, out=out, where=over > 0)
    ratio: Floats = out[()]
    return ratio


def f1(hits: npt.ArrayLike, true: npt.ArrayLike, pred: npt.ArrayLike) -> Floats:
    """F1 of a class, 2 TP / (2 TP + FP + FN) (MEGC 2019, UF1), from its counts.

    Args:
        hits: (...,) TP, clips of the class that were predicted as it.
        true: (...,) TP + FN, clips of the class.
        pred: (...,) TP + FP, predictions of the class.

    Returns:
        (...,) float64 in [0, 1]; 0 where the class is neither true nor predicted.
    """
    return divide(2 * np.asarray(hits), np.asarray(true) + np.asarray(pred), 0.0)


def macro(scores: npt.ArrayLike, true: npt.ArrayLike) -> Floats:
    """Mean over the classes that occur in the truth.

    Args:
        scores: (..., C) one score a class.
        true: (..., C) clips of each class; classes with 0 are skipped whatever their score.

    Returns:
        (...,) float64; nan where no class occurs.
    """
    there = np.asarray(true) > 0
    return divide(np.where(there, scores, 0.0).sum(-1), there.sum(-1), np.nan)


# --- scores of confusion matrices


def _sums(matrix: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Hits, clips and predictions of each class, three times (..., C)."""
    counts = check_matrix(matrix)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1), counts.sum(-2)


def uf1(matrix: npt.ArrayLike) -> Floats:
    """Unweighted F1: mean of 2 TP / (2 TP + FP + FN) over the classes in the truth (MEGC 2019).

    Args:
        matrix: (..., C, C) counts, rows truth.

    Returns:
        (...,) float64 in [0, 1], nan for an empty matrix; a numpy float for one matrix.

    Raises:
        UserError: as `check_matrix`.
    """
    hits, true, pred = _sums(matrix)
    return macro(f1(hits, true, pred), true)


def uf1_all(matrix: npt.ArrayLike) -> Floats:
    """Macro F1 over all C classes: one that the truth does not have has no hits, so its F1 is 0.

    Equal to `uf1` where every class occurs, else smaller by the share of those that do. On the 28 clips that the frame
    study tests there is no fear: its .4762 over six classes is .4082 over all seven.

    Args:
        matrix: (..., C, C) counts, rows truth.

    Returns:
        (...,) float64 in [0, 1], nan for an empty matrix; a numpy float for one matrix.

    Raises:
        UserError: as `check_matrix`.
    """
    hits, true, pred = _sums(matrix)
    return divide(f1(hits, true, pred).sum(-1), np.where(true.any(-1), true.shape[-1], 0), np.nan)


def uar(matrix: npt.ArrayLike) -> Floats:
    """Unweighted average recall: mean of TP / N_c over the classes in the truth (MEGC 2019).

    Args:
        matrix: (..., C, C) counts, rows truth.

    Returns:
        (...,) float64 in [0, 1], nan for an empty matrix; a numpy float for one matrix.

    Raises:
        UserError: as `check_matrix`.
    """
    hits, true, _ = _sums(matrix)
    return macro(divide(hits, true, 0.0), true)


def accuracy(matrix: npt.ArrayLike) -> Floats:
    """Share of clips that were predicted right, all classes together.

    Args:
        matrix: (..., C, C) counts, rows truth.

    Returns:
        (...,) float64 in [0, 1], nan for an empty matrix; a numpy float for one matrix.

    Raises:
        UserError: as `check_matrix`.
    """
    hits, true, _ = _sums(matrix)
    return divide(hits.sum(-1), true.sum(-1), np.nan)


def macro_precision(matrix: npt.ArrayLike) -> Floats:
    """Mean of TP / (TP + FP) over the classes in the truth; a class never predicted has precision 0.

    STSTNet's README prints this number as its UAR (.7605; its UAR is .7186).

    Args:
        matrix: (..., C, C) counts, rows truth.

    Returns:
        (...,) float64 in [0, 1], nan for an empty matrix; a numpy float for one matrix.

    Raises:
        UserError: as `check_matrix`.
    """
    hits, true, pred = _sums(matrix)
    return macro(divide(hits, pred, 0.0), true)


METRICS: dict[str, Callable[[npt.ArrayLike], Floats]] = {
    "uf1": uf1,
    "uar": uar,
    "accuracy": accuracy,
    "macro_precision": macro_precision,
    "uf1_all": uf1_all,
}
"""The pooled scores by name: the names that statistics and reports use."""


def per_class(matrix: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
    """F1, recall, precision and number of clips of each class.

    Args:
        matrix: (..., C, C) counts, rows truth.

    Returns:
        f1, recall, precision: (..., C) float64 in [0, 1], nan for a class that is absent from the truth;
        the precision of a class that occurs but is never predicted is 0. n: (..., C) int64 clips.

    Raises:
        UserError: as `check_matrix`.
    """
    hits, true, pred = _sums(matrix)
    there = true > 0
    return {
        "f1": np.where(there, f1(hits, true, pred), np.nan),
        "recall": divide(hits, true, np.nan),
        "precision": np.where(there, divide(hits, pred, 0.0), np.nan),
        "n": true.astype(np.int64),
    }


def absent(matrix: npt.ArrayLike) -> Ints:
    """Classes that do not occur in the truth, which UF1, UAR and macro precision skip.

    Args:
        matrix: (C, C) counts, rows truth.

    Returns:
        (A,) int64 class indices, ascending.

    Raises:
        UserError: as `check_matrix`; also for more than one matrix.
    """
    return np.flatnonzero(_one(matrix).sum(-1) == 0)


def _one(matrix: npt.ArrayLike) -> Floats:
    """One checked (C, C) matrix of whole counts."""
    counts = check_matrix(matrix)
    if counts.ndim != 2:
        raise UserError(f"matrix: want one (C, C), got {counts.shape}; sum over the leading axes first")
    if (counts % 1).any():
        raise UserError("matrix: want whole counts, got fractions; make it with counting.confusion")
    return counts


def _number(value: Any) -> float | None:
    """A float for JSON, None for nan."""
    return None if np.isnan(value) else float(value)


def summary(matrix: npt.ArrayLike, names: Sequence[str]) -> dict[str, Any]:
    """All scores of one confusion matrix, ready for JSON.

    Args:
        matrix: (C, C) whole counts, rows truth.
        names: the C class names, all different, in the order of the labels.

    Returns:
        uf1, uf1_all, uar, accuracy, macro_precision (floats, None without clips), per_class {name: {f1, recall,
        precision, n}} (None for an absent class, n = 0), confusion (C lists of C ints), n (clips) and absent
        (names of the classes that are not in the truth).

    Raises:
        UserError: as `check_matrix`; also for more than one matrix, or names that do not fit it.
    """
    counts = _one(matrix)
    if len(names) != len(counts) or len(set(names)) != len(names):
        raise UserError(f"names: want {len(counts)} different names, got {list(names)}; name each class once")
    values = per_class(counts)
    classes: dict[str, dict[str, float | None]] = {}
    for c, name in enumerate(names):
        classes[name] = {key: _number(values[key][c]) for key in ("f1", "recall", "precision")}
        classes[name]["n"] = int(values["n"][c])
    return {
        **{name: _number(metric(counts)) for name, metric in METRICS.items()},
        "per_class": classes,
        "confusion": counts.astype(np.int64).tolist(),
        "n": int(counts.sum()),
        "absent": [names[c] for c in absent(counts)],
    }
