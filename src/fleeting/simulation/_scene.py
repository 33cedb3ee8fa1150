"""A recording of a moving face, with the truth about it: every frame, and the flow between any two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import Literal

import cv2
import numpy as np
from scipy.special import ndtri

from fleeting.errors import UserError
from fleeting.records import Array
from fleeting.simulation import _units
from fleeting.simulation._person import FINE, MARGIN, Person, person
from fleeting.simulation._portrait import LIDS, inside

_CLOSE = 2e-3  # px: when the inverse is found; OpenCV reads the map at 1/32 px, which leaves about as much
_INVERSIONS = 8
_LIDS_REACH = 1.4  # how far above the eye the skin of a closing lid comes from, in heights of the eye
_BLINK = 9  # frames of a blink at 100 frames a second


@dataclass(frozen=True)
class Expression:
    """When a face moves, and by how much.

    Attributes:
        onset, apex, offset: frame indices: at rest up to the onset and from the offset on, most at the apex.
        units: action unit -> amplitude at the apex, px of a face 224 px high.
        hold: frames after the apex over which the motion stays within 2 % of it.
    """

    onset: int
    apex: int
    offset: int
    units: Mapping[str, float]
    hold: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.onset <= self.apex <= self.offset:
            raise UserError(f"want 0 <= onset <= apex <= offset, got {self.onset}, {self.apex}, {self.offset}")
        for name in self.units:
            _units.parsed(name)

    def share(self, index: int) -> float:
        """Of the full motion, 0 to 1, on a frame: a cosine up, a hold, a cosine down."""
        last = min(self.apex + self.hold, max(self.offset - 1, self.apex))
        places = [self.onset, self.apex, last, self.offset]
        if not self.onset < index < self.offset:
            return float(index == self.apex)
        if index <= self.apex:
            return _smooth((index - places[0]) / max(places[1] - places[0], 1))
        if index <= last:
            return 1 - 0.02 * (index - self.apex) / max(last - self.apex, 1)
        return 0.98 * _smooth((self.offset - index) / max(self.offset - last, 1))


@dataclass(frozen=True)
class Disturbance:
    """What else happens in front of the camera.

    Attributes:
        drift_px: how far the head wanders, in px of a face 224 px high: over the whole recording ("linear"), or to
            and fro around where it began ("smooth"); it turns and nears a little with it.
        drift: the kind.
        noise: standard deviation of the sensor's noise, of 255 grey levels.
        flicker: amplitude of the light's changes, as a share of the light.
        blinks: frame indices in whose middle the eyes are shut.
    """

    drift_px: float = 0.0
    drift: Literal["linear", "smooth"] = "smooth"
    noise: float = 0.0
    flicker: float = 0.0
    blinks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene(Sequence[Array]):
    """A recording: ``[i]`` draws frame i, (h, w, 3) uint8 RGB. The same scene draws the same bytes.

    Attributes:
        length: frames.
        expression: one; its offset lies inside.
        subject: number of the face.
        size: (height, width), px. The face is about .62 of the height.
        disturbance: what else happens.
        fps: frames a second: how fast blinks, flicker and drift are.
        seed: of drift, noise and flicker.
    """

    length: int
    expression: Expression
    subject: int = 0
    size: tuple[int, int] = (240, 320)
    disturbance: Disturbance = field(default_factory=Disturbance)
    fps: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.expression.offset >= self.length:
            raise UserError(f"want an offset below {self.length} frames, got {self.expression.offset}; make it longer")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        index = range(self.length)[index]
        x, y = self._source(index)
        drawn = cv2.remap(
            self._person.image,
            (FINE * (x + MARGIN) + (FINE - 1) / 2).astype(np.float32),
            (FINE * (y + MARGIN) + (FINE - 1) / 2).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        lit = drawn * np.float32(1 + self._light[index])
        if self.disturbance.noise:
            rng = np.random.default_rng([self.seed, self.subject, index, 1])
            places = rng.integers(0, 1 << 16, lit.shape, np.uint16)
            lit += (np.float32(self.disturbance.noise) * _quantiles())[places]
        return np.asarray(np.clip(np.rint(lit, out=lit), 0, 255, out=lit), np.uint8)

    def flow(self, first: int, second: int) -> Array:
        """The true flow, (2, h, w) float32 px of the recording, on the pixels of the first frame.

        Lids that blink are not in it; see `seen`.
        """
        at = self._rest(first)
        moved = _sampled(self._displacement(second), at)
        grid = _grid(self.size)
        return np.asarray(at + moved - grid, np.float32)

    def seen(self, *indices: int) -> Array:
        """(h, w) bool: pixels that no lid covers or uncovers on any of these frames."""
        if not any(self._shut(index) > 0 for index in indices):
            return np.ones(self.size, bool)
        points = self._person.landmarks
        eyes = sum(inside(points, curves, self.size, 1.0) for curves in LIDS)
        # the lids come from above the eyes
        highest = max(np.ptp(points[list(upper + lower), 1]) for upper, lower in LIDS)
        reach = 5 + round(_LIDS_REACH * float(highest))
        around = cv2.dilate(np.asarray(eyes, np.float32), np.ones((2 * reach + 1, 9), np.uint8))
        return np.asarray(around < 0.02)

    def landmarks(self, index: int) -> Array:
        """(468, 2) float32 mesh points on a frame, px of the recording."""
        at = self._person.landmarks
        moved = _sampled(self._displacement(index), at.T[:, :, None])[:, :, 0]
        return np.asarray(at + moved.T, np.float32)

    def head(self, index: int) -> Array:
        """(2, 3) float64: the transform of the head on a frame, px of the recording."""
        x, y, turn, nearer = self._path[index]
        cosine, sine = (1 + nearer) * np.cos(turn), (1 + nearer) * np.sin(turn)
        middle = self._person.landmarks.mean(axis=0).astype(np.float64)
        rotation = np.array([[cosine, -sine], [sine, cosine]])
        return np.concatenate([rotation, (middle - rotation @ middle + [x, y])[:, None]], axis=1)

    @cached_property
    def _person(self) -> Person:
        return person(self.subject, self.size)

    @cached_property
    def _full(self) -> Array:
        return _units.field(self._person, self.expression.units)

    @cached_property
    def _path(self) -> Array:
        """(T, 4): x and y in px, angle in radians, change of size, of the head."""
        amount = self.disturbance.drift_px * self._person.scale
        rng = np.random.default_rng([self.seed, self.subject, 2])
        angle = rng.uniform(0, 2 * np.pi)
        # a face turns about its middle: a share of the motion at its edge
        edge = np.ptp(self._person.landmarks[:, 1]) / 2
        sizes = np.array([np.cos(angle), np.sin(angle), rng.normal(0, 0.3) / edge, rng.normal(0, 0.3) / edge])
        return np.asarray(amount * sizes * self._wander(rng)[:, None])

    def _wander(self, rng: np.random.Generator) -> Array:
        """(T,) how far along its way the head is: 0 to 1 ("linear"), or to and fro with a reach of 1."""
        along = np.arange(self.length) / max(self.length - 1, 1)
        if self.disturbance.drift == "linear":
            return along
        seconds = np.arange(self.length) / self.fps
        waves = [np.sin(2 * np.pi * rng.uniform(0.3, 1.2) * seconds + rng.uniform(0, 2 * np.pi)) for _ in range(3)]
        way = np.sum(waves, axis=0) - np.sum(waves, axis=0)[0]
        return np.asarray(way / max(np.abs(way).max(), 1e-9))

    @cached_property
    def _light(self) -> Array:
        """(T,) change of the light: the beat of a lamp against the camera, and a little at random."""
        rng = np.random.default_rng([self.seed, self.subject, 3])
        seconds = np.arange(self.length) / self.fps
        beat = np.sin(2 * np.pi * rng.uniform(2, 10) * seconds + rng.uniform(0, 2 * np.pi))
        return np.asarray(self.disturbance.flicker * (0.8 * beat + 0.2 * rng.standard_normal(self.length)))

    def _shut(self, index: int) -> float:
        """How far the lids are down, 0 to 1."""
        half = max(1.0, _BLINK * self.fps / 100 / 2)
        return max((_smooth(1 - abs(index - middle) / half) for middle in self.disturbance.blinks), default=0.0)

    def _displacement(self, index: int) -> Array:
        """(2, h, w) where each point of the face at rest has gone."""
        face = np.float32(self.expression.share(index)) * self._full
        if not self.disturbance.drift_px:
            return face
        head = self.head(index).astype(np.float32)
        there = _grid(self.size) + face
        turned = (head[:, :2] @ there.reshape(2, -1)).reshape(there.shape)
        moved = turned + head[:, 2][:, None, None] - there
        return np.asarray(face + self._person.mask * moved, np.float32)

    def _rest(self, index: int) -> Array:
        """(2, h, w) the point of the face at rest that each pixel shows."""
        grid, displacement = _grid(self.size), self._displacement(index)
        at = grid - displacement
        for _ in range(_INVERSIONS):
            before, at = at, grid - _sampled(displacement, at)
            if np.abs(at - before).max() < _CLOSE:
                break
        return at

    def _source(self, index: int) -> Array:
        at = self._rest(index)
        shut = self._shut(index)
        return at if not shut else _lidded(self._person, at, shut)


def _lidded(face: Person, at: Array, shut: float) -> Array:
    """Where the skin of the upper lids comes down over the eyes: it is stretched from above them."""
    x, y = at
    for upper, lower in LIDS:
        top, bottom = (face.landmarks[list(curve)] for curve in (upper, lower))
        low, high = np.interp(x, bottom[:, 0], bottom[:, 1]), np.interp(x, top[:, 0], top[:, 1])
        gap = np.maximum(low - high, 0) * ((x > top[0, 0]) & (x < top[-1, 0]))
        edge, begin = high + shut * gap, high - _LIDS_REACH * gap
        down = (y > begin) & (y < edge) & (gap > 0.3)
        y = np.where(down, begin + (y - begin) * (high - begin) / np.maximum(edge - begin, 1e-6), y)
    return np.stack([x, y]).astype(np.float32)


def _sampled(values: Array, at: Array) -> Array:
    """(2, h, w) values read at (2, ...) places between pixels."""
    x, y = (np.ascontiguousarray(place, np.float32) for place in at)
    read = cv2.remap(cv2.merge(list(values)), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.stack(cv2.split(read))


@cache
def _quantiles() -> Array:
    """(65536,) float32 quantiles of the normal distribution: four times as fast as drawing from it."""
    return np.asarray(ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)), np.float32)


@lru_cache(maxsize=4)
def _grid(size: tuple[int, int]) -> Array:
    """(2, h, w) x and y of every pixel; not to be written to."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    grid = np.stack([columns, rows])
    grid.flags.writeable = False
    return grid


def _smooth(x: float) -> float:
    return float(0.5 - 0.5 * np.cos(np.pi * np.clip(x, 0, 1)))
