"""Hyperparameters searched on inner subjects: an experiment file's table ``[search]`` in, ``best.toml`` out.

What a trial is scored on: the training part of **one** fold of the experiment is dealt into `inner` groups of subjects,
as `experiment.tasks` does for inner tasks. Each group is left out once, a network with the trial's values learns from
the others, and the decisions on all groups are pooled into one score. The fold's test part, and its validation part,
are never touched; the experiment's own folds stay as they are. Where an experiment has several folds (or seeds), their
test parts hold clips that the search has seen: the result says how many, and only the searched fold is untouched.

A search is a folder. Many processes work on it at once; one that is killed costs nothing but the epochs of the network
that it was training: its trial is noted as lost, and another worker takes it over where it stopped. Values of which
five workers have died in a row, as of too little memory, count as failed. A full disk ends a worker and fails no trial.

======================= ==========================================================================================
``search.toml``         what is searched; another search in the same folder is refused
``study.journal``       Optuna's journal of the study
``trials/``             a run folder a trial (`fleeting score` reads it), named by its values
``trials.csv``          number, state, score and values of each trial
``best.toml``           the experiment with the best values: `fleeting run` takes it
``*.svg``               history, importances, slices
``study.lock, alive/``  who is writing, and which trials are being worked on; the system frees them when a process dies
======================= ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleeting import config, dealing, experiment
from fleeting.config import Experiment
from fleeting.errors import UserError
from fleeting.search import objective, results, spaces, study, workers
from fleeting.seeing import Progress, quiet

__all__ = ["run"]


def run(
    path: Path,
    out: Path,
    changes: Sequence[str] = (),
    jobs: int = 1,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Searches until the study has its number of trials; goes on with what is in the folder.

    Args:
        path: experiment file with a table ``[search]``, see `spaces.Settings`.
        out: folder of the search, new or of the same search.
        changes: "a.b=value" strings, also of ``search``.
        jobs: parallel processes.
        progress: for a progress bar.

    Returns:
        As `results.summary`.

    Raises:
        UserError: Optuna is missing, bad input, another search in `out`, every trial failed, every worker died.
    """
    study.optuna()
    study.check(out)  # before the clips are prepared, which may take hours
    tables = config.tables(path, changes)
    searched = spaces.read(tables, str(path))
    resolved = spaces.checked(tables, searched, str(path))
    plan, notices = _planned(tables, searched, resolved, progress, jobs)
    study.begin(out, plan)
    workers.run(out, plan, jobs, progress)
    return {**results.write(out, plan), "notices": notices}


def _planned(
    tables: Mapping[str, Any], searched: spaces.Search, resolved: Experiment, progress: Progress, jobs: int
) -> tuple[objective.Plan, list[str]]:
    """Loads and prepares the clips once, so that the workers find them, and chooses the fold."""
    clips, labels, _ = experiment.load(resolved)
    _, broken, _ = experiment.prepare(resolved, clips, progress, jobs)
    drawn = {seed: experiment.split(resolved, clips, labels, seed) for seed in resolved.seeds}
    folds = {seed: dealing.without(of_seed, broken) for seed, of_seed in drawn.items()}
    seed = resolved.seeds[0]
    fold = objective.chosen(folds[seed], searched.settings.fold)
    seen = {*fold.train}
    tested = [key for of_seed in folds.values() for one in of_seed for key in one.tested]
    known = sum(key in seen for key in tested)
    notices = []
    if known:
        notices.append(
            f"{known} of the {len(tested)} tests of this experiment (folds x clips, all seeds) are of clips that the "
            f"search knows; only fold {fold.name} of seed {seed} is untouched by it"
        )
    plan = objective.Plan(dict(tables), searched, fold.name, seed, config.digest(resolved))
    if not objective.inner_folds(resolved, fold, labels, searched.settings.inner, seed):
        raise UserError(f"fold {fold.name}: want subjects to deal into search.inner groups, got none")
    return plan, notices
