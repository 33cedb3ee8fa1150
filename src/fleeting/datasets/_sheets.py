"""Annotation sheets joined with folders of pictures: what the loaders of raw corpora share.

A loader normalises the rows of its sheet to dictionaries of text with the keys ``subject, clip, onset, apex,
offset, emotion, action_units`` (frame numbers as the sheet counts them), corrects them (`_fixes`), and `build` turns
each row and its folder into a `Clip` whose indices are 0-based positions.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fleeting.datasets._workbooks import find, folder, found, looks_like, subfolders, table
from fleeting.errors import UserError
from fleeting.records import Clip

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
_NONE = ("", "/", "?")
_UNITS = re.compile(r"[+,](?![^()]*\))")


def number(text: str) -> int | None:
    """A frame number: "46", "46.0" and "046" are 46; "", "/" and "?" are None.

    Raises:
        UserError: anything else.
    """
    stripped = text.strip()
    if stripped in _NONE:
        return None
    match = re.fullmatch(r"([+-]?\d+)(\.0*)?", stripped)
    if not match:
        raise UserError(f"want a frame number, got {text!r}; correct the sheet")
    return int(match[1])


def units(text: str) -> tuple[str, ...]:
    """Action units as the sheet writes them, split at "+" and "," outside brackets: "(R6 or R12)+R15" are two."""
    return tuple(part.strip() for part in _UNITS.split(text) if part.strip())


def rowless(frames: Path, known: Callable[[Path], bool]) -> list[str]:
    """A line that names the clips' folders (``frames/<subject>/<clip>``) which no row of the sheet knows, if any."""
    found = [clip for subject in subfolders(frames) for clip in subfolders(subject)]
    extra = [f"{clip.parent.name}/{clip.name}" for clip in found if not known(clip)]
    return [f"folders without a row, left out: {len(extra)} ({', '.join(extra)})"] if extra else []


def pictures(folder: Path) -> dict[int, Path]:
    """Frame number -> picture, in the order of the numbers; other files, shortcuts and hidden files are ignored.

    The number is the last run of digits in the name, so "img46.jpg", "reg_img46.jpg", "006_05562.jpg" and
    "00046.png" need no pattern.

    Raises:
        UserError: no such folder, or two pictures have the same number.
    """
    found: dict[int, Path] = {}
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise UserError(f"want a folder of pictures, got none at {folder}; complete the corpus") from error
    for name in names:
        stem, _, ending = name.rpartition(".")
        digits = re.findall(r"\d+", stem)
        if name.startswith(".") or f".{ending.lower()}" not in _PICTURES or not digits:
            continue
        index = int(digits[-1])
        if index in found:
            raise UserError(
                f"want one picture a frame, got {found[index].name} and {name} in {folder}; keep one of them"
            )
        found[index] = folder / name
    return dict(sorted(found.items()))


def build(
    loader: str, row: Mapping[str, str], folder: Path | None, fps: float | None, shown: Mapping[int, Path] | None = None
) -> Clip:
    """A row of a sheet and its folder of pictures as a clip.

    Frame numbers become positions among the pictures that are there; a gap elsewhere does no harm. A row that
    does not fit its folder becomes a clip with a `problem` that quotes the sheet's numbers.

    Args:
        loader: name of the loader; "<loader>_fixes.csv" is where a row is corrected.
        row: ``subject, clip, onset, apex, offset, emotion, action_units``, corrected; optional: ``dataset`` (where
            the corpus is not named like its loader), ``name`` (of the clip where it is not that of the folder),
            ``part``, ``fps``. An apex of "", "/" or "?" is none.
        folder: of the pictures; None if it was not found.
        fps: of the corpus, where the row has none.
        shown: `pictures` of the folder, for rows that share one.
    """
    fields: dict[str, Any] = {
        "dataset": row.get("dataset") or loader,
        "subject": row["subject"],
        "name": row.get("name") or row["clip"],
        "emotion": row.get("emotion") or None,
        "action_units": units(row.get("action_units", "")),
        "part": row.get("part", ""),
        "fps": float(row["fps"]) if row.get("fps") else fps,
    }
    try:
        marks = _marks(row, f"fix the row or add it to {loader}_fixes.csv")
        frames = _frames(row["clip"], folder, shown)
        onset, apex, offset = (_place(mark, frames, loader) for mark in marks)
    except UserError as error:
        return Clip(**fields, frames=None, problem=str(error))
    return Clip(**fields, frames=tuple(frames.values()), onset=onset, apex=apex, offset=offset)


def _marks(row: Mapping[str, str], mend: str) -> list[tuple[str, int | None]]:
    """(field, frame number) of onset, apex and offset, in order."""
    try:
        onset, apex, offset = (number(row[field]) for field in ("onset", "apex", "offset"))
    except UserError as error:
        raise UserError(f"{str(error).partition(';')[0]}; {mend}") from error
    if onset is None or offset is None:
        raise UserError(f"want an onset and an offset, got {row['onset']!r} and {row['offset']!r}; {mend}")
    if not onset <= (onset if apex is None else apex) <= offset:
        got = ", ".join("/" if value is None else str(value) for value in (onset, apex, offset))
        raise UserError(f"want onset <= apex <= offset, got {got}; {mend}")
    return [("onset", onset), ("apex", apex), ("offset", offset)]


def _frames(clip: str, folder: Path | None, shown: Mapping[int, Path] | None) -> Mapping[int, Path]:
    if folder is None:
        raise UserError(f"want a folder of pictures for {clip}, got none; complete the corpus")
    found = pictures(folder) if shown is None else shown
    if not found:
        raise UserError(f"want pictures, got none in {folder}; complete the corpus")
    return found


def _place(mark: tuple[str, int | None], frames: Mapping[int, Path], loader: str) -> int | None:
    """Position of a frame number among the pictures."""
    field, index = mark
    if index is None:
        return None
    numbers = list(frames)
    if index not in frames:
        raise UserError(
            f"want the picture of {field} {index}, got {len(numbers)} pictures from {numbers[0]} to {numbers[-1]} in "
            f"{frames[numbers[0]].parent} without it; fix the row or add it to {loader}_fixes.csv"
        )
    return numbers.index(index)


__all__ = ["build", "find", "folder", "found", "looks_like", "number", "pictures", "subfolders", "table", "units"]
