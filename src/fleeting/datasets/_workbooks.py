"""Finding and reading an annotation workbook: xls, xlsx or CSV, as text, wherever its header stands."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from pathlib import Path

from fleeting.errors import UserError
from fleeting.records import Info

_DEPTH = 2  # folders below the root in which a workbook is looked for
# what lies in the roots of the corpora, for one that was given as another; the first that matches is named
_SIGNS = {
    # before the others: its pictures are named after clips of three corpora
    "the published flow of MEGC2019 (megc2019_flow)": ("combined_3_class2_for_optical_flow.csv",),
    "SAMM long videos": ("samm_longvideos*", "samm*long*.xls*"),
    "SAMM": ("*samm*facs*.xls*",),
    "CAS(ME)^3": ("cas(me)3*", "cas(me)^3*", "casme3*", "part_a"),
    "CAS(ME)^2": ("cas(me)2*", "cas(me)^2*"),
    "DFME": ("dfme*", "sub[0-9][0-9][0-9][0-9]_[0-9][0-9]"),
    "CASME II": ("casme2*.xls*", "casme2_raw*", "casme2-raw*"),
    "SMIC": ("smic*",),
    "MMEW": ("mmew*",),
}


def find(root: Path, patterns: Sequence[str], info: Info) -> Path:
    """The annotation workbook of a corpus.

    Args:
        root: the corpus' folder; it and two levels below are searched.
        patterns: of the file's name, in the order of preference, letter case ignored ("*samm*.xls*").
        info: of the corpus that is wanted, for the message.

    Raises:
        UserError: nothing matches (it says which other corpus the folder looks like), or two files at one depth
            match the same pattern and differ.
    """
    path = found(root, patterns)
    if path is None:
        raise UserError(
            f"{root}: want the annotations of {info.title} ({patterns[0]}), found {_instead(root, info)}; "
            f"point the root at the corpus' folder, or ask for the corpus at {info.request}"
        )
    return path


def found(root: Path, patterns: Sequence[str]) -> Path | None:
    """As `find`, for a workbook that may be absent: None where nothing matches.

    Raises:
        UserError: two files at one depth match the same pattern and differ.
    """
    for pattern in patterns:
        for level in _levels(root):
            matching = [path for path in level if _matches(path, pattern) and path.is_file()]
            if matching:
                return _only(matching, pattern)
    return None


def folder(root: Path, patterns: Sequence[str], holding: str, without: Sequence[str] = ()) -> Path | None:
    """The first folder at or below the root whose name matches and that holds a folder of another name pattern.

    Args:
        root: it and the folders two levels below are searched, the nearest first.
        patterns: of the folder's name, in the order of preference, letter case ignored.
        holding: pattern of what must lie in it ("sub[0-9]*"); so a folder that an archive packed once more is
            looked through.
        without: patterns of folders below the root that are passed over with all that lies in them.
    """
    for pattern in patterns:
        for level in chain([[root]], _levels(root)):
            for path in (path for path in level if _matches(path, pattern) and not _below(root, path, without)):
                if any(_matches(inner, holding) for inner in subfolders(path)):
                    return path
    return None


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, in the order of their names; hidden ones left out, none where there is no folder."""
    return [Path(entry.path) for entry in _entries(path) if entry.is_dir()]


def looks_like(root: Path) -> str:
    """Which corpus lies below a root by the names of its files and folders; "" if that cannot be told."""
    names = [path.name.lower() for level in _levels(root) for path in level]
    for title, patterns in _SIGNS.items():
        if any(fnmatchcase(name, pattern) for name in names for pattern in patterns):
            return title
    return ""


def table(
    path: Path, columns: Mapping[str, tuple[str, ...]], sheet: str | None = None, optional: Iterable[str] = ()
) -> list[dict[str, str]]:
    """The rows of a workbook (xls, xlsx) or CSV file as text.

    The header is the first row that names every wanted column, so rows above it and blank columns do no harm.
    Cells are stripped, "" where empty; whole numbers carry no ".0". Rows that are empty in all wanted columns
    are left out.

    Args:
        path: the file.
        columns: key in the result -> titles under which the column is known, letter case and blanks at the ends
            ignored.
        sheet: name of the sheet, letter case ignored; None for the first one with such a header.
        optional: keys that may be absent; they are then "".

    Raises:
        UserError: the file cannot be read, there is no such sheet, or a column is missing.
    """
    aliases = {key: {_title(title) for title in titles} for key, titles in columns.items()}
    required = set(columns) - set(optional)
    missing = required
    for cells in _sheets(path, sheet):
        for line, row in enumerate(cells):
            places = _places(row, aliases)
            if required <= places.keys():
                return _records(cells[line + 1 :], places, columns)
            missing = min(missing, required - places.keys(), key=len)
    titles = ", ".join(repr(columns[key][0]) for key in columns if key in missing)
    where = f"{path}, sheet {sheet!r}" if sheet else str(path)
    raise UserError(f"{where}: want a header row with all columns, found no {titles}; use the corpus' own sheet")


def _levels(root: Path) -> Iterator[list[Path]]:
    """The entries of the root, then those one and two folders down; hidden and lock files left out."""
    folders = [root]
    for _ in range(_DEPTH + 1):
        entries = [entry for folder in folders for entry in _entries(folder)]
        yield [Path(entry.path) for entry in entries]
        folders = [Path(entry.path) for entry in entries if entry.is_dir()]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    return [entry for entry in entries if not entry.name.startswith((".", "~$"))]


def _matches(path: Path, pattern: str) -> bool:
    return fnmatchcase(path.name.lower(), pattern.lower())


def _below(root: Path, path: Path, patterns: Iterable[str]) -> bool:
    """Whether the path is, or lies in, a folder below the root that matches."""
    names = [name.lower() for name in path.relative_to(root).parts]
    return any(fnmatchcase(name, pattern.lower()) for name in names for pattern in patterns)


def _only(matching: list[Path], pattern: str) -> Path:
    first, *others = matching
    for other in others:
        if other.read_bytes() != first.read_bytes():
            raise UserError(f"{first}: want one workbook of the name {pattern}, got {other} too; keep one of them")
    return first


def _instead(root: Path, info: Info) -> str:
    if not root.is_dir():
        return "no such folder"
    corpus = looks_like(root)
    return f"what looks like {corpus}" if corpus and corpus not in info.title else "none"


def _sheets(path: Path, sheet: str | None) -> Iterator[list[list[str]]]:
    """The cells of one sheet, or of all in turn."""
    if path.suffix.lower() == ".csv":
        yield _csv(path)
        return
    import pandas

    try:
        with pandas.ExcelFile(path, engine="calamine") as book:
            wanted = [str(name) for name in book.sheet_names if sheet in (None, name) or _same(str(name), sheet)]
            frames = [
                pandas.read_excel(book, sheet_name=name, header=None, dtype=object, keep_default_na=False)
                for name in wanted
            ]
    except Exception as error:  # calamine's own exceptions, zipfile's and the system's
        raise UserError(f"{path}: want an Excel workbook, cannot read it ({error}); copy it again") from error
    if not frames:
        raise UserError(f"{path}: want a sheet {sheet!r}, got {list(book.sheet_names)}; use the corpus' own workbook")
    for frame in frames:
        yield [[_text(cell) for cell in row] for row in frame.to_numpy().tolist()]


def _csv(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return [[cell.strip() for cell in row] for row in csv.reader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: want a CSV file in UTF-8, cannot read it ({error}); copy it again") from error


def _same(name: str, wanted: str | None) -> bool:
    return wanted is not None and name.strip().lower() == wanted.strip().lower()


def _text(cell: object) -> str:
    if cell is None or cell != cell:  # NaN is not itself
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _title(text: str) -> str:
    return " ".join(text.lower().split())


def _places(row: Sequence[str], aliases: Mapping[str, set[str]]) -> dict[str, int]:
    """Key -> number of its column, the first where two bear its title."""
    titles = [_title(cell) for cell in row]
    places = {key: [i for i, title in enumerate(titles) if title in known] for key, known in aliases.items()}
    return {key: found[0] for key, found in places.items() if found}


def _records(rows: Iterable[Sequence[str]], places: Mapping[str, int], keys: Iterable[str]) -> list[dict[str, str]]:
    keys = list(keys)
    records = [
        {key: row[places[key]] if key in places and places[key] < len(row) else "" for key in keys} for row in rows
    ]
    return [record for record in records if any(record.values())]


__all__ = ["find", "folder", "found", "looks_like", "subfolders", "table"]
