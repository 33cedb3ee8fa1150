"""The engine alone: order, failures, dead workers."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from fleeting import engine
from fleeting.errors import UserError
from fleeting.records import FoldResult, FoldTask


def tasks(*names: str) -> list[FoldTask]:
    return [FoldTask(name, 0, None, {}, {}, ("a/b/c",)) for name in names]


def execute(task: FoldTask, folder: Path) -> FoldResult:
    if task.fold == "bad input":
        raise UserError("want a face, got none")
    if task.fold == "bug":
        raise ZeroDivisionError("oops")
    if task.fold == "out of memory":
        os._exit(137)
    if task.fold.startswith("slow"):
        time.sleep(0.05)
    (folder / f"{task.fold}.{os.getpid()}").touch()
    return FoldResult(task.name, np.array(task.test), np.array(["v"]), np.ones((1, 1, 1), np.float32), {}, 0.0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_is_run_once_and_failures_stay_alone(jobs: int, tmp_path: Path) -> None:
    todo = tasks("one", "bad input", "two", "bug", "slow", "three")
    found = {task.fold: result for task, result in engine.run(execute, todo, tmp_path, jobs)}
    assert set(found) == {task.fold for task in todo}
    assert found["bad input"] == engine.Failure("bad input@0: want a face, got none")
    bug = found["bug"]
    assert isinstance(bug, engine.Failure)
    assert bug.message == "bug@0: ZeroDivisionError: oops"
    assert "Traceback" in bug.details
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["one", "slow", "three", "two"]


def test_two_jobs_work_in_two_other_processes(tmp_path: Path) -> None:
    list(engine.run(execute, tasks(*(f"slow{i}" for i in range(12))), tmp_path, 2))
    workers = {path.suffix for path in tmp_path.iterdir()}
    assert len(workers) == 2
    assert f".{os.getpid()}" not in workers


def test_a_dead_worker_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fewer --jobs"):
        list(engine.run(execute, tasks("out of memory", "one"), tmp_path, 2))


def test_no_task_is_no_work(tmp_path: Path) -> None:
    assert list(engine.run(execute, [], tmp_path, 2)) == []


def test_closing_the_iterator_ends_the_workers(tmp_path: Path) -> None:
    started = time.monotonic()
    results = engine.run(execute, tasks(*(f"slow{i}" for i in range(400))), tmp_path, 2)
    next(results)
    results.close()
    assert time.monotonic() - started < 15
    done = len(list(tmp_path.iterdir()))
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) <= done + 2
