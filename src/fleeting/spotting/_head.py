"""The motion of the head in a flow field: a shift, a turn and a change of size that most of the face shares.

A head that turns or nears moves the brows and the mouth otherwise than the nose: by a few hundredths of their distance
from it, which is as much as an expression. One mean vector does not hold that, four numbers do.
"""

from __future__ import annotations

import numpy as np

from fleeting.records import Array

_SAMPLES = 1000  # pixels that a fit sees, about: more change nothing
_ROUNDS = 10
# residuals of this many medians count a quarter, larger ones hardly
_WIDTH = 2.0
_LEAST_PX = 0.03  # what flow methods err by on still pictures: below it no residual is an outlier


def similarity(uv: Array, face: Array) -> Array:
    """Flow of the similarity transform that fits most of a face.

    As flow f = u + iv of a place z = x + iy, a similarity is f = b + a z. Least squares, reweighted by
    1 / (1 + (r / s)^2)^2 of the residual r, s twice its median (Geman and McClure, "Statistical methods for
    tomographic image reconstruction", Bulletin of the International Statistical Institute 52, 1987), so that parts
    that move on their own, such as a mouth, pull little as long as they are the smaller part of the face.

    Args:
        uv: (2, h, w), px.
        face: (h, w) bool, the pixels that the fit sees; with none all are seen.

    Returns:
        (2, h, w) float32, px, on every pixel.
    """
    y, x = _sampled(face if face.any() else np.ones_like(face))
    place, flow = _complex(x, y), _complex(uv[0, y, x], uv[1, y, x])
    # around the middle, so that shift and turn do not depend on each other
    middle = place.mean()
    shift, turn = _robust(place - middle, flow)
    right, down = np.arange(uv.shape[2]) - middle.real, np.arange(uv.shape[1])[:, None] - middle.imag
    u = turn.real * right + (shift.real - turn.imag * down)
    v = turn.imag * right + (shift.imag + turn.real * down)
    return np.stack([u, v]).astype(np.float32)


def _robust(place: Array, flow: Array) -> tuple[complex, complex]:
    """b and a of flow = b + a place."""
    shift, turn = _weighted(place, flow, np.ones(len(place)))
    for _ in range(_ROUNDS):
        off = np.abs(flow - shift - turn * place)
        weight = (1 + (off / max(_WIDTH * float(np.median(off)), _LEAST_PX)) ** 2) ** -2
        shift, turn = _weighted(place, flow, weight)
    return shift, turn


def _weighted(place: Array, flow: Array, weight: Array) -> tuple[complex, complex]:
    share = weight / weight.sum()
    place_mean, flow_mean = share @ place, share @ flow
    centred = place - place_mean
    spread = float(share @ np.abs(centred) ** 2)
    # a single place has no turn
    turn = complex((share * centred.conj()) @ (flow - flow_mean)) / spread if spread > 0 else 0j
    return complex(flow_mean - turn * place_mean), turn


def _sampled(face: Array) -> tuple[Array, Array]:
    """Rows and columns of the pixels of a mask that lie on a grid, about `_SAMPLES` of them."""
    step = max(1, round(float(np.sqrt(np.count_nonzero(face) / _SAMPLES))))
    if not face[::step, ::step].any():
        step = 1  # narrower than the grid
    rows, columns = np.nonzero(face[::step, ::step])
    return rows * step, columns * step


def _complex(x: Array, y: Array) -> Array:
    return np.asarray(x + 1j * y, np.complex128)
