"""What every command shares: the application, where output goes, progress bars, common options."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Facial micro-expression recognition: one pipeline, five published systems, an evaluation that cannot peek.",
)
errors = Console(stderr=True, highlight=False)
output = Console(highlight=False)
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
Experiment = Annotated[Path, typer.Argument(help="Experiment file (TOML).")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change one value: a.b=c. May be repeated.")]


@contextmanager
def progress_bar(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar a kind of work, with the time left; silent with --json and where nobody watches."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors, disable=quiet or not errors.is_terminal, transient=False) as bar:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                # resumed work starts where it stopped, or the time left would be counted from nothing
                tasks[what] = bar.add_task(what, total=total, completed=done)
            bar.update(tasks[what], completed=done, total=total)

        yield step


def say(found: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        return print_json(found)
    errors.print(sentence, markup=False, soft_wrap=True)
    return None


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False, default=str))
