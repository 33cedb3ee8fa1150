"""Temporal interpolation: a sequence at another number of instants, as a matrix of weights."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fleeting.records import Array

Interpolation = Literal["tim", "linear", "nearest"]


def weights(count: int, length: int, interpolation: Interpolation) -> Array:
    """What each frame gives to each instant; instants are spread evenly from the first frame to the last.

    "tim" is the temporal interpolation model: frames are the nodes of a path graph, a linear map embeds them so that
    neighbours lie close, and new instants are read from the curve that the embedding lies on (Zhou, Zhao, Pietikäinen,
    "Towards a practical lipreading system", CVPR 2011; on micro-expressions: Pfister et al., "Recognising
    spontaneous facial micro-expressions", ICCV 2011, DOI 10.1109/ICCV.2011.6126401). The method wants frames that are
    linearly independent. Their differences from the mean then span everything orthogonal to the constant, so
    the embedding is the Laplacian's eigenvectors themselves, y_k(u) = cos(pi k (u + 1/2) / count), and
    mapping back gives the mean plus the sum over k of the frames' coefficients times y_k at the new instant. This is
    that closed form: no matrix of pixels is decomposed, and frames that repeat are no obstacle.

    Args:
        count: frames there are, at least 1.
        length: instants wanted, at least 2.
        interpolation: "tim", between the two "linear" neighbours, or the "nearest" frame (the later of two).

    Returns:
        (length, count) float64, rows sum to 1; exactly 0 where a frame is not looked at.
    """
    places = np.linspace(0, count - 1, length)
    if interpolation == "nearest":
        return np.asarray(np.floor(places + 0.5)[:, None] == np.arange(count), dtype=np.float64)
    if interpolation == "linear":
        return np.asarray(np.clip(1 - np.abs(places[:, None] - np.arange(count)), 0, None))
    order = np.arange(1, count)
    there, here = (np.cos(np.pi * np.outer(at + 0.5, order) / count) for at in (places, np.arange(count)))
    return np.asarray((1 + 2 * there @ here.T) / count)
