"""Views packed into memory-mapped arrays, one file an array, without labels."""

from __future__ import annotations

import copyreg
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from fleeting import files
from fleeting.errors import UserError
from fleeting.records import Array, Samples, View

_INDEX = "index.json"


def pack(folder: Path, views: Mapping[str, Sequence[View]], channels: Mapping[str, tuple[str, ...]]) -> Samples:
    """Writes the views of all clips and opens the result.

    Args:
        folder: made if absent; ``index.json`` is written last, so a folder without it is unfinished.
        views: clip key -> its views, as `inputs.<i>.make` returns them; each clip is asked for once, so a mapping
            that reads them from disk holds one clip at a time.
        channels: array name -> channel names, as `inputs.<i>.channels` promises them.

    Returns:
        All views, in the order given, unlabelled.

    Raises:
        UserError: no views; an array is missing, holds no numbers, has another shape or type than its like, or is
            not finite; disk full.
    """
    index: dict[str, Any] = {"keys": [], "views": [], "train_only": []}
    with ExitStack() as stack:
        growing = {name: _growing(folder / f"{name}.npy", stack) for name in channels}
        for key in views:
            for view in views[key]:
                for name, array in growing.items():
                    array.add(key, name, view)
                index["keys"].append(key)
                index["views"].append(view.name)
                index["train_only"].append(bool(view.train_only))
        if not index["keys"]:
            raise UserError("want at least one view to pack, got none; every clip was dropped, see the reasons above")
        index["sha256"] = {name: array.finish() for name, array in growing.items()}
    index["channels"] = {name: list(names) for name, names in channels.items()}
    files.write_text(folder / _INDEX, json.dumps(index))
    return read(folder)


def check(key: str, view: View) -> None:
    """Whether a view can be packed.

    Raises:
        UserError: an array holds no numbers, or some that are not finite.
    """
    for name in view.x:
        _finite(key, name, _array(name, key, view))


def digest(samples: Samples) -> str:
    """SHA-256 over everything that was packed into the folder: keys, views, channels and values."""
    return hashlib.sha256((samples.folder / _INDEX).read_bytes()).hexdigest()


def read(folder: Path) -> Samples:
    """All packed views of a folder, memory-mapped.

    Raises:
        UserError: the folder holds no finished pack.
    """
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        x = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in index["channels"]}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: want packed samples, got {error}; run again, they are then packed anew") from error
    return Samples(
        folder=folder,
        keys=np.array(index["keys"]),
        views=np.array(index["views"]),
        train_only=np.array(index["train_only"], dtype=bool),
        x=x,
        channels={name: tuple(names) for name, names in index["channels"].items()},
        rows=np.arange(len(index["keys"])),
    )


def reopen(folder: Path, rows: Array, y: Array | None, classes: int) -> Samples:
    """The selection `rows` of a packed folder; how a pickled `Samples` comes back."""
    return replace(read(folder), rows=rows, y=y, classes=classes)


def training(samples: Samples, labels: Mapping[str, int], classes: int) -> Samples:
    """The views of the labelled clips, `train_only` ones included, with their classes.

    Raises:
        UserError: a labelled clip has no view.
    """
    rows = _rows(samples, labels, test=False)
    y = np.array([labels[str(key)] for key in samples.keys[rows]], dtype=np.int64)
    return replace(samples, rows=rows, y=y, classes=classes)


def testing(samples: Samples, keys: Iterable[str]) -> Samples:
    """The views of the clips that are tested: no `train_only` views, no labels.

    Raises:
        UserError: a clip has no view that may be tested.
    """
    return replace(samples, rows=_rows(samples, set(keys), test=True), y=None, classes=0)


def tested(samples: Samples) -> Samples:
    """A selection without its `train_only` views; labels stay."""
    return take(samples, np.flatnonzero(~samples.train_only[samples.rows]))


def take(samples: Samples, positions: Array) -> Samples:
    """A part of a selection, by positions inside it."""
    y = None if samples.y is None else samples.y[positions]
    return replace(samples, rows=samples.rows[positions], y=y)


def shapes(samples: Samples) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of one view."""
    return {name: tuple(array.shape[1:]) for name, array in samples.x.items()}


def _rows(samples: Samples, keys: Iterable[str], test: bool) -> Array:
    wanted = np.array(sorted(keys), dtype=np.str_)
    chosen = np.isin(samples.keys[samples.rows], wanted)
    if test:
        chosen &= ~samples.train_only[samples.rows]
    rows = np.asarray(samples.rows[chosen], dtype=np.int64)
    missing = np.setdiff1d(wanted, samples.keys[rows])
    if len(missing):
        raise UserError(f"want a view of every clip, got none of {missing[0]} ({len(missing)} such); prepare again")
    return rows


class _Growing:
    """An .npy file to which views are added; their number is known last, and its header has room for it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._first, self._count, self._sum = stream, np.empty(0), 0, hashlib.sha256()

    def add(self, key: str, name: str, view: View) -> None:
        if not self._count:
            self._first = _array(name, key, view)
            self._header()
        data = _checked(key, name, view, self._first).tobytes()
        self._stream.write(data)
        self._sum.update(data)
        self._count += 1

    def finish(self) -> str:
        """SHA-256 of the values."""
        self._stream.seek(0)
        self._header()
        return self._sum.hexdigest()

    def _header(self) -> None:
        header = {"descr": self._first.dtype.str, "fortran_order": False, "shape": (self._count, *self._first.shape)}
        np.lib.format.write_array_header_1_0(self._stream, header)


def _growing(path: Path, stack: ExitStack) -> _Growing:
    return _Growing(stack.enter_context(stack.enter_context(files.replacing(path)).open("wb")))


def _checked(key: str, name: str, view: View, first: Array) -> Array:
    array = _array(name, key, view)
    if (array.shape, array.dtype) != (first.shape, first.dtype):
        raise UserError(
            f"{key}: want {name} of shape {first.shape} ({first.dtype}) like the other clips, "
            f"got {array.shape} ({array.dtype}); give the input one size"
        )
    return _finite(key, name, array)


def _finite(key: str, name: str, array: Array) -> Array:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UserError(f"{key}: want finite {name}, got NaN or infinity; look at the clip's frames")
    return array


def _array(name: str, key: str, view: View) -> Array:
    if name not in view.x:
        raise UserError(f"{key}: want the array {name!r} that the input promises, got {sorted(view.x)}; mend the input")
    array = np.ascontiguousarray(view.x[name])
    if array.dtype.kind not in "fiub":
        raise UserError(f"{key}: want numbers in {name}, got {array.dtype}; mend the input")
    return array


def _reduce(samples: Samples) -> tuple[Any, ...]:
    return reopen, (samples.folder, samples.rows, samples.y, samples.classes)


copyreg.pickle(Samples, _reduce)
