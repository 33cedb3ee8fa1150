"""A subject: the portrait given another shape and another look, on the grid of a recording.

Hair takes another colour, the skin a slightly other tone, a grain and spots, the light comes from a side, the wall
behind is another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy.interpolate import RBFInterpolator

from fleeting.records import Array
from fleeting.simulation import _shape
from fleeting.simulation._portrait import LIDS, LIPS, MOUTH, Portrait, inside, portrait

FACE = 0.62  # height of the box around the landmarks as a share of the recording's
FULL = 224.0  # px, the height of that box in which amplitudes are given
MARGIN = 24  # px of the person around the recording, for what moves in
FINE = 2  # pixels of the person to one of the recording, so that interpolation blurs little
_KNOTS = 8  # px of the person between two points where the warp of the shape is computed
# factors on R, G and B, around the portrait's own skin
_SKIN = ((1.04, 1.03, 1.02), (1.0, 0.97, 0.94), (0.95, 0.91, 0.86), (0.9, 0.85, 0.79))
_HAIR = (
    (0.3, 0.3, 0.34), (0.55, 0.47, 0.44), (0.42, 0.36, 0.3), (1.0, 1.0, 1.0), (1.0, 0.76, 0.58), (1.1, 1.1, 1.25)
)  # fmt: skip
_WALL = (
    (1.0, 1.0, 1.0), (0.62, 0.72, 0.86), (0.5, 0.52, 0.5), (0.8, 0.86, 0.74), (1.1, 1.05, 0.95), (0.7, 0.6, 0.6)
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Person:
    """A face at rest.

    Attributes:
        number: which subject.
        size: (height, width) of the recording.
        image: (FINE (height + 2 MARGIN), FINE (width + 2 MARGIN), 3) float32 RGB, 0..255.
        landmarks: (468, 2) float32, pixels of the recording.
        mask: (height, width) float32: 1 on the person, falling to 0 on the wall: what a head motion takes along.
        scale: pixels of the recording to a pixel of a face `FULL` pixels high.
        axes: (2, 2) float64, columns: the face's own right (of the picture) and down.
    """

    number: int
    size: tuple[int, int]
    image: Array
    landmarks: Array
    mask: Array
    scale: float
    axes: Array


@lru_cache(maxsize=16)
def person(number: int, size: tuple[int, int]) -> Person:
    """The subject `number` on a grid of (height, width); the same number is the same face at every size."""
    rng = np.random.default_rng([number, 2019])
    mirrored, traits = bool(number % 2), _traits(rng)
    source = portrait(mirrored)
    height = FACE * size[0]
    centre = np.array([(0.5 + rng.normal(0, 0.01)) * size[1], (0.605 + rng.normal(0, 0.008)) * size[0]])
    _, _, turn = _shape.frame(mirrored)
    landmarks = _shape.deform(traits, mirrored, _shape.mesh(mirrored))
    grown = np.ptp(landmarks[:, 1])
    points = height / grown * landmarks @ turn.T + centre

    maps = _warp(points, traits, mirrored, height / grown, centre, size)
    image, parts = (
        cv2.remap(layer, *maps, interpolation=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        for layer in (source.image, source.parts)
    )
    look = _look(np.clip(image, 0, 255), np.clip(parts, 0, 1), FINE * (points + MARGIN) + 0.5, traits, number, rng)
    # what a pixel of the recording sees is the mean over it
    look = cv2.GaussianBlur(look, (0, 0), 0.4 * FINE)
    return Person(number, size, look, points.astype(np.float32), _mask(parts, size), height / FULL, turn)


def _traits(rng: np.random.Generator) -> dict[str, float]:
    """Two standard deviations at most: beyond, faces look bent."""
    drawn = {name: spread * float(np.clip(rng.normal(), -2, 2)) for name, spread in _shape.SPREAD.items()}
    # the portrait smiles: most subjects do so less, and with their lips together
    closed = rng.uniform(0.84, 0.9) if rng.random() < 0.75 else rng.uniform(0.25, 0.55)
    return drawn | {"smile": 0.03 + drawn["smile"], "closed": float(closed)}


def _warp(
    points: Array, traits: Mapping[str, float], mirrored: bool, height: float, centre: Array, size: tuple[int, int]
) -> tuple[Array, Array]:
    """x and y in the portrait for every pixel of the person: a thin plate spline through landmarks and surroundings."""
    scale, middle, turn = _shape.frame(mirrored)
    around = _around(mirrored)
    there = np.concatenate([points, height * _shape.deform(traits, mirrored, around) @ turn.T + centre])
    here = np.concatenate([_shape.mesh(mirrored), around]) @ turn.T * scale + middle
    spline = RBFInterpolator(there, here, kernel="thin_plate_spline", smoothing=0.02)
    shape = [FINE * (side + 2 * MARGIN) for side in size]
    rows, columns = (_KNOTS * np.arange(-(-side // _KNOTS)) + (_KNOTS - 1) / 2 for side in shape)
    knots = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    found = spline((knots - (FINE - 1) / 2) / FINE - MARGIN).reshape(len(rows), len(columns), 2).astype(np.float32)
    grown = cv2.resize(found, None, fx=_KNOTS, fy=_KNOTS, interpolation=cv2.INTER_CUBIC)[: shape[0], : shape[1]]
    return np.ascontiguousarray(grown[..., 0]), np.ascontiguousarray(grown[..., 1])


def _around(mirrored: bool) -> Array:
    """Points on hair, neck, clothes and wall: a grid without those near landmarks."""
    own = _shape.mesh(mirrored)
    grid = np.stack(np.meshgrid(np.linspace(-1.3, 1.3, 15), np.linspace(-1.1, 1.1, 13)), axis=-1).reshape(-1, 2)
    far = np.linalg.norm(grid[:, None] - own[None], axis=2).min(1) > 0.1
    return np.asarray(grid[far])


def _mask(parts: Array, size: tuple[int, int]) -> Array:
    """1 on the person and a little around, then a smooth fall over a fifth of the recording's height."""
    scene = parts[FINE * MARGIN : -FINE * MARGIN, FINE * MARGIN : -FINE * MARGIN, 0]
    scene = cv2.resize(scene, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    away = cv2.distanceTransform((scene < 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    fall = np.clip(1 - (away - 0.02 * size[0]) / (0.2 * size[0]), 0, 1)
    return np.asarray(cv2.GaussianBlur(fall * fall * (3 - 2 * fall), (0, 0), 0.012 * size[0]), np.float32)


def _look(
    image: Array, parts: Array, points: Array, traits: Mapping[str, float], number: int, rng: np.random.Generator
) -> Array:
    shape, unit = image.shape[:2], np.ptp(points[:, 1])
    whole, skin, hair = np.moveaxis(parts, -1, 0)
    eyes = sum(inside(points, curves, shape, 0.006 * unit) for curves in LIDS)
    lips = inside(points, MOUTH, shape, 0.01 * unit)
    bare = skin * (1 - np.clip(eyes, 0, 1))
    image = _teeth(image, points, traits["closed"], unit)
    # neighbouring numbers differ: the golden ratio spreads them
    tone = (0.13 + 0.618034 * number) % 1
    image = _tint(image, bare * (1 - 0.45 * lips), _between(_SKIN, tone**1.2))
    # fair hair grows on fair skin only
    image = _tint(image, hair, _HAIR[int(rng.integers(len(_HAIR) if tone < 0.5 else 3))])
    # the soft edge of the mask still shows the portrait's light wall
    image = _tint(image, 1 - np.clip(2 * whole - 1, 0, 1), np.array(_WALL[(number * 5 + 1) % len(_WALL)]))
    image = _light(image, rng)
    return _grain(image, bare * (1 - 0.6 * lips), unit, rng)


def _tint(image: Array, mask: Array, factors: Array | tuple[float, ...]) -> Array:
    return np.asarray(image * (1 + mask[..., None] * (np.asarray(factors, np.float32) - 1)))


def _between(table: tuple[tuple[float, ...], ...], share: float) -> Array:
    place = share * (len(table) - 1)
    return np.array([np.interp(place, range(len(table)), column) for column in zip(*table, strict=True)])


def _teeth(image: Array, points: Array, closed: float, unit: float) -> Array:
    """A nearly closed mouth shows a dark line, no squeezed teeth."""
    dark = np.array([88, 46, 44], np.float32)
    share = np.clip((closed - 0.6) / 0.2, 0, 0.8) * np.clip(
        1.6 * inside(points, LIPS, image.shape[:2], 0.005 * unit), 0, 1
    )
    return np.asarray(image + share[..., None] * (dark - image))


def _grain(image: Array, mask: Array, unit: float, rng: np.random.Generator) -> Array:
    """Pores at two sizes, and a few spots. Takes as many numbers as there are pixels, so it is drawn last."""
    shape = image.shape[:2]
    strength, places = rng.uniform(0.008, 0.028), rng.random(rng.integers(0, 9))
    grain = np.zeros(shape, np.float32)
    for size, share in ((0.006, 0.7), (0.014, 0.5)):
        layer = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), size * unit)
        grain += share * layer / layer.std()
    grain *= strength
    rows, columns = np.nonzero(mask > 0.9)
    for place in (len(rows) * places).astype(int):
        spot = (float(columns[place]), float(rows[place]))
        _darken(grain, spot, rng.uniform(0.004, 0.009) * unit, rng.uniform(0.1, 0.4))
    return np.asarray(image * (1 + (mask * grain)[..., None]))


def _darken(field: Array, centre: tuple[float, float], radius: float, amount: float) -> None:
    """Takes a round spot out of `field`, in place."""
    reach = int(3 * radius) + 1
    x, y = (round(value) for value in centre)
    window = field[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    rows, columns = np.mgrid[0 : window.shape[0], 0 : window.shape[1]]
    away = (rows + max(y - reach, 0) - centre[1]) ** 2 + (columns + max(x - reach, 0) - centre[0]) ** 2
    window -= (amount * np.exp(-away / (2 * radius**2))).astype(np.float32)


def _light(image: Array, rng: np.random.Generator) -> Array:
    """A gradient over the picture, exposure, contrast and colour of the light."""
    height, width = image.shape[:2]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
    rows = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, width, dtype=np.float32)
    ramp = 1 + strength * (np.cos(angle) * columns + 0.5 * np.sin(angle) * rows)
    warmth = rng.normal(0, 0.03)
    colour = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
    contrast, mean = rng.uniform(0.82, 1.02), 110 * rng.uniform(0.9, 1.08)
    lit = mean + contrast * (image * ramp[..., None].astype(np.float32) * colour - 118)
    return np.asarray(np.clip(lit, 0, 255), np.float32)


__all__ = ["FACE", "FINE", "FULL", "MARGIN", "Person", "Portrait", "person"]
