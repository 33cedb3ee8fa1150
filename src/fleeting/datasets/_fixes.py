"""Corrections of a corpus' sheet: ``<name>_fixes.csv`` in the package, and a user's own of that name in the root.

A line names a row by subject, clip and onset, gives what the row should say, and why. Nothing in such a file is passed
over: an unknown column, a line that corrects nothing and a user's line that no row answers to are errors.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from fleeting.datasets._sheets import number
from fleeting.errors import UserError, nearest
from fleeting.records import unique

Key = tuple[str, str, str]
Names = Callable[[str, str], tuple[str, str]]
_KEY = ("subject", "clip", "onset")
_FIELDS = ("to_onset", "apex", "offset", "emotion", "action_units")


@dataclass(frozen=True)
class Fix:
    """What a row should say.

    Attributes:
        fields: corrected field of the row -> value as the sheet would write it.
        reason: why the sheet is wrong.
        where: the file that says so.
        written: subject/clip/onset as that file writes them.
        own: whether the file is the user's.
    """

    fields: Mapping[str, str]
    reason: str
    where: str
    written: str
    own: bool


def _as_written(subject: str, clip: str) -> tuple[str, str]:
    return subject, clip


def read(name: str, root: Path | None = None, names: Names = _as_written, also: Sequence[str] = ()) -> dict[Key, Fix]:
    """The corrections of a corpus: (subject, clip, onset of the sheet) -> what the row should say.

    A user's line replaces the packaged line of the same row. An empty cell corrects nothing, "/" takes a number away.

    Args:
        name: of the loader.
        root: of the corpus, where the user's file lies; None for the packaged file only.
        names: (subject, clip) -> how the loader writes them, so that a line may write them as the sheet does or as
            the clip's key does.
        also: columns beside ``to_onset`` (the onset itself is the key), apex, offset, emotion and action_units.

    Raises:
        UserError: a column that is missing or unknown, a line without a reason or a correction, a row twice.
    """
    packaged = resources.files("fleeting.datasets").joinpath(f"{name}_fixes.csv")
    found = {}
    if packaged.is_file():
        found = _read(f"{name}_fixes.csv of the package", packaged.read_text(encoding="utf-8"), names, also, own=False)
    path = root / f"{name}_fixes.csv" if root else None
    if path and path.is_file():
        found |= _read(str(path), _text(path), names, also, own=True)
    return found


def corrected(row: Mapping[str, str], known: Mapping[Key, Fix]) -> dict[str, str]:
    """The row as it should be."""
    fix = of(row, known)
    right = {**row, **(fix.fields if fix else {})}
    right["onset"] = right.pop("to_onset", right["onset"])
    return right


def of(row: Mapping[str, str], known: Mapping[Key, Fix]) -> Fix | None:
    """The correction of a row of the sheet."""
    return known.get(_key(row["subject"], row["clip"], row["onset"]))


def applied(rows: Sequence[Mapping[str, str]], known: Mapping[Key, Fix]) -> list[dict[str, str]]:
    """The rows of a sheet as they should be, in their order.

    A packaged line may answer to no row: copies of a sheet differ.

    Raises:
        UserError: no row answers to a line of the user's file.
    """
    there = {_key(row["subject"], row["clip"], row["onset"]): "/".join(row[field] for field in _KEY) for row in rows}
    for key, fix in known.items():
        if fix.own and key not in there:
            near = get_close_matches("/".join(key), there.values(), n=1, cutoff=0.6)
            hint = f"did you mean {near[0]!r}?" if near else "write subject, clip and onset as the sheet does"
            raise UserError(f"{fix.where}: want rows of the sheet, got {fix.written!r}, which is none; {hint}")
    return [corrected(row, known) for row in rows]


def told(rows: Iterable[Mapping[str, str]], known: Mapping[Key, Fix]) -> list[str]:
    """One line a row that a correction changes, with the reason; a row that says it already is not mentioned."""
    return [line for row in rows if (fix := of(row, known)) and (line := _told(row, fix))]


def _told(row: Mapping[str, str], fix: Fix) -> str:
    was = {field: row.get("onset" if field == "to_onset" else field, "") for field in fix.fields}
    changes = [
        f"{field.removeprefix('to_')} {was[field] or 'none'} to {'none' if value == '/' else value}"
        for field, value in fix.fields.items()
        if value != was[field]
    ]
    place = f"{row['subject']}/{row['clip']} at {row['onset']}"
    return f"{fix.where} corrects {place}: {', '.join(changes)} ({fix.reason})" if changes else ""


def _key(subject: str, clip: str, onset: str) -> Key:
    """ "076518" and "76518.0" are one onset."""
    try:
        return subject, clip, str(number(onset))
    except UserError:
        return subject, clip, onset


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: want a CSV file in UTF-8, cannot read it ({error}); save it again") from error


def _read(where: str, text: str, names: Names, also: Sequence[str], own: bool) -> dict[Key, Fix]:
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    except csv.Error as error:
        raise UserError(f"{where}: want a CSV file, cannot read it ({error}); save it again") from error
    titles, *lines = [row for row in rows if any(row)] or [[]]
    titles = [title.lower() for title in titles]
    _check_titles(where, titles, also)
    found: dict[Key, Fix] = {}
    for line in lines:
        key, fix = _line(where, titles, line, own)
        key = _key(*names(key[0], key[1]), key[2])
        if key in found:
            raise UserError(f"{where}: want one line a row, got {found[key].written} and {fix.written}; keep one")
        found[key] = fix
    return found


def _check_titles(where: str, titles: Sequence[str], also: Sequence[str]) -> None:
    if not {*_KEY, "reason"} <= set(titles):
        raise UserError(f"{where}: want columns subject, clip, onset and reason, got {list(titles)}; add them")
    for title in titles:
        if title and title not in (*_KEY, "reason", *_FIELDS, *also):
            hint = nearest(title, (*_FIELDS, *also))
            raise UserError(f"{where}: want columns that can be corrected, got {title!r}{hint}")
    try:
        unique(title for title in titles if title)
    except UserError as error:
        raise UserError(f"{where}: want every column once, got {list(titles)}; remove one") from error


def _line(where: str, titles: Sequence[str], line: Sequence[str], own: bool) -> tuple[Key, Fix]:
    """The key as it is written, and the correction."""
    cells = {title: cell for title, cell in zip(titles, line, strict=False) if title and cell}
    subject, clip, onset = (cells.pop(field, "") for field in _KEY)
    written = f"{subject}/{clip}/{onset}"
    if any(line[len(titles) :]) or any(cell for title, cell in zip(titles, line, strict=False) if not title):
        raise UserError(f"{where}: want {len(titles)} cells for {written}, got more; quote a cell that holds a comma")
    reason = cells.pop("reason", "")
    if not reason:
        raise UserError(f"{where}: want a reason for {written}, got none; say why the sheet is wrong")
    if not cells:
        raise UserError(f"{where}: want something to correct for {written}, got only a reason; fill in a column")
    return (subject, clip, onset), Fix(cells, reason, where, written, own)


__all__ = ["Fix", "Key", "Names", "applied", "corrected", "of", "read", "told"]
