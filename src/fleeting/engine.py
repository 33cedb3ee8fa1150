"""Runs fold tasks, in this process or in several; knows nothing of models."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from fleeting.errors import UserError
from fleeting.records import FoldResult, FoldTask

Execute = Callable[[FoldTask, Path], FoldResult]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """Why a task failed: one line, and the traceback where the fault is not the user's."""

    message: str
    details: str = ""


def run(
    execute: Execute, tasks: Sequence[FoldTask], folder: Path, jobs: int = 1
) -> Iterator[tuple[FoldTask, FoldResult | Failure]]:
    """Yields every task with its result or failure, in the order in which they finish.

    A task that fails does not stop the others. Closing the iterator, or Ctrl-C, ends the workers at once; a
    worker ends itself when this process dies.

    Args:
        execute: a module-level function (it is sent to the workers by name).
        tasks: independent of one another.
        folder: handed to `execute`.
        jobs: processes; 1 runs here.

    Raises:
        UserError: a worker died (most often for lack of memory).
    """
    if jobs <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield task, _tried(execute, task, folder)
        return
    yield from spread(partial(_tried, execute, folder=folder), tasks, min(jobs, len(tasks)))


def _tried(execute: Execute, task: FoldTask, folder: Path) -> FoldResult | Failure:
    try:
        return execute(task, folder)
    except UserError as error:
        return Failure(f"{task.name}: {error}")
    except Exception as error:
        return Failure(f"{task.name}: {type(error).__name__}: {error}", traceback.format_exc())


def spread(call: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[tuple[Item, Result]]:
    """Yields every item with what `call` makes of it in one of several processes, in the order in which they finish.

    Closing the iterator, or Ctrl-C, ends the workers at once; a worker ends itself when this process dies.

    Args:
        call: sent to the workers by name, with its bound arguments.
        items: sent to the workers.
        jobs: processes.

    Raises:
        UserError: a worker died (most often for lack of memory).
    """
    # spawn: a forked torch can hang in its thread pools
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=start_worker)
    pending: dict[Future[Result], Item] = {}
    try:
        for item in items:
            pending[pool.submit(call, item)] = item
            # one waiting item a worker is enough; the rest is handed out as results come in
            if len(pending) >= 2 * jobs:
                yield from _finished(pending)
        while pending:
            yield from _finished(pending)
    except BrokenProcessPool as error:
        raise UserError(
            "want every worker to live, got one that died (out of memory, or a script that starts processes without "
            "`if __name__ == '__main__':`); what is finished is kept, run the same command again with fewer --jobs"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        if pending:
            for child in multiprocessing.active_children():
                child.terminate()


def _finished(pending: dict[Future[Result], Item]) -> Iterator[tuple[Item, Result]]:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        result = future.result()
        yield pending.pop(future), result


def start_worker() -> None:
    """To be called in a new process: Ctrl-C is the parent's to handle; a worker whose parent was killed ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
