"""The study on disk, that many processes write: Optuna's journal under a lock that a dead process cannot keep.

Optuna knows no sign of life for a journal, so a trial whose worker was killed would run for ever. Here each worker
holds a lock on the trial it works on; a running trial whose lock is free has lost its worker. It is then noted as
failed, and its values are asked for again. All writing happens under one lock, and the line that a killed writer has
left unfinished is cut off before the next one is written.
"""

from __future__ import annotations

import json
import os
import tomllib
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from fleeting import files
from fleeting.errors import UserError
from fleeting.search.objective import Plan
from fleeting.search.spaces import Choices, Space

_NAME = "search"
_HOPELESS = 3  # trials that fail before any succeeds
_DEATHS = 5  # of workers, until their trial counts as failed: what eats all the memory would end every one of them


def optuna() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna as package
    except ImportError as error:
        raise UserError(
            f"want the package optuna to search, got none ({error}); install it with: pip install 'fleeting[search]'"
        ) from error
    package.logging.set_verbosity(package.logging.ERROR)
    return package


def check(folder: Path) -> None:
    """Refuses a folder in which there can be no search.

    Raises:
        UserError: it is a file, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: want a folder for the search, got a file; choose another --out")
    searched = (folder / "search.toml").is_file()
    if folder.exists() and not searched and any(item.name != "study.lock" for item in folder.iterdir()):
        raise UserError(
            f"{folder}: want a new folder or a search, got a folder with other things; choose another --out"
        )


def begin(folder: Path, plan: Plan) -> None:
    """Makes the folder of a search, or opens it to go on.

    Raises:
        UserError: it holds another search or something else, or cannot be written.
    """
    check(folder)
    path = folder / "search.toml"
    with files.locked(folder / "study.lock"):
        if not path.is_file():
            told = {"digest": plan.digest, "fold": plan.fold, "seed": plan.seed, "search": plan.searched.plain()}
            files.write_text(path, tomli_w.dumps({**told, "tables": _without_none(plan.tables)}))
        elif _digest(path) != plan.digest:
            raise UserError(
                f"{folder}: want the same experiment and spaces to go on with this search, got others; choose another "
                "--out, or delete the folder"
            )


def failure(trial: Any) -> str:
    """Why a trial that is no longer worked on has no score and is not tried again; "" if its worker died."""
    if "error" in trial.user_attrs:
        return str(trial.user_attrs["error"])
    return f"{_DEATHS} workers died of it (out of memory?)" if _deaths(trial) >= _DEATHS else ""


class Board:
    """One process' view of the study.

    Args:
        folder: of the search.
        plan: what is searched.

    Raises:
        UserError: the journal is damaged, or cannot be written.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan, self.package = folder, plan, optuna()
        self.alive: FileLock | None = None
        backend = self.package.storages.journal.JournalFileBackend
        with self.writing():
            path = str(folder / "study.journal")
            try:
                storage = self.package.storages.JournalStorage(backend(path, lock_obj=_Held()))
                self.study = self.package.create_study(
                    study_name=_NAME, storage=storage, direction="maximize", load_if_exists=True
                )
            except (ValueError, LookupError, TypeError) as error:
                raise UserError(
                    f"{path}: want the journal of a search, got a damaged one ({type(error).__name__}: {error}); put a "
                    "copy of it back, or delete the folder"
                ) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around all that reads and then writes: no other process writes meanwhile."""
        with files.locked(self.folder / "study.lock"), files.unwritable(self.folder):
            _mend(self.folder / "study.journal")
            yield

    def take(self) -> Any:
        """The next trial; None if the study is complete, False if others work on all that is left. Inside `writing`."""
        self._take_over()
        done, running = self.finished(), self._of("RUNNING")
        if len(done) >= self.plan.searched.settings.trials or self.hopeless():
            return None
        if len(done) + len(running) >= self.plan.searched.settings.trials:
            return False
        settings = self.plan.searched.settings
        count = len(self.study.get_trials(deepcopy=False))
        # each trial draws from a seed of its own: workers differ, and a search that was stopped goes on alike
        seed = zlib.crc32(repr((settings.seed, count)).encode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = self.package.samplers.TPESampler
            self.study.sampler = sampler(seed=seed, n_startup_trials=settings.startup, constant_liar=True)
            trial = self.study.ask(self._distributions())
        self.alive = self._lock(trial.number)
        self.alive.acquire(timeout=0)
        return trial

    def told(self, trial: Any, value: float | None, error: str = "") -> None:
        """Notes a trial's score, or why it has none, and lets go of it. Inside `writing`."""
        if value is None:
            trial.set_user_attr("error", error)
            self.study.tell(trial, state=self.package.trial.TrialState.FAIL)
        else:
            self.study.tell(trial, value)
        self.leave()

    def leave(self) -> None:
        """Lets go of the trial; without a score it counts as lost."""
        if self.alive is not None:
            self.alive.release()
            self.alive = None

    def finished(self) -> list[Any]:
        """Trials with a score, and those that failed by themselves; not those whose worker died."""
        return self._of("COMPLETE") + [trial for trial in self._of("FAIL") if failure(trial)]

    def lost(self) -> list[Any]:
        """Trials whose worker died, and that were asked for again."""
        return [trial for trial in self._of("FAIL") if not failure(trial)]

    def hopeless(self) -> str:
        """Why the first trials failed, if none of them has a score; else ""."""
        done = self.finished()
        if len(done) < _HOPELESS or self._of("COMPLETE"):
            return ""
        return failure(done[0])

    def _of(self, state: str) -> list[Any]:
        wanted = (self.package.trial.TrialState[state],)
        return list(self.study.get_trials(deepcopy=False, states=wanted))

    def _take_over(self) -> None:
        """Running trials that nobody works on are noted as lost, and their values asked for again, but not for ever."""
        for trial in self._of("RUNNING"):
            lock = self._lock(trial.number)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            # asked for before it is given up: between the two it is there twice, not lost
            if set(trial.params) == set(self.plan.searched.spaces) and _deaths(trial) < _DEATHS:
                told = {"instead_of": trial.number, "deaths": _deaths(trial)}
                self.study.enqueue_trial(trial.params, user_attrs=told)
            self.study.tell(trial.number, state=self.package.trial.TrialState.FAIL)
            lock.release()

    def _lock(self, number: int) -> FileLock:
        (self.folder / "alive").mkdir(exist_ok=True)
        return FileLock(self.folder / "alive" / f"{number}.lock")

    def _distributions(self) -> dict[str, Any]:
        return {name: self._distribution(space) for name, space in self.plan.searched.spaces.items()}

    def _distribution(self, space: Space) -> Any:
        kinds = self.package.distributions
        if isinstance(space, Choices):
            return kinds.CategoricalDistribution([json.dumps(value) for value in space.choices])
        if space.whole:
            return kinds.IntDistribution(space.low, space.high, log=space.log, step=space.step or 1)
        return kinds.FloatDistribution(space.low, space.high, log=space.log, step=space.step)


def values(plan: Plan, params: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted name -> value of a trial: choices are stored as JSON, since Optuna takes no lists."""
    spaces = plan.searched.spaces
    return {name: json.loads(value) if isinstance(spaces[name], Choices) else value for name, value in params.items()}


def _deaths(trial: Any) -> int:
    """How many workers have died of these values, that of this trial among them."""
    return int(trial.user_attrs.get("deaths", 0)) + 1


def _digest(path: Path) -> Any:
    """Of what is searched in a folder."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")).get("digest")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: want what is searched here, got a damaged file ({error}); choose another --out, or delete the "
            "folder"
        ) from error


class _Held:
    """The journal's own lock is not needed: who writes holds that of the study."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _mend(path: Path) -> None:
    """Cuts off the line that a killed writer has left unfinished; the lock is held."""
    if not path.is_file():
        return
    with path.open("rb+") as stream:
        content = stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            stream.truncate(whole)
            stream.flush()
            os.fsync(stream.fileno())


def _without_none(tables: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tables.items() if value is not None}
