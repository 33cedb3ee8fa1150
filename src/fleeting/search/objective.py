"""What a trial is: trainings inside the training part of one fold, pooled into one score."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from fleeting import config, counting, experiment, metrics, predictions
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.records import Clip, Fold
from fleeting.search import spaces


@dataclass(frozen=True)
class Plan:
    """What is searched; sent to the workers.

    Attributes:
        tables: of the experiment file, as written.
        searched: spaces and settings.
        fold, seed: whose training part.
        experiment: digest of the experiment without a search.
    """

    tables: Mapping[str, Any]
    searched: spaces.Search
    fold: str
    seed: int
    experiment: str

    @property
    def digest(self) -> str:
        """Of all that a trial's score depends on, and the spaces; not of how many trials there are to be."""
        searched = {name: value for name, value in self.searched.plain().items() if name != "trials"}
        told = [self.experiment, self.fold, self.seed, searched]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def resolved(self, values: Mapping[str, Any]) -> Experiment:
        """The experiment of a trial: one seed, and no inner tasks, since the trial's folds are inner ones."""
        tables = spaces.assigned(self.tables, values)
        trial = config.resolve(tables, "search")
        return trial.model_copy(update={"name": f"{trial.name}-trial", "seeds": (self.seed,), "inner": 0})


def score(plan: Plan, values: Mapping[str, Any], folder: Path) -> float:
    """Trains and scores one trial; goes on where a worker that died had stopped.

    Args:
        plan: the search.
        values: dotted name -> value.
        folder: of all trials.

    Raises:
        UserError: a value that the model refuses, a loss that is not finite, a full disk.
    """
    trial = plan.resolved(values)
    place = folder / config.digest(trial)[:16]
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):  # another worker may have drawn the same values
        done = experiment.run(trial, place, splitter=partial(_inner, plan=plan))
    failed = done.failed()
    if failed:
        raise UserError(next(iter(failed.values())))
    table = predictions.table(done)
    number = {word: index for index, word in enumerate(done.classes)}
    true, pred = (np.array([number[word] for word in table[name]]) for name in ("true", "pred"))
    return float(metrics.METRICS[plan.searched.settings.metric](counting.confusion(true, pred, len(number))))


def chosen(folds: Sequence[Fold], name: str | None) -> Fold:
    """The fold whose training part is searched.

    Raises:
        UserError: none is named and there are several, or there is no such fold.
    """
    if name is None and len(folds) == 1:
        return folds[0]
    found = [fold for fold in folds if fold.name == name]
    if found:
        return found[0]
    names = ", ".join(fold.name for fold in folds[:3]) + (", ..." if len(folds) > 3 else "")
    got = "none" if name is None else repr(name)
    raise UserError(
        f"want search.fold to name the fold whose training part is searched, got {got} and {len(folds)} folds "
        f"({names}); set it with --set search.fold=NAME (the clips of the other folds are then known to the search)"
    )


def inner_folds(experiment_: Experiment, fold: Fold, labels: Mapping[str, int], parts: int, seed: int) -> list[Fold]:
    """The training part of a fold, dealt out by subject: each of `parts` groups is left out once.

    Raises:
        UserError: fewer training subjects than parts.
    """
    asked = experiment_.model_copy(update={"inner": parts})
    return [
        Fold(name=f"inner{task.inner}", train=tuple(task.train), test={"inner": task.test})
        for task in experiment.tasks(asked, [fold], labels, seed)
        if task.inner is not None
    ]


def _inner(trial: Experiment, clips: Sequence[Clip], labels: Mapping[str, int], seed: int, plan: Plan) -> list[Fold]:
    fold = chosen(experiment.split(trial, clips, labels, seed), plan.fold)
    return inner_folds(trial, fold, labels, plan.searched.settings.inner, seed)
