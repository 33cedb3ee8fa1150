"""What a report knows of a run: its scores under each selection rule, read once, through `runs` and `scoring`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleeting import dealing, predictions, runs, scoring
from fleeting.errors import UserError
from fleeting.report.strip import Person

Scores = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Reading:
    """A run, read.

    Attributes:
        label: its name, with the folder where two runs have the same name.
        run: the folder.
        status: as `runs.status`.
        scores: rule -> `scoring.score_run`; "last" always.
        refused: rule -> why there is no score.
    """

    label: str
    run: runs.Run
    status: Mapping[str, Any]
    scores: Mapping[str, Scores]
    refused: Mapping[str, str]

    @property
    def header(self) -> dict[str, Any]:
        """``run.toml``."""
        return self.run.header

    @property
    def experiment(self) -> dict[str, Any]:
        """The resolved experiment."""
        tables: dict[str, Any] = self.header["experiment"]
        return tables

    @property
    def parts(self) -> dict[str, Scores]:
        """Part -> scores after the last epoch."""
        found: dict[str, Scores] = self.scores["last"]["parts"]
        return found

    @property
    def epochs(self) -> int:
        """Epochs really run, of which a rule can choose."""
        return int(next(iter(self.parts.values()))["floor"]["epochs"])

    @property
    def seeds(self) -> int:
        """How many are scored."""
        return max(len(block["by_seed"]) for block in self.parts.values())

    @property
    def made_up(self) -> list[str]:
        """Datasets that are stand-ins."""
        return list(self.header["standin"])

    @property
    def missing(self) -> list[str]:
        """Folds (and their seed, if there are several) whose outer task is not done."""
        several = len(self.run.seeds) > 1
        absent = [place for place in self.run.folds if place not in self.run.traces]
        return [f"{fold}, seed {seed}" if several else fold for seed, fold in absent]

    @property
    def complete(self) -> bool:
        """Whether every task is done."""
        return bool(self.status["done"] >= self.status["all"] and not self.status["failed"])

    def title(self, part: str) -> str:
        """The label, with the part where the run has several."""
        return f"{self.label}, {part}" if len(self.parts) > 1 else self.label


def read(folders: Sequence[Path]) -> list[Reading]:
    """The runs in order.

    Raises:
        UserError: no folder is given, one holds no run, or a run has no finished task.
    """
    if not folders:
        raise UserError("want at least one run folder to report on, got none; name one")
    opened = [runs.Run(folder) for folder in folders]
    return [_read(run, label) for run, label in zip(opened, _labels(opened), strict=True)]


def _labels(opened: Sequence[runs.Run]) -> list[str]:
    often = Counter(run.name for run in opened)
    return [run.name if often[run.name] == 1 else f"{run.name} ({run.folder})" for run in opened]


def _read(run: runs.Run, label: str) -> Reading:
    scores = {"last": scoring.score_run(run.folder)}
    refused = {}
    epochs = next(iter(scores["last"]["parts"].values()))["floor"]["epochs"]
    if not int(run.header["experiment"]["inner"]):
        refused["inner"] = "no inner tasks"
    for rule in ("inner", "oracle") if epochs > 1 else ():
        if rule not in refused:
            try:
                scores[rule] = scoring.score_run(run.folder, rule)
            except UserError:  # only inner tasks can still be missing here
                refused[rule] = "its inner tasks are not all finished"
    return Reading(label, run, runs.status(run), scores, refused)


def people(reading: Reading, part: str) -> tuple[int, list[Person]]:
    """The first seed that is scored, and its subjects: by corpus, then from the worst recognised to the best."""
    table = predictions.table(reading.run)
    rows = table[table["part"] == part]
    seed = int(rows["seed"].min())
    number = {word: index for index, word in enumerate(reading.run.classes)}
    counts: dict[tuple[str, str], Any] = {}
    for row in rows[rows["seed"] == seed].to_dict("records"):
        place = (str(row["dataset"]), str(row["subject"]))
        matrix = counts.setdefault(place, np.zeros((len(number), len(number)), np.int64))
        matrix[number[str(row["true"])], number[str(row["pred"])]] += 1
    found = [Person(corpus, name, matrix) for (corpus, name), matrix in counts.items()]
    return seed, sorted(found, key=lambda one: (one.corpus, one.counts.trace() / one.counts.sum(), one.name))


def logged(reading: Reading, part: str, name: str) -> dict[int, list[float]]:
    """Seed -> mean over folds of a logged quantity after every epoch that all its folds ran; empty if not logged."""
    found = {}
    for seed in reading.run.seeds:
        places = [place for place in reading.run.traces if place[0] == seed and part in reading.run.folds[place]]
        series = [reading.run.traces[place].log.get(name) for place in places]
        kept = [values for values in series if values is not None and np.ndim(values) == 1 and len(values)]
        if kept and len(kept) == len(series):
            epochs = min(len(values) for values in kept)
            found[seed] = np.mean([values[:epochs] for values in kept], axis=0).tolist()
    return found


def overlap(reading: Reading) -> tuple[int, int] | None:
    """Of the clips that are tested, how many are of people with other clips in the same fold outside its test part,
    and how many there are; None where no such person is, as it should be. A clip counts once a seed.
    """
    met = sum(one.tested for one in dealing.partly(reading.run.clips, reading.run.folds))
    tested = sum(len(keys) for parts in reading.run.folds.values() for keys in parts.values())
    return (met, tested) if met else None
