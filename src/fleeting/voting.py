"""One decision a clip from its views."""

from __future__ import annotations

import numpy as np

from fleeting.records import Array


def voted(keys: Array, probs: Array, rule: str) -> tuple[Array, Array]:
    """One column a clip from the columns of its views, clips in the order of their first view."""
    unique, first = np.unique(keys, return_index=True)
    ordered = unique[np.argsort(first)]
    if len(ordered) == len(keys):
        return keys, probs
    return ordered, np.stack([vote(probs[:, keys == key], rule) for key in ordered], axis=1)


def vote(probs: Array, rule: str) -> Array:
    """One decision a clip from its views.

    Args:
        probs: (E, V, C) of one clip's views.
        rule: "mean" of the probabilities, or "majority": the share of the views that say each class; among
            equally many votes the larger mean probability decides (it enters with a millionth of the weight).

    Returns:
        (E, C), rows sum to 1; of a majority float64, since float32 has no room for the millionth.
    """
    mean = probs.mean(axis=1)
    if rule == "mean" or probs.shape[1] == 1:
        return np.asarray(mean)
    votes = np.eye(probs.shape[-1])[probs.argmax(-1)].mean(axis=1)
    return np.asarray((votes + 1e-6 * mean) / (1 + 1e-6))
