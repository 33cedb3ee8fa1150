"""Pictures as frames: their order, the holes in their numbers, and reading one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from fleeting.errors import UserError
from fleeting.records import Array

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of files that are taken for pictures, in any case; others (.lnk, Thumbs.db) are passed over."""
LEAST = 16
"""Pixels a side below which nothing can be seen."""
_MOVIES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mts", ".webm", ".wmv")
_MOST_MISSING = 1_000_000
# a 16-bit picture that stays below uses 16 of the 256 levels or fewer
_DARK = 4096


class Pictures:
    """Pictures in order.

    Pictures of 16 bits are scaled to 8 by 255 / 65535, which a notice says. Grey becomes three equal channels,
    transparency is dropped, the orientation that a camera wrote into a JPEG is applied.

    Args:
        paths: the pictures.
        what: for messages.
        folder: where the pictures are all those of a folder: their numbers then must be usable.

    Attributes:
        stamps: (T,) float64, the last number in each name; the position where those do not rise.
        size, gaps, notices: as of `Frames`.

    Raises:
        UserError: the first picture cannot be used, or is of 16 bits that are hardly used.
    """

    fps: float | None = None

    def __init__(self, paths: Sequence[Path], what: str, folder: Path | None) -> None:
        self.what, self._paths = what, tuple(paths)
        numbers = _rising([_number(path) for path in self._paths])
        if folder is not None and numbers is None:
            raise UserError(
                f"{folder}: want pictures numbered by frame, got {self._paths[0].name} to {self._paths[-1].name}; "
                "rename them, or list them in order"
            )
        self.gaps = () if numbers is None else _missing(numbers)
        self.stamps = np.array(range(len(self._paths)) if numbers is None else numbers, np.float64)
        first = _decode(self._paths[0])
        self.size, self._kind = (first.shape[0], first.shape[1]), first.dtype
        self.notices = (*self._order(numbers), *self._depth(first))

    def read(self, index: int) -> Array:
        """(H, W, 3) uint8 RGB.

        Raises:
            UserError: the picture is missing, damaged, or of another size or depth than the first.
        """
        path = self._paths[index]
        picture = _decode(path)
        if picture.shape[:2] != self.size:
            raise UserError(
                f"{path}: want {_size(self.size)} px like {self._paths[0].name}, got {_size(picture.shape)}; "
                "look for a picture of another recording"
            )
        if picture.dtype != self._kind:
            raise UserError(
                f"{path}: want {self._kind} like {self._paths[0].name}, got {picture.dtype}; their greys cannot be "
                "compared, convert one"
            )
        return picture if picture.dtype == np.uint8 else _eight_bits(picture)

    def close(self) -> None:
        """Nothing is kept open."""

    def _order(self, numbers: Sequence[int] | None) -> tuple[str, ...]:
        if numbers is not None or all(_number(path) is None for path in self._paths):
            return ()
        return ("the pictures are not in the order of their numbers; they are taken as listed",)

    def _depth(self, first: Array) -> tuple[str, ...]:
        if first.dtype == np.uint8:
            return ()
        if first.max() < _DARK:
            raise UserError(
                f"{self._paths[0]}: want a 16-bit picture that uses its range, got values up to {first.max()} of "
                "65535; scale the pictures to 8 bits first"
            )
        return ("16-bit pictures, scaled to 8 bits (65535 becomes 255)",)


def listed(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder in the order of the last number in their names.

    Raises:
        UserError: there is none, or one has no number, or two share one.
    """
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not paths:
        raise UserError(f"{folder}: want a video file or a folder of pictures, got a folder of {_contents(folder)}")
    numbers = {path: _number(path) for path in paths}
    nameless = sorted(path.name for path, number in numbers.items() if number is None)
    if nameless:
        raise UserError(f"{folder}: want a frame number in every picture's name, got {nameless[0]}; move it elsewhere")
    common, times = Counter(numbers.values()).most_common(1)[0]
    if times > 1:
        both = " and ".join(sorted(path.name for path in paths if numbers[path] == common)[:2])
        raise UserError(f"{folder}: want one picture a frame number, got {both}; keep one kind in the folder")
    return tuple(sorted(paths, key=lambda path: numbers[path] or 0))


def _contents(folder: Path) -> str:
    """What else lies there, and what to do about it."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    movies = [name for name in names if name.lower().endswith(_MOVIES)]
    if movies:
        return f"videos ({movies[0]}); name the file"
    return f"other files ({names[0]}); name the folder that holds the frames" if names else "nothing; choose another"


def _number(path: Path) -> int | None:
    """The last number in a name: 46 of reg_img46.jpg, 5562 of 006_05562.jpg."""
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else None


def _rising(numbers: Sequence[int | None]) -> list[int] | None:
    """The numbers where they can be those of frames: each above the last, without a hole of a million."""
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or known[-1] - known[0] > _MOST_MISSING + len(known):
        return None
    return known if all(first < second for first, second in pairwise(known)) else None


def _missing(numbers: Sequence[int]) -> tuple[int, ...]:
    return tuple(missing for first, second in pairwise(numbers) for missing in range(first + 1, second))


def _decode(path: Path) -> Array:
    """(H, W, 3) uint8 or uint16, RGB.

    Raises:
        UserError: no file, not a whole picture, other numbers than 8 or 16 bits, or below 16 px a side.
    """
    if not path.is_file():
        raise UserError(f"{path}: want a picture, found no file; look for missing frames")
    data = path.read_bytes()
    kind = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    picture = None if not data or _is_cut(data) else cv2.imdecode(np.frombuffer(data, np.uint8), kind)
    if picture is None:
        raise UserError(f"{path}: want a whole picture, got a truncated or unreadable file; copy it again")
    if picture.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path}: want a picture of 8 or 16 bits, got {picture.dtype}; convert it")
    if min(picture.shape[:2]) < LEAST:
        raise UserError(f"{path}: want at least {LEAST} x {LEAST} px, got {_size(picture.shape)}; choose other frames")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _is_cut(data: bytes) -> bool:
    """Whether the end of a picture is missing; some OpenCV versions fill it up with grey and say nothing."""
    if data.startswith(b"\x89PNG"):
        return not data.rstrip(b"\0").endswith(b"IEND\xaeB`\x82")
    if data.startswith(b"\xff\xd8"):
        # the last scan has to end; a thumbnail in the header has an end of its own, before it
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if data.startswith(b"BM") and len(data) >= 34:
        offset, width, height, bits, packing = (
            int.from_bytes(data[at : at + size], "little", signed=size == 4)
            for at, size in ((10, 4), (18, 4), (22, 4), (28, 2), (30, 4))
        )
        return packing == 0 and len(data) < offset + (width * bits + 31) // 32 * 4 * abs(height)
    return False


def _eight_bits(picture: Array) -> Array:
    """uint16 to uint8, rounded, 65535 to 255."""
    return ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"
