"""A simulated corpus: drawn faces that move by action units, laid out like a real one, with the truth beside it.

Layout: ``annotations.csv`` (a row a clip), ``frames/<subject>/<clip>/img00001.jpg`` and on, and for each clip
``truth/<subject>/<clip>.npz`` with the true flow from onset to apex. Frame numbers begin with 1, as CASME II's do.

An emotion is a set of action units of which a clip shows some; units belong to several emotions, are one-sided at
times, differ in strength between subjects, and others come along by chance. So the classes overlap, as in real corpora.
Which units an emotion has follows EMFACS (Friesen and Ekman, 1983); how likely each is, is ours.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydantic import BaseModel, Field

from fleeting import files
from fleeting.errors import UserError
from fleeting.records import Array, Clip, Info, unique
from fleeting.simulation import Disturbance, Expression, Scene

_TABLE, _FRAMES, _TRUTH = "annotations.csv", "frames", "truth"
_COLUMNS = (
    "subject", "clip", "onset", "apex", "offset", "emotion", "action_units", "amplitudes_px", "fps", "frames", "hold",
    "height", "width", "drift_px", "drift", "noise", "flicker", "blinks", "seed",
)  # fmt: skip
# nine clips of a subject: as unbalanced as MEGC2019
_EMOTIONS = ("disgust", "happiness", "surprise", "anger", "disgust", "happiness", "contempt", "surprise", "sadness")
# emotion -> action unit -> how likely a clip shows it
_SHOWS: dict[str, dict[str, float]] = {
    "anger": {"4": 0.8, "7": 0.5, "23": 0.3, "24": 0.3, "17": 0.2, "5": 0.15},
    "contempt": {"R14": 0.5, "L14": 0.4, "R12": 0.25, "10": 0.15},
    "disgust": {"9": 0.5, "10": 0.45, "4": 0.5, "7": 0.4, "15": 0.15, "17": 0.25, "25": 0.1},
    "happiness": {"12": 0.65, "6": 0.45, "L12": 0.2, "25": 0.25, "7": 0.15, "10": 0.1},
    "sadness": {"1": 0.5, "4": 0.4, "15": 0.5, "17": 0.35, "11": 0.2},
    "surprise": {"1": 0.55, "2": 0.65, "5": 0.35, "25": 0.25, "26": 0.25, "R2": 0.15},
}
_BY_CHANCE = 0.04  # of each other unit
_UNEVEN = 0.25  # of the units of two sides: half of these show on one side only, the others half as strong on one
_CENTRAL = ("17", "24", "25", "26")  # on the midline: they have no sides

INFO = Info(
    title="Simulated faces with known flow",
    paper="drawn by fleeting from one photograph (NASA, public domain); no publication",
    licence="Apache-2.0, like fleeting; the photograph is in the public domain",
    request="https://pypi.org/project/fleeting (drawn on your machine: fleeting demo)",
    counts={
        "simulated": {
            "anger": 8, "contempt": 8, "disgust": 16, "happiness": 16, "sadness": 8, "surprise": 16,
        }
    },
    subjects={"simulated": 8},
)  # fmt: skip


class Options(BaseModel, frozen=True, extra="forbid"):
    """What is drawn; the defaults are the corpus of the demonstration.

    Attributes:
        subjects, clips: number of subjects, and of clips a subject.
        height, width: of the recording, px; the face is about .62 of the height.
        fps: frames a second.
        amplitude_px: least and largest motion of an action unit at the apex, px of a face 224 px high.
        drift_px, drift: reach of the head's motion, px of a face 224 px high, and its kind.
        noise: standard deviation of the sensor's noise, of 255.
        flicker: amplitude of the light's changes, as a share.
        blinks: how likely a clip holds a blink.
        seed: the same seed draws the same bytes.
    """

    subjects: int = Field(8, ge=1, le=500)
    clips: int = Field(9, ge=1, le=500)
    height: int = Field(240, ge=64, le=1200)
    width: int = Field(320, ge=64, le=1600)
    fps: float = Field(100, gt=0)
    amplitude_px: tuple[float, float] = (0.25, 2.0)
    drift_px: float = Field(1.0, ge=0)
    drift: Literal["linear", "smooth"] = "smooth"
    noise: float = Field(1.5, ge=0)
    flicker: float = Field(0.01, ge=0, lt=1)
    blinks: float = Field(0.15, ge=0, le=1)
    seed: int = Field(0, ge=0)


def load(root: Path) -> list[Clip]:
    """The clips in the order of the table.

    Raises:
        UserError: no table, or one without the columns; a clip named twice. A clip whose frames are missing has
            a `problem`.
    """
    return [_clip(root, row) for row in _rows(root)]


def is_standin(root: Path) -> bool:
    """True: nobody should take a result on drawn faces for one on people."""
    return (root / _TABLE).is_file()


def write_standin(root: Path) -> None:
    """A tiny one: three subjects, three clips each, small frames.

    Raises:
        UserError: the folder holds something else.
    """
    write(root, Options(subjects=3, clips=3, height=120, width=160))


def write(
    root: Path,
    options: Options | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
    jobs: int = 2,
) -> None:
    """Draws the corpus; clips that are there already are kept, so an interrupted drawing goes on.

    Args:
        root: folder, made if absent.
        options: what is drawn.
        progress: called with (clips done, clips in all).
        jobs: threads.

    Raises:
        UserError: the folder holds something else, or another corpus of drawn faces; a full disk.
    """
    table = _text(list(_planned(options or Options())))
    path = root / _TABLE
    if path.is_file() and path.read_text(encoding="utf-8") != table:
        raise UserError(f"{root}: want a new folder, got other drawn faces; choose another folder or delete this one")
    if not path.is_file() and root.is_dir() and any(root.iterdir()):
        raise UserError(f"{root}: want a new folder for drawn faces, got one with other files; choose another folder")
    files.write_text(path, table)
    rows = list(_rows(root))
    for left in (root / _FRAMES).rglob(".*.tmp"):  # by a drawing that was killed
        left.unlink(missing_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        for done, _ in enumerate(pool.map(lambda row: _draw(root, row), rows), 1):
            progress(done, len(rows))


def scene(root: Path, clip: Clip) -> Scene:
    """The scene that a clip was drawn from: frames without compression, and the true flow between any two.

    Raises:
        UserError: no such clip in the table.
    """
    for row in _rows(root):
        if (row["subject"], row["clip"]) == (clip.subject, clip.name):
            return _scene(row)
    raise UserError(f"{clip.key}: want a clip of {root / _TABLE}, found none; load the clips from there")


def truth(root: Path, clip: Clip) -> Array:
    """(2, h, w) float32 px: the true flow from onset to apex on the pixels of the onset frame, as stored (float16).

    Raises:
        UserError: the file is missing or damaged.
    """
    path = root / _TRUTH / clip.subject / f"{clip.name}.npz"
    if not path.is_file():
        raise UserError(f"{path}: want the true flow, found no file; draw the corpus again into this folder")
    return np.asarray(files.read_arrays(path)["flow"], np.float32)


def _planned(options: Options) -> Iterator[dict[str, str]]:
    """A row a clip."""
    for subject in range(1, options.subjects + 1):
        style = np.random.default_rng([options.seed, subject])
        habits = {unit: float(np.exp(style.normal(0, 0.35))) for shows in _SHOWS.values() for unit in sorted(shows)}
        for number in range(1, options.clips + 1):
            rng = np.random.default_rng([options.seed, subject, number])
            emotion = _EMOTIONS[(number - 1) % len(_EMOTIONS)]
            yield _planned_clip(options, subject, number, emotion, _chosen(emotion, habits, options, rng), rng)


def _chosen(emotion: str, habits: Mapping[str, float], options: Options, rng: np.random.Generator) -> dict[str, float]:
    """Action unit -> amplitude in px."""
    likely = _SHOWS[emotion]
    everywhere = sorted({unit for shows in _SHOWS.values() for unit in shows})
    shown = [unit for unit, share in likely.items() if rng.random() < share]
    shown = shown or [max(likely, key=lambda unit: likely[unit])]
    shown += [unit for unit in everywhere if unit not in likely and rng.random() < _BY_CHANCE]
    # a side that both sides hold already would move twice
    shown = [unit for unit in shown if unit.lstrip("LR") == unit or unit[1:] not in shown]
    low, high = options.amplitude_px
    found = {}
    for unit in shown:
        strength = np.exp(rng.normal(np.log(0.75), 0.5)) * habits[unit]
        amplitude = float(np.clip(strength, low, high))
        if unit[0] in "LR" or unit in _CENTRAL or rng.random() >= _UNEVEN:
            found[unit] = amplitude
            continue
        strong, weak = rng.permutation(["L", "R"])
        found[f"{strong}{unit}"] = amplitude
        if rng.random() < 0.5:
            found[f"{weak}{unit}"] = max(low, 0.5 * amplitude)
    return found


def _planned_clip(
    options: Options, subject: int, number: int, emotion: str, units: Mapping[str, float], rng: np.random.Generator
) -> dict[str, str]:
    seconds = {
        "before": (0.03, 0.1),
        "rise": (0.06, 0.14),
        "hold": (0.0, 0.05),
        "fall": (0.08, 0.18),
        "after": (0.02, 0.08),
    }
    lasts = {name: max(1, round(rng.uniform(*span) * options.fps)) for name, span in seconds.items()}
    onset = lasts["before"]
    apex = onset + lasts["rise"]
    offset = apex + lasts["hold"] + lasts["fall"]
    count = offset + lasts["after"] + 1
    blinks = [int(rng.integers(count))] if rng.random() < options.blinks else []
    values = (
        f"s{subject:02d}", f"c{number:02d}", onset + 1, apex + 1, offset + 1, emotion, "+".join(units),
        "+".join(f"{amplitude:.3f}" for amplitude in units.values()), options.fps, count, lasts["hold"], options.height,
        options.width, options.drift_px, options.drift, options.noise, options.flicker,
        "+".join(str(place) for place in blinks), int(rng.integers(2**31)),
    )  # fmt: skip
    return {name: str(value) for name, value in zip(_COLUMNS, values, strict=True)}


def _scene(row: Mapping[str, str]) -> Scene:
    onset, apex, offset = (int(row[place]) - 1 for place in ("onset", "apex", "offset"))
    amplitudes = [float(amplitude) for amplitude in row["amplitudes_px"].split("+")]
    units = dict(zip(row["action_units"].split("+"), amplitudes, strict=True))
    return Scene(
        length=int(row["frames"]),
        expression=Expression(onset, apex, offset, units, int(row["hold"])),
        subject=int(row["subject"].lstrip("s")),
        size=(int(row["height"]), int(row["width"])),
        disturbance=Disturbance(
            drift_px=float(row["drift_px"]),
            drift="linear" if row["drift"] == "linear" else "smooth",
            noise=float(row["noise"]),
            flicker=float(row["flicker"]),
            blinks=tuple(int(place) for place in row["blinks"].split("+") if place),
        ),
        fps=float(row["fps"]),
        seed=int(row["seed"]),
    )


def _draw(root: Path, row: Mapping[str, str]) -> None:
    """The frames of one clip, then its truth, whose file says that the clip is whole."""
    done = root / _TRUTH / row["subject"] / f"{row['clip']}.npz"
    if done.is_file():
        return
    drawn = _scene(row)
    for index in range(len(drawn)):
        _, data = cv2.imencode(".jpg", drawn[index][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        with files.replacing(_frame(root, row, index)) as temporary:
            temporary.write_bytes(data.tobytes())
    flow = drawn.flow(drawn.expression.onset, drawn.expression.apex).astype(np.float16)
    with files.replacing(done) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, flow=flow)


def _frame(root: Path, row: Mapping[str, str], index: int) -> Path:
    return root / _FRAMES / row["subject"] / row["clip"] / f"img{index + 1:05d}.jpg"


def _clip(root: Path, row: Mapping[str, str]) -> Clip:
    frames = tuple(_frame(root, row, index) for index in range(int(row["frames"])))
    missing = [path for path in frames if not path.is_file()]
    if missing:
        problem = f"want {len(frames)} frames, found no {missing[0].name} in {missing[0].parent}; draw the corpus again"
        return Clip("simulated", row["subject"], row["clip"], None, emotion=row["emotion"], problem=problem)
    onset, apex, offset = (int(row[place]) - 1 for place in ("onset", "apex", "offset"))
    return Clip(
        "simulated",
        row["subject"],
        row["clip"],
        frames,
        fps=float(row["fps"]),
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=row["emotion"],
        action_units=tuple(row["action_units"].split("+")),
    )


def _rows(root: Path) -> list[dict[str, str]]:
    path = root / _TABLE
    if not path.is_file():
        raise UserError(f"{path}: want the table of drawn clips, found no file; draw the corpus with: fleeting demo")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    missing = set(_COLUMNS) - set(rows[0] if rows else ())
    if missing:
        raise UserError(
            f"{path}: want columns {', '.join(_COLUMNS)}, found no {sorted(missing)}; draw the corpus again"
        )
    unique(f"{row['subject']}/{row['clip']}" for row in rows)
    return rows


def _text(rows: list[dict[str, str]]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
