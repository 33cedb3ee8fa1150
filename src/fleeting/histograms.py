"""Histogram features of flow that published methods are compared with: HOOF, MDMO and Bi-WOOF, as plain functions.

Angles are atan2(v, u) with v down: 0 to the right, 90 degrees down, 180 to the left, 270 up. Everything is computed
in float64.
"""

from __future__ import annotations

import cv2
import numpy as np

from fleeting.errors import UserError
from fleeting.landmarks import sixty_eight
from fleeting.records import Array

_RAISE = 0.3
"""How far the forehead points lie above the brows, in distances between the eyes."""
# rows of points across the face, from the picture's left to its right; (a, b) is midway between two
_Corner = int | tuple[int, int]
_Row = tuple[_Corner, ...]
# where seven points are raised to the forehead, numbers 68 to 74 in the rows
_FOREHEAD: _Row = (17, 19, 21, (21, 22), 22, 24, 26)
_CHEEK: _Row = (3, (3, 29), 29, (13, 29), 13)
_CHIN: _Row = ((5, 59), (6, 58), (8, 57), (10, 56), (11, 55))
_STRIPS: tuple[tuple[_Row, _Row], ...] = (
    ((68, 69, 70, 71, 72, 73, 74), (17, 19, 21, 27, 22, 24, 26)),
    ((0, 17, 19, 21, 27, 22, 24, 26, 16), (1, 36, 38, 39, 28, 42, 43, 45, 15)),
    ((2, (2, 41), 39, 28, 42, (14, 46), 14), (3, (3, 29), (3, 29), 29, (13, 29), (13, 29), 13)),
    (_CHEEK, (4, (4, 33), 33, (12, 33), 12)),
    ((4, (4, 33), 33), (5, (5, 59), 59)),
    ((33, (12, 33), 12), (55, (11, 55), 11)),
    ((59, 58, 57, 56, 55), _CHIN),
    (_CHIN, (5, 6, 8, 10, 11)),
)


def hoof(uv: Array, bins: int = 8, symmetric: bool = False, mask: Array | None = None) -> Array:
    """Histogram of oriented optical flow.

    Chaudhry et al., "Histograms of Oriented Optical Flow and Binet-Cauchy Kernels on Nonlinear Dynamical Systems for
    the Recognition of Human Actions", CVPR 2009. Each vector counts by its length; the bins sum to 1, so that neither
    the number of pixels nor the strength of the motion matters.

    Args:
        uv: (2, h, w).
        bins: equal parts of the circle from -180 degrees on: of 8, bin 0 begins at the left, 2 at the top, 4 at the
            right, 6 at the bottom.
        symmetric: the paper's bins, the same for a motion to the left and to the right: equal parts of the half
            circle of the angle to the horizontal, the first begins at the top, the last ends at the bottom.
        mask: (h, w) bool, which pixels count; all if None.

    Returns:
        (bins,) float64, sum 1; zeros where nothing moves.

    Raises:
        UserError: fewer than one bin, a mask of another size, or flow that counts and is not finite.
    """
    _check(uv, bins, mask)
    u, v = (component[mask.astype(bool)] if mask is not None else component.ravel() for component in uv)
    length = np.hypot(u, v).astype(np.float64)
    numbers = _half_bins(u, v, bins) if symmetric else _bins(u, v, bins)
    return _shares(np.bincount(numbers, weights=length, minlength=bins))


def bi_woof(uv: Array, strain: Array, blocks: tuple[int, int] = (5, 5), bins: int = 8) -> Array:
    """Bi-weighted oriented optical flow: `hoof` of blocks, each times the strain of the block.

    Liong et al., "Less is more: Micro-expression recognition from video using apex frame", Signal Processing: Image
    Communication 62, 2018. The length of the flow weighs a pixel in the histogram of its block, the mean strain weighs
    the block. 5 x 5 blocks, 8 bins and the normalisation (each histogram to sum 1, in the end all to length 1) are
    those of the authors' code, which takes the sum of the strain, the same up to a factor for equal blocks, and lets
    neighbouring blocks share a line of pixels, which is left out here.

    Args:
        uv: (2, h, w), onset to apex.
        strain: (h, w), such as `motion.strain` gives.
        blocks: rows and columns.
        bins: as in `hoof`.

    Returns:
        (rows, columns, bins) float64 of length 1, flattened the paper's feature; zeros where nothing is strained.

    Raises:
        UserError: strain of another size, fewer pixels than blocks, or flow or strain that is not finite.
    """
    _check(uv, bins)
    rows, columns = _edges(uv, strain, blocks)
    found = np.zeros((*blocks, bins))
    for row, column in np.ndindex(*blocks):
        part = np.s_[rows[row] : rows[row + 1], columns[column] : columns[column + 1]]
        weight = float(np.mean(strain[part], dtype=np.float64))
        found[row, column] = weight * hoof(uv[(slice(None), *part)], bins)
    length = np.sqrt((found**2).sum())
    return found / length if length > 0 else found


def bi_woof_map(uv: Array, strain: Array, blocks: tuple[int, int] = (5, 5), bins: int = 8) -> Array:
    """`bi_woof` as a picture with a channel a bin, each block filled with its values.

    Ours: BOWAM (table 11a) puts Bi-WOOF in the place of the flow its network sees, and does not say how.

    Returns:
        (bins, h, w) float32.
    """
    found = bi_woof(uv, strain, blocks, bins)
    rows, columns = (np.repeat(np.arange(len(edges) - 1), np.diff(edges)) for edges in _edges(uv, strain, blocks))
    return np.moveaxis(found[rows[:, None], columns], -1, 0).astype(np.float32)


def mdmo(uv: Array, points: Array, bins: int = 8) -> Array:
    """Main directional mean optical flow of the 36 regions of a face.

    Liu et al., "A Main Directional Mean Optical Flow Feature for Spontaneous Micro-Expression Recognition", IEEE
    Transactions on Affective Computing 7(4), 2016. The vectors of a region are counted by direction; the mean of those
    in the fullest bin stands for the region. Known are the 36 regions, the 8 directions and the mean; that the bins
    are centred on right, right and down, down, ... is as public re-implementations have it. For a clip the paper
    averages the vectors of the frames against the first, then divides the lengths by the longest.

    Args:
        uv: (2, h, w).
        points: (K, 2) landmarks of the first picture, K = 68, 468 or 478.
        bins: directions.

    Returns:
        (36, 2) float64: length rho in pixels and angle theta in [-pi, pi]; zeros for a region outside the picture.

    Raises:
        UserError: another number of landmarks, landmarks that are NaN, or flow that is not finite.
    """
    _check(uv, bins)
    means = _main_means(uv, regions36(points, *uv.shape[1:]), bins)
    return np.stack([np.hypot(means[:, 0], means[:, 1]), np.arctan2(means[:, 1], means[:, 0])], axis=1)


def mdmo_map(uv: Array, points: Array, bins: int = 8) -> Array:
    """`mdmo` as flow: each region filled with its mean vector, 0 outside the regions.

    Ours: BOWAM (table 11a) puts MDMO in the place of the flow its network sees, and does not say how.

    Returns:
        (2, h, w) float32, pixels.
    """
    _check(uv, bins)
    masks = regions36(points, *uv.shape[1:])
    # the regions do not overlap
    return np.asarray(np.einsum("rc,ryx->cyx", _main_means(uv, masks, bins), masks), dtype=np.float32)


def regions36(points: Array, height: int, width: int) -> Array:
    """Masks of the 36 regions of interest of MDMO.

    The paper shows its regions, drawn by action units between the landmarks, in a figure; no numbers of points are
    known to us. These are quadrilaterals between rows of the 68 points, points midway and points on the forehead,
    close to what public re-implementations draw: forehead 6, brows and eyes 8, cheeks and nose 6 + 4, upper lip and
    corners of the mouth 4, lower lip 4, chin 4; the eyes and the middle of the mouth are in none. The forehead points
    lie .3 eye distances above the brows (elsewhere 20 px). A pixel on a border belongs to the later region.

    Args:
        points: (K, 2) landmarks (x, y) of the picture, K = 68, 468 or 478.

    Returns:
        (36, height, width) bool, from the forehead to the chin, in each row from left to right.

    Raises:
        UserError: another number of landmarks, or landmarks that are NaN.
    """
    corners = _corners(points)
    numbers = np.zeros((height, width), np.uint8)
    polygons = [
        [upper[at], upper[at + 1], lower[at + 1], lower[at]] for upper, lower in _STRIPS for at in range(len(upper) - 1)
    ]
    for number, polygon in enumerate(polygons, start=1):
        outline = np.array([_place(corners, corner) for corner in polygon])
        # OpenCV wants whole numbers: here 1/16 px
        cv2.fillPoly(numbers, [np.round(16 * outline).astype(np.int32)], number, shift=4)
    return np.asarray(numbers == np.arange(1, len(polygons) + 1)[:, None, None])


def _corners(points: Array) -> Array:
    """(75, 2): the 68 points and seven on the forehead, which is away from the nose tip as the face is turned."""
    corners = sixty_eight(np.asarray(points, np.float64))
    if not np.isfinite(corners).all():
        raise UserError("want landmarks to divide the face by, got NaN; choose a frame in which there is a face")
    left, right = corners[36:42].mean(axis=0), corners[42:48].mean(axis=0)
    across = right - left
    up = np.array([across[1], -across[0]])
    raised = np.stack([_place(corners, corner) for corner in _FOREHEAD]) + _RAISE * up
    return np.concatenate([corners, raised])


def _place(corners: Array, corner: _Corner) -> Array:
    return np.asarray(corners[corner] if isinstance(corner, int) else corners[list(corner)].mean(axis=0))


def _main_means(uv: Array, masks: Array, bins: int) -> Array:
    """(R, 2) mean vector of the fullest direction of each region."""
    means = np.zeros((len(masks), 2))
    for index, mask in enumerate(masks):
        vectors = uv[:, mask].astype(np.float64)
        vectors = vectors[:, np.hypot(*vectors) > 0]  # what rests has no direction
        if vectors.size:
            numbers = _bins(vectors[0], vectors[1], bins, centred=True)
            means[index] = vectors[:, numbers == np.bincount(numbers).argmax()].mean(axis=1)
    return means


def _bins(u: Array, v: Array, bins: int, centred: bool = False) -> Array:
    """Numbers of equal parts of the circle: the first begins at -180 degrees, or is centred on 0."""
    turns = np.arctan2(v, u).astype(np.float64) / (2 * np.pi)
    places = turns * bins + 0.5 if centred else (turns + 0.5) * bins
    return np.asarray(np.floor(places).astype(int) % bins)


def _half_bins(u: Array, v: Array, bins: int) -> Array:
    """Numbers of equal parts of the angle to the horizontal, from -90 to 90 degrees."""
    places = (np.arctan2(v, np.abs(u)).astype(np.float64) / np.pi + 0.5) * bins
    return np.asarray(np.clip(np.floor(places).astype(int), 0, bins - 1))


def _edges(uv: Array, strain: Array, blocks: tuple[int, int]) -> tuple[Array, Array]:
    """Where blocks begin and end: rows, columns."""
    if strain.shape != uv.shape[1:]:
        raise UserError(f"want flow and strain of one size, got {uv.shape} and {strain.shape}; use motion.strain")
    if not np.isfinite(strain).all():
        raise UserError("want finite strain, got NaN or infinite values; compute it again from finite flow")
    if min(blocks) < 1 or blocks[0] > strain.shape[0] or blocks[1] > strain.shape[1]:
        raise UserError(f"want no more blocks than pixels, got {blocks} of {strain.shape}; choose fewer blocks")
    rows, columns = (
        np.round(np.linspace(0, side, count + 1)).astype(int) for side, count in zip(strain.shape, blocks, strict=True)
    )
    return rows, columns


def _shares(counts: Array) -> Array:
    total = counts.sum()
    return counts / total if total > 0 else counts


def _check(uv: Array, bins: int, mask: Array | None = None) -> None:
    """Flow that is flow; what a mask leaves out may be anything."""
    if uv.ndim != 3 or uv.shape[0] != 2 or bins < 1:
        raise UserError(f"want flow (2, h, w) and at least one bin, got {uv.shape} and {bins} bins; check the call")
    if mask is not None and mask.shape != uv.shape[1:]:
        raise UserError(f"want flow and mask of one size, got {uv.shape} and {mask.shape}; resize the mask")
    unknown = ~np.isfinite(uv).all(axis=0) & (True if mask is None else mask.astype(bool))
    if unknown.any():
        raise UserError(
            f"want finite flow, got NaN or infinite values on {unknown.sum()} of {unknown.size} pixels; compute the "
            "flow again, or leave the pixels out by a mask (hoof)"
        )
