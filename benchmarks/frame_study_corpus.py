"""Draws a CASME II for the frame study in small: its classes in its numbers, its layout, faces that are drawn.

    python benchmarks/frame_study_corpus.py drawn/casme2
    FLEETING_CASME2=drawn/casme2 fleeting run experiments/frame_study/vit_af_m1_small.toml

255 clips as in the sheet (99, 63, 32, 27, 25, 7, 2), dealt to ten subjects, who differ in how they are lit and shaped.
The camera stands as in CASME II: by the landmarks that were published for its first frames, the middle of a face is
.13 of the height below the middle of the frame, and .04 of it here or there from subject to subject. At 240 x 320 half
the size. Emotions are action units by chance, so classes overlap; amplitudes are those of everyday expressions and not
of micro-expressions, because a network of a thousandth of the size, at an eighth of the pixels, has to see them in
single frames. At a median of 12 px a Swin of that size told frames in colours apart no better than dice (.19), at 24 px
a little better (.29); the study in small is run there. What is found on these faces says nothing about people, and the
folder is marked as made up.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from fleeting import files
from fleeting.datasets import _standins, casme2
from fleeting.simulation import Disturbance, Expression, Scene

SIZE, ROOM = (240, 320), (264, 352)  # of a frame, and of what is drawn around it, px
MIDDLE = (-3.0, 0.0)  # of the window in that room, from the room's middle, down and right, px
WANDERS = (7.0, 9.0), (4.0, 5.0)  # standard deviations of a subject's and a clip's window, px
# emotion -> action unit -> how likely a clip shows it
SHOWS: dict[str, dict[str, float]] = {
    "others": {"4": 0.75, "7": 0.35, "24": 0.2, "L12": 0.15, "R14": 0.15},
    "disgust": {"9": 0.5, "10": 0.5, "4": 0.45, "7": 0.4, "17": 0.15},
    "happiness": {"12": 0.75, "6": 0.45, "L12": 0.15, "25": 0.2},
    "repression": {"17": 0.6, "15": 0.45, "14": 0.35, "24": 0.2},
    "surprise": {"1": 0.55, "2": 0.65, "5": 0.35, "25": 0.25, "26": 0.25},
    "sadness": {"1": 0.6, "4": 0.4, "15": 0.5, "11": 0.2},
    "fear": {"1": 0.6, "4": 0.5, "20": 0.5, "5": 0.4},
}
BY_CHANCE = 0.03  # of each other unit
_TITLES = ("Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Action Units", "Estimated Emotion")


@dataclass(frozen=True)
class Planned:
    """A clip to be drawn: frames 0 to `offset`, the onset is the first; `window` is its upper left corner, px."""

    subject: int
    name: str
    emotion: str
    units: Mapping[str, float]
    apex: int
    offset: int
    window: tuple[int, int]
    seed: int


def planned(counts: Mapping[str, int], subjects: int, amplitude_px: float, seed: int) -> Iterator[Planned]:
    """The clips, dealt to the subjects class by class so that everybody shows the frequent ones.

    Args:
        counts: class -> clips.
        subjects: how many.
        amplitude_px: median of the units at the apex, px of a face 224 px high.
        seed: the same seed plans the same clips.
    """
    places = {who: np.random.default_rng([seed, who]).normal(MIDDLE, WANDERS[0]) for who in range(1, subjects + 1)}
    words = [word for word, count in counts.items() for _ in range(count)]
    for number, word in enumerate(words):
        rng = np.random.default_rng([seed, 0, number])
        subject = number % subjects + 1
        window = np.rint(np.add(ROOM, 0) / 2 - np.divide(SIZE, 2) + rng.normal(places[subject], WANDERS[1]))
        corner = np.clip(window, 0, np.subtract(ROOM, SIZE)).astype(int)
        rise, fall = int(rng.integers(7, 14)), int(rng.integers(9, 16))
        units = _units(word, amplitude_px, rng)
        place = int(corner[0]), int(corner[1])
        yield Planned(subject, f"EP{number:03d}", word, units, rise, rise + fall, place, int(rng.integers(2**31)))


def _units(word: str, amplitude_px: float, rng: np.random.Generator) -> dict[str, float]:
    likely = SHOWS[word]
    shown = [unit for unit, share in likely.items() if rng.random() < share] or [max(likely, key=lambda u: likely[u])]
    every = sorted({unit for shows in SHOWS.values() for unit in shows})
    shown += [unit for unit in every if unit not in likely and rng.random() < BY_CHANCE]
    shown = [unit for unit in shown if unit.lstrip("LR") == unit or unit[1:] not in shown]  # no side moves twice
    return {unit: float(amplitude_px * np.exp(rng.normal(0, 0.3))) for unit in shown}


def write(root: Path, plan: list[Planned]) -> None:
    """Draws what is not there yet; the sheet comes last and says that all is.

    Raises:
        UserError: the folder holds something else.
    """
    _standins.begin(root)
    for number, clip in enumerate(plan, 1):
        _draw(root / "CASME2_RAW_selected" / f"sub{clip.subject:02d}" / clip.name, clip)
        print(f"\r{number} of {len(plan)} clips", end="", file=sys.stderr)
    print(file=sys.stderr)
    stream = io.StringIO(newline="")
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_TITLES)
    for clip in plan:
        marks = (1, clip.apex + 1, clip.offset + 1)
        table.writerow([f"{clip.subject:02d}", clip.name, *marks, "+".join(clip.units), clip.emotion])
    files.write_text(root / "CASME2-coding.csv", stream.getvalue())


def _draw(folder: Path, clip: Planned) -> None:
    last = folder / f"img{clip.offset + 1}.jpg"
    if last.is_file():
        return
    top, left = clip.window
    scene = Scene(
        length=clip.offset + 1,
        expression=Expression(0, clip.apex, clip.offset, clip.units, 2),
        subject=clip.subject,
        size=ROOM,
        disturbance=Disturbance(drift_px=1.0, noise=1.5, flicker=0.01),
        seed=clip.seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(len(scene)):
        frame = scene[index][top : top + SIZE[0], left : left + SIZE[1], ::-1]
        _, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])
        with files.replacing(folder / f"img{index + 1}.jpg") as temporary:
            temporary.write_bytes(data.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder to draw into")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--amplitude", type=float, default=24.0, help="median, px of a face 224 px high")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    write(given.root, list(planned(casme2.INFO.counts["casme2"], given.subjects, given.amplitude, given.seed)))


if __name__ == "__main__":
    main()
