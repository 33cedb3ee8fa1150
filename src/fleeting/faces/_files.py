"""Files of landmarks: .npy, .npz and .csv, as other trackers and corpora's authors write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fleeting import files
from fleeting.errors import UserError
from fleeting.records import Array

SUFFIXES = (".npy", ".npz", ".csv")
KNOWN = (5, 68, 468, 478)  # the numbers of points whose eyes, nose and mouth `landmarks` can name
_COLUMN = re.compile(r"([xy])_?(\d+)")


def read(path: Path) -> Array:
    """The landmarks of a file.

    Args:
        path: ``.npy``: (K, 2) or (T, K, 2). ``.npz``: the same as its array ``landmarks``, or as its only array.
            ``.csv``: one row a frame with columns x0, y0, x1, ... or x_0, x_1, ..., y_0, ...; a column ``frame``
            says which frame a row is (from 0; from 1 where a column ``success`` shows that OpenFace wrote it),
            rows with ``success`` = 0 are frames without a face.

    Returns:
        (T, K, 2) float32 px; T = 1 where the file holds one frame, NaN where a frame has no face.

    Raises:
        UserError: no such file, another format, another shape, or a face with points missing.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: want a file of {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'}; convert it")
    if not path.is_file():
        raise UserError(f"{path}: want a file of landmarks, got none; correct `folder` or `pattern`")
    try:
        points = _table(path) if path.suffix == ".csv" else _array(path)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: want landmarks, got a file that cannot be read ({error}); write it again") from error
    return _checked(path, points)


def _array(path: Path) -> Array:
    loaded: Any = files.read_arrays(path) if path.suffix == ".npz" else np.load(path, allow_pickle=False)
    if path.suffix == ".npz":
        names = list(loaded)
        if "landmarks" not in names and len(names) != 1:
            raise UserError(f"{path}: want an array 'landmarks', got {', '.join(names) or 'none'}; rename it")
        loaded = loaded["landmarks" if "landmarks" in names else names[0]]
    return np.asarray(loaded)


def _table(path: Path) -> Array:
    table = pd.read_csv(path, skipinitialspace=True)
    found = {(match[1], int(match[2])): str(name) for name in table if (match := _COLUMN.fullmatch(str(name)))}
    count = 1 + max((number for _, number in found), default=-1)
    order = [found.get((axis, number)) for number in range(count) for axis in "xy"]
    names = [name for name in order if name is not None]
    if not names or len(names) != len(order):
        raise UserError(f"{path}: want columns x0, y0, x1, y1, ..., got {', '.join(map(str, table))[:80]}; rename them")
    points = table[names].to_numpy(np.float32).reshape(len(table), count, 2)
    if "success" in table:
        points[table["success"].to_numpy() == 0] = np.nan
    return points if "frame" not in table else _placed(path, points, table)


def _placed(path: Path, points: Array, table: pd.DataFrame) -> Array:
    """Rows at the places that their frame numbers name; NaN where a number is missing."""
    numbers = table["frame"].to_numpy() - (1 if "success" in table else 0)
    values, counts = np.unique(numbers, return_counts=True)
    if not len(values) or values.dtype.kind not in "iu" or values[0] < 0:
        raise UserError(f"{path}: want whole frame numbers that do not begin below the first, got others; correct them")
    if counts.max() > 1:
        twice = table["frame"].to_numpy()[numbers == values[counts.argmax()]][0]
        raise UserError(f"{path}: want one row a frame, got frame {twice} twice; keep the rows of one face")
    placed = np.full((int(values[-1]) + 1, *points.shape[1:]), np.nan, np.float32)
    placed[numbers] = points
    return placed


def _checked(path: Path, points: Array) -> Array:
    if points.ndim == 2:
        points = points[None]
    wanted = points.ndim == 3 and points.shape[2] == 2 and points.shape[1] in KNOWN and len(points) > 0
    if not wanted or points.dtype.kind not in "iuf":
        kinds = ", ".join(map(str, KNOWN))
        raise UserError(
            f"{path}: want numbers of shape (K, 2) or (frames, K, 2) with K of {kinds}, got {points.dtype} "
            f"{points.shape}; write (x, y) of every point"
        )
    points = points.astype(np.float32)
    finite = np.isfinite(points).all(axis=(1, 2))
    broken = np.flatnonzero(~finite & ~np.isnan(points).all(axis=(1, 2)))
    if len(broken) or not finite.any():
        where = f"frame {broken[0]}" if len(broken) else "every frame"
        raise UserError(f"{path}: want all points of a face or none, got NaN or infinity in {where}; mend or remove it")
    return points
