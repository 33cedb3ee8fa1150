"""Counting predictions by true and predicted class, and what is asked of labels, groups and matrices.

A label is an integer in [0, C); a confusion matrix is (C, C) counts, rows the truth, columns the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fleeting.errors import UserError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


# --- what is asked of the input


def check_classes(classes: int) -> None:
    """Refuse a number of classes that is no whole number of at least 1.

    Raises:
        UserError: if it is anything else.
    """
    if isinstance(classes, bool) or not isinstance(classes, (int, np.integer)) or classes < 1:
        raise UserError(f"classes: want a whole number of at least 1, got {classes!r}; give the protocol's")


def check_labels(values: npt.ArrayLike, classes: int, name: str) -> Ints:
    """Labels as a checked array.

    Args:
        values: (n,) integers in [0, classes).
        classes: number of classes, at least 1.
        name: what to call them in an error.

    Returns:
        (n,) int64.

    Raises:
        UserError: for another shape, for values that are not integers, for a label out of range.
    """
    check_classes(classes)
    labels = np.asarray(values)
    if labels.ndim != 1:
        raise UserError(f"{name}: want labels of shape (n,), got {labels.shape}; give one label a clip")
    if labels.size and labels.dtype.kind not in "iu":
        raise UserError(f"{name}: want integers, got {labels.dtype}; map words to 0..{classes - 1} first")
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise UserError(
            f"{name}: want labels in 0..{classes - 1}, got {labels.min()}..{labels.max()}; "
            "check the label map and the number of classes"
        )
    return labels.astype(np.int64)


def check_groups(groups: Sequence[Any] | npt.NDArray[Any], n: int) -> tuple[list[str], Ints]:
    """Group names as a sorted list and an index into it.

    Args:
        groups: (n,) names, text or integers; one a clip.
        n: number of clips.

    Returns:
        names: the G different names, sorted as text.
        index: (n,) int64 in [0, G), the group of each clip.

    Raises:
        UserError: if there are not n of them, or one is missing (None, nan, empty text).
    """
    if len(groups) != n:
        raise UserError(f"groups: want {n} names, got {len(groups)}; give the subject of every row")
    bad = [g for g in groups if not isinstance(g, (str, int, np.integer)) or g == ""]
    if bad:
        raise UserError(
            f"groups: want a text or integer name for every clip, got {bad[0]!r} ({len(bad)} such); "
            "fill in the subject of these rows"
        )
    names, index = np.unique(np.array([str(g) for g in groups], dtype=str), return_inverse=True)
    return [str(name) for name in names], index.astype(np.int64)


def check_matrix(matrix: npt.ArrayLike, name: str = "matrix") -> Floats:
    """Confusion matrices as a checked array.

    Args:
        matrix: (..., C, C) counts, finite and not negative; rows truth, columns prediction.
        name: what to call it in an error.

    Returns:
        (..., C, C) float64, in which whole counts are exact up to 2**53.

    Raises:
        UserError: for another shape, for values that are no numbers, negative or not finite.
    """
    counts = np.asarray(matrix)
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2] or counts.shape[-1] == 0:
        raise UserError(f"{name}: want shape (..., C, C), got {counts.shape}; make it with counting.confusion")
    if counts.dtype.kind not in "iuf":
        raise UserError(f"{name}: want numbers, got {counts.dtype}; make it with counting.confusion")
    counts = counts.astype(np.float64)
    if not ((counts >= 0) & (counts < np.inf)).all():
        raise UserError(f"{name}: want finite counts >= 0, got others; make it with counting.confusion")
    return counts


def _check_weights(weights: npt.ArrayLike, n: int) -> Floats:
    """(n,) whole numbers >= 0 (or booleans) as float64, else UserError."""
    values = np.asarray(weights)
    if values.shape != (n,):
        raise UserError(f"weights: want shape ({n},), got {values.shape}; give one weight a clip")
    if n and (values.dtype.kind not in "biu" or values.min() < 0):
        raise UserError(
            f"weights: want whole numbers >= 0, got {values.dtype}, or some below 0; "
            "a weight says how often a clip is counted"
        )
    return values.astype(np.float64)


def _check_pairs(true: npt.ArrayLike, pred: npt.ArrayLike, classes: int) -> tuple[Ints, Ints]:
    """Checked true and predicted labels of equal length."""
    truth, guess = check_labels(true, classes, "true"), check_labels(pred, classes, "pred")
    if len(truth) != len(guess):
        raise UserError(f"pred: want {len(truth)} labels as in true, got {len(guess)}; join them by clip")
    return truth, guess


# --- counting


def confusion(
    true: npt.ArrayLike,
    pred: npt.ArrayLike,
    classes: int,
    weights: npt.ArrayLike | None = None,
) -> Ints:
    """Count predictions by true and predicted class.

    Args:
        true: (n,) integer labels in [0, classes).
        pred: (n,) integer labels in [0, classes).
        classes: number of classes C, at least 1.
        weights: (n,) whole numbers >= 0, how often each clip is counted (a boolean mask will do); default 1.

    Returns:
        (C, C) int64, rows truth, columns prediction; all zero for n = 0.

    Raises:
        UserError: for other shapes, unequal lengths, labels out of range, weights that are no counts.
    """
    truth, guess = _check_pairs(true, pred, classes)
    times = None if weights is None else _check_weights(weights, len(truth))
    counts = np.bincount(truth * classes + guess, times, minlength=classes * classes)
    return counts.astype(np.int64).reshape(classes, classes)


def by_group(
    true: npt.ArrayLike, pred: npt.ArrayLike, groups: Sequence[Any] | npt.NDArray[Any], classes: int
) -> tuple[list[str], Ints]:
    """Count predictions by group (subject), true and predicted class. The order of the rows has no effect.

    Args:
        true: (n,) integer labels in [0, classes).
        pred: (n,) integer labels in [0, classes).
        groups: (n,) names, text or integers. Subjects of several corpora need the corpus in the name.
        classes: number of classes C, at least 1.

    Returns:
        names: the G group names, sorted as text.
        matrices: (G, C, C) int64, one confusion matrix a group; their sum is `confusion` of all rows.

    Raises:
        UserError: as `confusion`; also for a group that is missing.
    """
    truth, guess = _check_pairs(true, pred, classes)
    names, index = check_groups(groups, len(truth))
    cells = (index * classes + truth) * classes + guess
    counts = np.bincount(cells, minlength=len(names) * classes * classes)
    return names, counts.astype(np.int64).reshape(len(names), classes, classes)
