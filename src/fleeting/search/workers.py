"""Works on a study: in this process, or in several of which any may die."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

from fleeting import engine, files
from fleeting.errors import UserError
from fleeting.search import objective, study
from fleeting.search.objective import Plan
from fleeting.seeing import Progress, quiet

_LOOK_S = 0.5
_WORDS = "search trials"


def run(folder: Path, plan: Plan, jobs: int, progress: Progress) -> None:
    """Until the study is complete.

    Raises:
        UserError: the first trials all failed, or every worker died. KeyboardInterrupt passes through; what is done is
            kept.
    """
    if jobs == 1:
        work(folder, plan, progress)
    else:
        _spread(folder, plan, jobs, progress)
    why = study.Board(folder, plan).hopeless()
    if why:
        raise UserError(
            f"want trials that can be trained, got none in the first ones: {why}; then choose another --out, or delete "
            f"{folder}"
        )


def work(folder: Path, plan: Plan, progress: Progress = quiet) -> None:
    """One worker: takes trials until none is left, and waits for those of others, which it takes over if they die."""
    board = study.Board(folder, plan)
    try:
        while True:
            with board.writing():
                trial = board.take()
            progress(_WORDS, len(board.finished()), plan.searched.settings.trials)
            if trial is None:
                return
            if trial is False:
                time.sleep(_LOOK_S)
                continue
            _one(board, trial)
    finally:
        board.leave()


def _one(board: study.Board, trial: Any) -> None:
    value, error = None, ""
    try:
        with files.unwritable(board.folder):
            value = objective.score(board.plan, study.values(board.plan, trial.params), board.folder / "trials")
    except files.Unwritable:  # a full disk is no fault of the values: the trial is lost, and asked for again
        raise
    except UserError as failure:
        error = str(failure)
    if value is not None and value != value:
        value, error = None, "no clip was tested"
    with board.writing():
        board.told(trial, value, error)


def _spread(folder: Path, plan: Plan, jobs: int, progress: Progress) -> None:
    # spawn: a forked torch can hang in its thread pools
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_worker, args=(folder, plan), daemon=True) for _ in range(jobs)]
    board = study.Board(folder, plan)
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            progress(_WORDS, len(board.finished()), plan.searched.settings.trials)
            time.sleep(_LOOK_S)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
    progress(_WORDS, len(board.finished()), plan.searched.settings.trials)
    if all(process.exitcode for process in processes):
        raise UserError(
            "want workers that live, got only ones that died (out of memory?); what is finished is kept, run the same "
            "command again with fewer --jobs"
        )


def _worker(folder: Path, plan: Plan) -> None:
    engine.start_worker()
    try:
        work(folder, plan)
    except UserError as error:
        raise SystemExit(f"error: {error}") from error
