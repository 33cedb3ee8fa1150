"""The run folder: its only reader and writer.

=================== ==============================================================================================
``run.toml``        first: resolved experiment, digests, versions, machine, counts, every dropped clip
``clips.csv``       key, dataset, subject, clip, emotion, label, onset, apex, offset
``folds.csv``       seed, fold, part, key: which clip a fold tests
``tasks/``          one ``.npz`` a finished task (its presence means done), ``.error.txt`` for a failed one
``samples.json``    where the packed samples lie
``predictions.csv`` assembled: one row a clip and seed, views voted, last epoch
``scratch/``        what a task of several phases resumes from
``lock``            one writer
=================== ==============================================================================================

Every file is written under a temporary name and renamed, so what is there is whole.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w
from filelock import Timeout

from fleeting import files
from fleeting.errors import UserError
from fleeting.records import Array, Clip, Fold, FoldResult, FoldTask
from fleeting.voting import voted

if TYPE_CHECKING:
    pass

_CLIP_COLUMNS = ("key", "dataset", "subject", "clip", "emotion", "label", "onset", "apex", "offset")
_FOLD_COLUMNS = ("seed", "fold", "part", "key")
_IDENTITY = {
    "digest": "experiment",
    "clips_sha256": "list of clips and labels",
    "samples_sha256": "input (pictures, or the code that makes views of them)",
    "start": "pretrained weights",
}
_HEADER = ("digest", "experiment", "classes", "counts", "standin")


@dataclass(frozen=True, eq=False)
class Trace:
    """One finished task as stored: voted class probabilities of each tested clip after every epoch.

    Attributes:
        keys: (N,) clips.
        probs: (E, N, C), views already voted.
        log: as in `FoldResult.log`.
        seconds: wall time.
    """

    keys: Array
    probs: Array
    log: Mapping[str, Array]
    seconds: float

    @property
    def epochs(self) -> int:
        """Epochs of training; with early stopping `probs` ends with one row more, the restored network."""
        return len(self.log["loss"]) if "loss" in self.log else len(self.probs)


class Run:
    """A run folder that exists.

    Args:
        folder: with a ``run.toml``.

    Raises:
        UserError: there is none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / "run.toml").is_file():
            raise UserError(f"{folder}: want a run folder, found no run.toml there; give the folder of a run")
        _ = self.header  # read at once: what is no run says so before anything else goes wrong

    @cached_property
    def header(self) -> dict[str, Any]:
        """``run.toml`` as tables.

        Raises:
            UserError: it is broken, or not of a run.
        """
        path = self.folder / "run.toml"
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{path}: want the description of a run, got {error}; choose another folder") from error
        missing = [name for name in _HEADER if name not in tables]
        if missing:
            raise UserError(f"{path}: want the description of a run, found no {missing[0]!r}; choose another folder")
        return tables

    @property
    def samples(self) -> Path:
        """The folder of the packed samples. Raises `UserError` where it is not known."""
        return Path(json.loads(_read_text(self.folder / "samples.json"))["folder"])

    @property
    def name(self) -> str:
        """Of the experiment."""
        return str(self.header["experiment"]["name"])

    @property
    def classes(self) -> list[str]:
        """Class words in the order of their numbers."""
        return list(self.header["classes"])

    @property
    def seeds(self) -> list[int]:
        """As in the experiment."""
        return list(self.header["experiment"]["seeds"])

    @cached_property
    def clips(self) -> dict[str, dict[str, str]]:
        """Key -> its row of ``clips.csv``."""
        return {row["key"]: row for row in _read_csv(self.folder / "clips.csv")}

    @property
    def clips_sha256(self) -> str:
        """Checksum of the list as it is now; ``header["clips_sha256"]`` is that of the beginning."""
        places = ("onset", "apex", "offset")
        return _clips_digest([row | {place: row[place] or "None" for place in places} for row in self.clips.values()])

    @cached_property
    def folds(self) -> dict[tuple[int, str], dict[str, list[str]]]:
        """(seed, fold) -> part -> tested keys."""
        folds: dict[tuple[int, str], dict[str, list[str]]] = {}
        for row in _read_csv(self.folder / "folds.csv"):
            folds.setdefault((int(row["seed"]), row["fold"]), {}).setdefault(row["part"], []).append(row["key"])
        return folds

    def done(self) -> set[str]:
        """Names of the finished tasks."""
        return _done(self.folder)

    def failed(self) -> dict[str, str]:
        """Name of each failed task -> the first line of what went wrong."""
        found = sorted((self.folder / "tasks").glob("*.error.txt"))
        return {
            path.name.removesuffix(".error.txt"): path.read_text(encoding="utf-8").partition("\n")[0] for path in found
        }

    def trace(self, task: str) -> Trace:
        """A finished task.

        Raises:
            UserError: the file is missing or broken.
        """
        path = self.folder / "tasks" / f"{task}.npz"
        stored = files.read_arrays(path)
        rule = str(self.header["experiment"]["recipe"]["vote"])
        keys, probs = voted(stored["keys"], stored["probs"], rule)
        log = {name.removeprefix("log_"): value for name, value in stored.items() if name.startswith("log_")}
        return Trace(keys=keys, probs=probs, log=log, seconds=float(stored["seconds"]))

    @cached_property
    def traces(self) -> dict[tuple[int, str], Trace]:
        """(seed, fold) -> trace, of the finished outer tasks."""
        done = self.done()
        named = {(seed, fold): task_name(fold, seed, None) for seed, fold in self.folds}
        return {place: self.trace(name) for place, name in named.items() if name in done}

    def inner_traces(self, seed: int, fold: str) -> list[Trace]:
        """Traces of the inner tasks of a fold.

        Raises:
            UserError: the run has none, or one is not finished.
        """
        count = int(self.header["experiment"]["inner"])
        if not count:
            raise UserError(f"{self.folder}: want inner tasks for select 'inner', got none; run again with inner = 3")
        names = [task_name(fold, seed, inner) for inner in range(count)]
        if not self.done().issuperset(names):
            raise UserError(
                f"{self.folder}: want all {count} inner tasks of fold {fold}, seed {seed}, for 'inner', got some "
                "unfinished; run the same command again"
            )
        return [self.trace(name) for name in names]

    def labels(self, keys: Iterable[Any]) -> Array:
        """(N,) classes of clips."""
        number = {name: index for index, name in enumerate(self.classes)}
        return np.array([number[self.clips[str(key)]["label"]] for key in keys], dtype=np.int64)


def status(run: Run) -> dict[str, Any]:
    """How far a run is: ``name, folder, all, done, failed: {task: reason}, seconds`` (of the finished tasks)."""
    done = run.done()
    return {
        "name": run.name,
        "folder": str(run.folder),
        "all": run.header["counts"]["tasks"],
        "done": len(done),
        "failed": run.failed(),
        "seconds": round(sum(run.trace(name).seconds for name in done), 3),
    }


def pending(folder: Path, tasks: Sequence[FoldTask]) -> list[FoldTask]:
    """Those of the tasks that are not finished; the folder need not be there."""
    done = _done(folder)
    return [task for task in tasks if task.name not in done]


def _done(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "tasks").glob("*.npz") if not path.name.startswith(".")}


def task_name(fold: str, seed: int, inner: int | None) -> str:
    """The name of a task's file, without its ending."""
    return FoldTask(fold=fold, seed=seed, inner=inner, train={}, valid={}, test=()).name


def begin(
    folder: Path,
    header: Mapping[str, Any],
    clips: Sequence[Clip],
    labels: Mapping[str, str],
    folds: Mapping[int, Sequence[Fold]],
) -> Run:
    """Makes a run folder, or opens one for resuming.

    Args:
        folder: new, empty, or of the same run.
        header: ``run.toml``; must hold "digest", "experiment" and "classes"; "start", what the network begins with, is
            compared where it is given, and a run that is finished needs none.
        clips: the surviving ones.
        labels: key -> class word.
        folds: seed -> folds.

    Raises:
        UserError: the folder holds another run (experiment, clips or folds differ), or something that is no run.
    """
    rows = [_clip_row(clip, labels[clip.key]) for clip in clips]
    tables = {**header, "clips_sha256": _clips_digest(rows)}
    if (folder / "run.toml").is_file():
        run = Run(folder)
        for key, what in _IDENTITY.items():
            if key in tables and run.header.get(key) != tables[key]:
                why = _difference(run.header, tables) if key == "digest" else f"{key} differs"
                raise UserError(
                    f"{folder}: want the same {what} to resume this run, got another ({why}); choose another --out, "
                    "or delete the folder"
                )
        _check_folds(run, folds)
        return run
    if folder.exists() and any(not _is_leftover(path) for path in folder.iterdir()):
        raise UserError(f"{folder}: want a new folder or a run, got a folder with other things; choose another --out")
    _write_csv(folder / "clips.csv", _CLIP_COLUMNS, rows)
    tested = [
        {"seed": seed, "fold": fold.name, "part": part, "key": key}
        for seed, of_seed in folds.items()
        for fold in of_seed
        for part, keys in fold.test.items()
        for key in keys
    ]
    _write_csv(folder / "folds.csv", _FOLD_COLUMNS, tested)
    files.write_text(folder / "run.toml", tomli_w.dumps(tables))
    return Run(folder)


def _check_folds(run: Run, folds: Mapping[int, Sequence[Fold]]) -> None:
    now = {
        (seed, fold.name): {part: set(keys) for part, keys in fold.test.items() if keys}
        for seed, of_seed in folds.items()
        for fold in of_seed
    }
    then = {place: {part: set(keys) for part, keys in parts.items()} for place, parts in run.folds.items()}
    for seed, name in sorted(now.keys() | then.keys()):
        if now.get((seed, name)) != then.get((seed, name)):
            raise UserError(
                f"{run.folder}: want the same folds to resume this run, got others (seed {seed}, fold {name}); choose "
                "another --out, or delete the folder"
            )


def place_samples(folder: Path, samples: Path) -> None:
    """Notes where the packed samples lie; they may move between a run and its resumption."""
    files.write_text(folder / "samples.json", json.dumps({"folder": str(samples.resolve())}))


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the folder's lock; the system frees it even when the process is killed.

    Raises:
        UserError: another process holds it, or the folder cannot be made.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(files.locked(folder / "lock", timeout_s=0))
        except Timeout as error:
            raise UserError(f"{folder}: want to be the only writer, got a run that is going on; wait for it") from error
        yield


def write(folder: Path, result: FoldResult) -> None:
    """Stores a finished task and forgets its earlier failure. Raises `UserError` where it cannot be written."""
    arrays = {"keys": result.keys, "views": result.views, "probs": result.probs, "seconds": np.float64(result.seconds)}
    arrays |= {f"log_{name}": value for name, value in result.log.items()}
    files.write_arrays(folder / "tasks" / f"{result.task}.npz", arrays)
    (folder / "tasks" / f"{result.task}.error.txt").unlink(missing_ok=True)


def fail(folder: Path, task: FoldTask, message: str) -> None:
    """Notes why a task failed; it is tried again on resume."""
    files.write_text(folder / "tasks" / f"{task.name}.error.txt", message + "\n")


def _clip_row(clip: Clip, label: str) -> dict[str, Any]:
    places = {"onset": clip.onset, "apex": clip.apex, "offset": clip.offset}
    names = {"key": clip.key, "dataset": clip.dataset, "subject": clip.subject, "clip": clip.name}
    return {**names, "emotion": clip.emotion or "", "label": label, **places}


def _clips_digest(rows: Sequence[Mapping[str, Any]]) -> str:
    listed = [tuple(str(row[name]) for name in ("key", "label", "onset", "apex", "offset")) for row in rows]
    return hashlib.sha256(repr(sorted(listed)).encode()).hexdigest()


def _is_leftover(path: Path) -> bool:
    """What a run leaves that was killed before its ``run.toml`` was there."""
    return path.name in ("lock", "clips.csv", "folds.csv") or (path.name.startswith(".") and path.suffix == ".tmp")


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first experiment value that differs, in words."""
    was, now = (dict(_flat(header["experiment"])) for header in (old, new))
    changed = [name for name in sorted({*was, *now} - {"name"}) if was.get(name) != now.get(name)]
    return f"{changed[0]} was {was.get(changed[0])!r}, is {now.get(changed[0])!r}"


def _flat(tables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", list(value) if isinstance(value, tuple) else value


def _read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_read_text(path))))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: want a file of a run, got {error}; run the same command again") from error


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())
