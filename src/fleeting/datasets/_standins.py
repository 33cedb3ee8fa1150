"""Writing made-up corpora in a real layout: workbooks, frames, and the mark that says so."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array

Cell = str | int | float | None
MARK = "STANDIN.txt"
SIZE = (120, 160)  # height, width of the frames, px
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold: the same bytes every time
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_OOXML = "http://schemas.openxmlformats.org"
_MAIN, _RELATIONS = f"{_OOXML}/spreadsheetml/2006/main", f"{_OOXML}/officeDocument/2006/relationships"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def is_standin(root: Path) -> bool:
    """Whether the folder was written by a loader's `write_standin`."""
    return (root / MARK).is_file()


def begin(root: Path) -> None:
    """Makes the folder and marks it as made up.

    Raises:
        UserError: the folder holds something else.
    """
    if root.is_dir() and any(root.iterdir()) and not is_standin(root):
        raise UserError(f"{root}: want an empty folder for made-up data, got one with files; choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    (root / MARK).write_text("made up by fleeting: the rows are real, the faces are drawn\n", encoding="utf-8")


def write_workbook(path: Path, rows: Iterable[Sequence[Cell]], sheet: str = "Sheet1") -> None:
    """One sheet as an xlsx file (Office Open XML, ECMA-376), the same bytes every time.

    Args:
        path: the file to write.
        rows: cells from the first row on; numbers are written as numbers, None and "" as no cell.
        sheet: its name.
    """
    parts = {
        "[Content_Types].xml": _types(),
        "_rels/.rels": _relation("officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>'
        f'<sheet name="{escape(sheet)}" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relation("worksheet", "worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>{_cells(rows)}</sheetData></worksheet>',
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in parts.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, _XML + text)


def write_frames(folder: Path, pattern: str, pictures: Mapping[int, Array]) -> None:
    """Frame number -> (h, w, 3) RGB or (h, w) grey, uint8, as files named by a pattern ("img{}.jpg", "{:05d}.png")."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in pictures.items():
        path = folder / pattern.format(index)
        colours = picture if picture.ndim == 2 else np.ascontiguousarray(picture[..., ::-1])  # OpenCV's are B, G, R
        _, data = cv2.imencode(path.suffix, colours)
        path.write_bytes(data.tobytes())


def draw(subject: str, moment: tuple[int, int, int], units: Sequence[str]) -> dict[int, Array]:
    """The frames of one drawn expression, from onset to offset.

    Args:
        subject: another face a subject.
        moment: onset, apex, offset as frame numbers; the face moves most at the apex.
        units: action units as a sheet writes them; those that are not known move the mouth.

    Returns:
        Frame number -> `SIZE` (h, w, 3) uint8 RGB.
    """
    onset, apex, offset = moment
    face, moves = _face(zlib.crc32(subject.encode())), _moves(units)
    strength = np.interp(np.arange(onset, offset + 1), *_course(onset, apex, offset))
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    return {
        onset + i: cv2.remap(face, columns - share * moves[0], rows - share * moves[1], cv2.INTER_LINEAR)
        for i, share in enumerate(strength.astype(np.float32))
    }


def grey(picture: Array) -> Array:
    """(h, w, 3) RGB to (h, w), both uint8."""
    shade: Array = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return shade


def _course(onset: int, apex: int, offset: int) -> tuple[list[int], list[float]]:
    """Frame numbers and shares of the full motion: nothing, all, a fifth; all at once where two fall together."""
    course = {onset: 0.0, offset: 0.2, apex: 1.0}
    return sorted(course), [course[index] for index in sorted(course)]


def _face(number: int) -> Array:
    """A plain face, so that nothing is drawn from a photograph of anyone in a corpus."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    wall, skin = rng.uniform(40, 85, 3), rng.uniform(0.6, 1.0) * np.array([225, 180, 150])
    picture = np.broadcast_to(wall, (*SIZE, 3)) + 0.2 * (rows - columns)[..., None]
    width = rng.uniform(0.92, 1.08)

    def put(y: float, x: float, high: float, wide: float, colour: Array) -> None:
        nonlocal picture
        far = ((rows - y) / high) ** 2 + ((columns - 80 - width * x) / wide) ** 2
        share = 1 / (1 + np.exp(np.clip(8 * (far - 1), -40, 40)))[..., None]
        picture = (1 - share) * picture + share * colour

    put(62, 0, 50, 37, skin)
    for side in (-15, 15):
        put(42, side, 2.5, 9, 0.35 * skin)
        put(51, side, 3.5, 6, np.full(3, 235.0))
        put(51, side, 3, 3, np.full(3, 40.0))
    put(66, 0, 8, 4, 0.85 * skin)
    put(88, 0, 4, 14, np.array([170, 70, 75]))
    grain = cv2.GaussianBlur(rng.normal(0, 14, (*SIZE, 3)), (0, 0), 1.2)
    drawn: Array = np.clip(np.round(picture + grain), 0, 255).astype(np.uint8)
    return drawn


def _moves(units: Sequence[str]) -> Array:
    """(2, h, w) float32: (u, v) in px at the apex, the sum of a bump an action unit."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    flow = np.zeros((2, *SIZE), np.float32)
    for code in units:
        digits = re.findall(r"\d+", code)
        sides = [side for side, letter in ((1, "L"), (-1, "R")) if letter in code] or [-1, 1]
        y, x, u, v = _BUMPS.get(int(digits[0]) if digits else 0, (88, 12, 0.6, 0.3))
        for side in sides:  # the left half of a face is on the picture's right
            bump = np.exp(-((rows - y) ** 2 + (columns - 80 - side * x) ** 2) / (2 * 8.0**2))
            flow += bump * np.array([side * u, v], np.float32)[:, None, None]
    return flow


# action unit -> row, distance from the middle of the face, motion outwards and down in px
_BUMPS = {
    1: (42, 8, 0.0, -1.5), 2: (42, 20, 0.2, -1.5), 4: (43, 9, -1.2, 0.9), 5: (48, 15, 0.0, -1.0),
    6: (60, 20, 0.0, -1.0), 7: (54, 15, 0.0, -1.0), 9: (62, 5, 0.0, -1.2), 10: (84, 8, 0.0, -1.2),
    12: (87, 14, 1.2, -1.0), 14: (88, 14, 1.2, 0.0), 15: (89, 14, 0.3, 1.3), 17: (98, 0, 0.0, -1.2),
    18: (88, 12, -1.2, 0.0), 20: (88, 14, 1.5, 0.2), 24: (88, 5, -0.3, 0.8), 25: (91, 5, 0.0, 1.2),
    26: (96, 5, 0.0, 1.6), 38: (68, 5, 1.0, 0.0), 43: (50, 15, 0.0, 1.2),
}  # fmt: skip


def _cells(rows: Iterable[Sequence[Cell]]) -> str:
    lines = []
    for number, row in enumerate(rows, 1):
        cells = "".join(_cell(f"{_column(i)}{number}", value) for i, value in enumerate(row) if value not in (None, ""))
        lines.append(f'<row r="{number}">{cells}</row>')
    return "".join(lines)


def _cell(place: str, value: Cell) -> str:
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    return f'<c r="{place}"><v>{value}</v></c>'


def _column(index: int) -> str:
    """0 is A, 25 is Z, 26 is AA."""
    before, letter = divmod(index, 26)
    return (_column(before - 1) if before else "") + chr(ord("A") + letter)


def _types() -> str:
    return (
        f'<Types xmlns="{_OOXML}/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>'
    )


def _relation(kind: str, target: str) -> str:
    return (
        f'<Relationships xmlns="{_OOXML}/package/2006/relationships">'
        f'<Relationship Id="rId1" Type="{_RELATIONS}/{kind}" Target="{target}"/></Relationships>'
    )


__all__ = ["MARK", "SIZE", "begin", "draw", "grey", "is_standin", "write_frames", "write_workbook"]
