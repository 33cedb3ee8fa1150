"""Frames looked at and apex error of every spotter on made-up clips: `python benchmarks/spotting.py`.

A textured face of 160 x 160 pixels moves at two of six places (brows, mouth corners) by `--amplitude` pixels: it rises
in 8 to 24 frames, holds for 3 to 8, falls in 10 to 29. Onset and offset are the clip's ends. The error is the number
of frames to the hold, 0 inside it; a clip without an apex counts as half its length. The disturbances are sensor
noise, a head that drifts, light that flickers, a blink. All spotters see the same clips.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fleeting import plugins
from fleeting.records import Array, Clip, FaceClip

SIDE, MARGIN, FRAMES, ONSET = 160, 30, 70, 5
PLACES = ((48, -0.6, -0.8), (54, 0.6, -0.8), (19, 0, -1), (24, 0, -1), (21, 0.3, 0.9), (22, -0.3, 0.9))
DISTURBED: dict[str, dict[str, float]] = {
    "clean": {"noise": 0},
    "noise 2": {},
    "noise 5": {"noise": 5},
    "weak": {"weaker": 1 / 3},
    "drift 2 px": {"drift": 2},
    "flicker 4 %": {"flicker": 0.04},
    "blink": {"blink": 1},
}
SPOTTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "middle": ("middle", {}),
    "dc_rois": ("dc_rois", {}),
    "dc_rois, 16 samples": ("dc_rois", {"samples": 16}),
    "dc_rois, greatest region": ("dc_rois", {"combine": "greatest"}),
    "dc_rois, exhaustive": ("dc_rois", {"search": "exhaustive"}),
    "flow_peak": ("flow_peak", {}),
    "flow_peak, highest": ("flow_peak", {"peak": "highest"}),
    "flow_peak, head kept": ("flow_peak", {"head": "none"}),
    "flow_peak, whole face": ("flow_peak", {"regions": "face"}),
    "frame_difference": ("frame_difference", {}),
    "frame_difference, plain": ("frame_difference", {"measure": "plain"}),
    "frame_difference, light kept": ("frame_difference", {"brightness": "kept"}),
}


class Counted(Sequence[Array]):
    """Pictures that know which of them were read."""

    def __init__(self, pictures: Sequence[Array]) -> None:
        self._pictures = pictures
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Array:  # type: ignore[override]
        self.read.add(int(index))
        return self._pictures[index]


@dataclass
class Score:
    """What a spotter did on the clips of one disturbance: lists over the clips."""

    errors: list[float]
    looked: list[int]
    seconds: list[float]


def main() -> None:
    arguments = _arguments()
    cv2.setNumThreads(1)
    table: dict[str, dict[str, Score]] = {name: {} for name in SPOTTERS}
    for what, disturbed in DISTURBED.items():
        clips = [made_up(seed, arguments.amplitude, **disturbed) for seed in range(arguments.clips)]
        for name, (module, options) in SPOTTERS.items():
            table[name][what] = _score(plugins.load("spotting", module), options, clips)
    _print(table, arguments.clips)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=12, help="of each disturbance")
    parser.add_argument("--amplitude", type=float, default=1.5, help="pixels")
    return parser.parse_args()


def _score(spotter: Any, options: Mapping[str, Any], clips: Sequence[tuple[FaceClip, int, int]]) -> Score:
    score = Score([], [], [])
    for face, first, last in clips:
        counted = Counted(face.frames)
        start = time.perf_counter()
        (moment,) = spotter.locate(replace(face, frames=counted), spotter.Options(**options))
        score.seconds.append(time.perf_counter() - start)
        miss = FRAMES / 2 if moment.apex is None else max(first - moment.apex, moment.apex - last, 0)
        score.errors.append(miss)
        score.looked.append(len(counted.read))
    return score


def _print(table: Mapping[str, Mapping[str, Score]], clips: int) -> None:
    print(f"Mean apex error in frames, {clips} clips of {FRAMES} frames each; frames looked at; ms a clip")
    print(f"{'':30s}" + "".join(f"{what:>12s}" for what in DISTURBED) + f"{'looked at':>12s}{'ms':>8s}")
    for name, scores in table.items():
        looked = np.mean([score.looked for score in scores.values()])
        spent = 1000 * np.median([score.seconds for score in scores.values()])
        errors = "".join(f"{np.mean(score.errors):12.1f}" for score in scores.values())
        print(f"{name:30s}{errors}{looked:12.1f}{spent:8.1f}")


def made_up(
    seed: int, amplitude: float, noise: float = 2, weaker: float = 1, **disturbed: float
) -> tuple[FaceClip, int, int]:
    """A clip with landmarks, and the first and last frame of its hold.

    Args:
        seed: of everything random.
        amplitude: of the motion, pixels, times `weaker`.
        noise: standard deviation of the sensor's noise, grey levels.
        disturbed: drift (amplitude of the head, pixels), flicker (of the light, share), blink (1: there is one).
    """
    rng = np.random.default_rng(seed)
    rise, hold, fall = (int(rng.integers(*bounds)) for bounds in ((8, 25), (3, 9), (10, 30)))
    moved = _course(rise, hold, fall)
    points, large = schematic(), _texture(rng, SIDE + 2 * MARGIN)
    field = amplitude * weaker * _field(rng, points)
    head, light = _head(rng, disturbed.get("drift", 0)), 1 + disturbed.get("flicker", 0) * np.sin(np.arange(FRAMES))
    closed = range(at := int(rng.integers(10, FRAMES - 15)), at + 8) if disturbed.get("blink") else range(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    pictures = []
    for time_ in range(FRAMES):
        u, v = (MARGIN + at - head[time_, axis] - moved[time_] * field[axis] for axis, at in enumerate((x, y)))
        picture = cv2.remap(large, u.astype(np.float32), v.astype(np.float32), cv2.INTER_CUBIC) * light[time_]
        if time_ in closed:
            picture = picture * _lids(points + head[time_], x, y)
        picture = np.clip(np.round(picture + noise * rng.normal(size=picture.shape)), 0, 255).astype(np.uint8)
        pictures.append(np.repeat(picture[..., None], 3, axis=2))
    landmarks = points + head[:, None] + 0.3 * rng.normal(size=(FRAMES, 68, 2))
    files = tuple(Path(f"{index}.png") for index in range(FRAMES))
    clip = Clip("made_up", "s", f"c{seed}", files, fps=200, onset=0, offset=FRAMES - 1)
    face = FaceClip(clip, None, pictures, landmarks.astype(np.float32))
    return face, ONSET + rise, ONSET + rise + hold


def schematic() -> Array:
    """(68, 2) landmarks of a drawn face on a picture of SIDE x SIDE."""

    def arc(left: float, right: float, y: float, bend: float, count: int) -> Array:
        at = np.linspace(0, 1, count)
        return np.stack([left + (right - left) * at, y + 4 * bend * at * (1 - at)], axis=1)

    def ring(x: float, y: float, width: float, height: float, count: int) -> Array:
        angle = np.pi + 2 * np.pi * np.arange(count) / count
        return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)

    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + 0.42 * np.cos(angle), 0.45 + 0.5 * np.sin(angle)], axis=1)
    ridge = np.stack([np.full(4, 0.5), np.linspace(0.4, 0.56, 4)], axis=1)
    parts = [
        jaw, arc(0.2, 0.42, 0.3, -0.04, 5), arc(0.58, 0.8, 0.3, -0.04, 5), ridge, arc(0.44, 0.56, 0.62, 0.01, 5),
        ring(0.32, 0.4, 0.065, 0.025, 6), ring(0.68, 0.4, 0.065, 0.025, 6),
        ring(0.5, 0.77, 0.13, 0.045, 12), ring(0.5, 0.77, 0.09, 0.02, 8),
    ]  # fmt: skip
    return np.asarray(SIDE * np.concatenate(parts))


def _texture(rng: np.random.Generator, side: int) -> Array:
    """Grey levels around 130: fine, middle and coarse noise."""
    layers = [
        weight * cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), sigma)
        for sigma, weight in ((1.2, 0.6), (2.5, 2.5), (6, 6))
    ]
    grain = np.sum(layers, axis=0)
    return np.asarray(130 + 28 * (grain - grain.mean()) / grain.std(), np.float32)


def _field(rng: np.random.Generator, points: Array) -> Array:
    """(2, SIDE, SIDE) displacement of one pixel at two places, fading over a tenth of the picture."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    field = np.zeros((2, SIDE, SIDE))
    for place in rng.choice(len(PLACES), 2, replace=False):
        at, *towards = PLACES[place]
        near = np.exp(-((x - points[at, 0]) ** 2 + (y - points[at, 1]) ** 2) / (2 * (0.09 * SIDE) ** 2))
        field += np.asarray(towards)[:, None, None] * near
    return field


def _course(rise: int, hold: int, fall: int) -> Array:
    """(FRAMES,) from 0 to 1 and back along half cosines."""
    at = np.arange(FRAMES) - ONSET
    up, down = np.clip(at / rise, 0, 1), np.clip((at - rise - hold) / fall, 0, 1)
    return np.asarray((np.cos(np.pi * down) - np.cos(np.pi * up)) / 2)


def _head(rng: np.random.Generator, drift: float) -> Array:
    """(FRAMES, 2) slow motion from 0, pixels."""
    at, phases = np.arange(FRAMES) / FRAMES, rng.uniform(0, 2 * np.pi, 2)
    waves = [
        np.sin(2 * np.pi * turns * at + phase) - np.sin(phase) for turns, phase in zip((1.3, 0.9), phases, strict=True)
    ]
    return drift * np.stack(waves, axis=1)


def _lids(points: Array, x: Array, y: Array) -> Array:
    """A factor that darkens the eyes."""
    eyes = (points[36:42].mean(axis=0), points[42:48].mean(axis=0))
    return np.asarray(np.prod([1 - 0.6 * np.exp(-(((x - a) / 9) ** 2 + ((y - b) / 4) ** 2) / 2) for a, b in eyes], 0))


if __name__ == "__main__":
    main()
