"""The command ``fleeting``: thin commands, each calls one library function.

Imports of torch, pandas and scikit-learn stay inside the commands, so that ``--help`` and ``list`` are quick.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fleeting import __version__, plugins
from fleeting.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Facial micro-expression recognition: one pipeline, five published systems, an evaluation that cannot peek.",
)
data = typer.Typer(no_args_is_help=True, help="Get a corpus that may be downloaded.")
app.add_typer(data, name="data")

_errors = Console(stderr=True, highlight=False)
_output = Console(highlight=False)
_INTERRUPTED = 130
_RESUMABLE = "what is finished is kept: run the same command again to go on"


class Select(StrEnum):
    """Selection rules."""

    last = "last"
    inner = "inner"
    oracle = "oracle"


class By(StrEnum):
    """Scores of the oracle rule."""

    accuracy = "accuracy"
    uf1 = "uf1"


class Ties(StrEnum):
    """Tie rules of the oracle rule."""

    latest = "latest"
    earliest = "earliest"


Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else there.")]
Experiment = Annotated[Path, typer.Argument(help="Experiment file (TOML).")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change one value: a.b=c. May be repeated.")]
SelectOption = Annotated[
    Select, typer.Option("--select", help="Which epoch counts; 'oracle' looks at the test labels.")
]
RunFolder = Annotated[Path, typer.Argument(help="Run folder.")]


def main() -> None:
    """Runs the command; a `UserError` is one line on standard error and exit code 2, Ctrl-C is 130."""
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except Exception as error:
        # typer's own usage errors derive from click's ClickException, which typer may vendor
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            if error.format_message():  # empty where the help was printed for want of arguments
                _fail(error.format_message())
            sys.exit(2)
        raise
    if code == _INTERRUPTED:  # typer turns Ctrl-C into this code
        resumable = sys.argv[1:2] in (["run"], ["demo"], ["data"])
        _errors.print(f"[yellow]stopped; {_RESUMABLE if resumable else 'nothing was written'}[/]")
    sys.exit(code or 0)


def _fail(message: str) -> None:
    _errors.print(f"error: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(name="list")
def list_(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(plugins.KINDS)}.")], json_: Json = False
) -> None:
    """Lists the plug-ins of a kind."""
    rows = plugins.summaries(kind)
    if json_:
        return _print_json(rows)
    table = Table("name", "what it is", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["name"], row["summary"])
    _output.print(table)
    return None


@app.command()
def show(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(plugins.KINDS)}.")],
    name: Annotated[str, typer.Argument(help="Name of a plug-in.")],
    json_: Json = False,
) -> None:
    """Shows what a plug-in is, its source and its options with their defaults."""
    from fleeting import describe

    found = describe.plugin(kind, name)
    if json_:
        return _print_json(found)
    _output.print(describe.text(found), markup=False, soft_wrap=True)
    return None


@app.command()
def run(
    experiment: Experiment,
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; an existing one is resumed. Default: runs/NAME.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Parallel processes, one thread each.", min=1)] = 1,
    json_: Json = False,
) -> None:
    """Trains and tests every fold and seed; resumes where it stopped."""
    from fleeting import config, scoring
    from fleeting import experiment as stages

    resolved = config.read(experiment, changes or [])
    folder = out or Path("runs") / resolved.name
    with _progress(quiet=json_) as progress:
        done = stages.run(resolved, folder, jobs, progress=progress)
    failed = done.failed()
    for message in failed.values():
        _errors.print(f"failed: {message}", style="red", markup=False, soft_wrap=True)
    if done.traces:
        _show_score(scoring.score_run(folder), json_)
    if failed:
        raise UserError(
            f"{folder}: want every fold to finish, got {len(failed)} that failed (named above); the others are kept, "
            "run the same command again to try these again"
        )


@app.command()
def status(folder: RunFolder, json_: Json = False) -> None:
    """Says how far a run is."""
    from fleeting import runs

    found = runs.status(runs.Run(folder))
    if json_:
        return _print_json(found)
    line = f"{found['name']}: {found['done']} of {found['all']} tasks done, {len(found['failed'])} failed"
    _output.print(line, markup=False, soft_wrap=True)
    for message in found["failed"].values():
        _output.print(f"  failed: {message}", markup=False, soft_wrap=True)
    return None


@app.command()
def score(
    path: Annotated[Path, typer.Argument(help="Run folder, or a CSV file with one row a clip.")],
    select: SelectOption = Select.last,
    by: Annotated[By, typer.Option(help="What the oracle maximises.")] = By.accuracy,
    ties: Annotated[Ties, typer.Option(help="Which of equally good epochs the oracle keeps.")] = Ties.latest,
    true: Annotated[str, typer.Option(help="CSV: column of the labels.")] = "true",
    pred: Annotated[str, typer.Option(help="CSV: column of the predictions.")] = "pred",
    subject: Annotated[str, typer.Option(help="CSV: column of the subjects.")] = "subject",
    dataset: Annotated[str | None, typer.Option(help="CSV: column of the corpora, if there are several.")] = None,
    json_: Json = False,
) -> None:
    """Scores a run, or anybody's predictions."""
    from fleeting import scoring

    if path.is_file():
        columns = {"true": true, "pred": pred, "subject": subject} | ({"dataset": dataset} if dataset else {})
        return _show_score(scoring.score_csv(path, columns, select.value), json_)
    return _show_score(scoring.score_run(path, select.value, by.value, ties.value), json_)


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders; each is compared with the first.")],
    select: SelectOption = Select.last,
    metric: Annotated[str, typer.Option(help="uf1, uar, accuracy or macro_precision.")] = "uf1",
    json_: Json = False,
) -> None:
    """Compares runs: paired permutation test over subjects."""
    from fleeting import scoring

    found = scoring.compare(folders, select.value, metric)
    if json_:
        return _print_json(found)
    for scores in found["runs"]:
        _show_score(scores, False)
    table = Table("run", "against", "part", f"difference in {metric}", "p", box=None, header_style="bold")
    for pair in found["pairs"]:
        # run minus first
        numbers = (f"{0.0 - pair['difference']:+.4f}", f"{pair['p']:.4f}")
        table.add_row(*(escape(pair[name]) for name in ("second", "first", "part")), *numbers)
    _output.print(table)
    _output.print(f"on the {found['common']} clips that all runs tested; {found['left_out']} left out", style="dim")
    return None


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The page (.html) or the text (.md) to write.")] = Path("report.html"),
    json_: Json = False,
) -> None:
    """Writes one self-contained page about one or more runs."""
    from fleeting import report as pages

    pages.write(folders, out)
    _say({"report": str(out)}, f"wrote {out}", json_)


@app.command()
def train(
    experiment: Experiment,
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    changes: Changes = None,
    json_: Json = False,
) -> None:
    """Trains one network on every clip and saves it; nothing is left to test it on."""
    from fleeting import config
    from fleeting import experiment as stages

    resolved = config.read(experiment, changes or [])
    with _progress(quiet=json_) as progress:
        folder = stages.train(resolved, out, progress=progress)
    _say({"model": str(folder)}, f"wrote {folder}", json_)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    clips: Annotated[list[str], typer.Argument(help="Clip keys (dataset/subject/name) or flow pictures.")],
    json_: Json = False,
) -> None:
    """Class probabilities of clips, by a saved model."""
    from fleeting import experiment as stages

    found = stages.predict(model, clips)
    if json_:
        return _print_json(found)
    for row in found:
        probs = ", ".join(f"{name} {value:.3f}" for name, value in row["probabilities"].items())
        note = "  (its subject was trained on)" if row["trained_on"] else ""
        _output.print(f"{row['clip']}: {row['class']} ({probs}){note}", markup=False, soft_wrap=True)
    return None


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, runs and the page.")] = Path("demo"),
    jobs: Annotated[int, typer.Option(help="Parallel processes.", min=1)] = 2,
    json_: Json = False,
) -> None:
    """The whole way on a made-up corpus: leave-one-subject-out, and a report page."""
    from fleeting import demo as tour

    with _progress(quiet=json_) as progress:
        page = tour.run(out, jobs, progress)
    _say({"report": str(page)}, f"open {page}", json_)


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A dataset that may be downloaded.")],
    source: Annotated[str | None, typer.Option("--from", help="Folder or address with the same layout.")] = None,
    to: Annotated[Path | None, typer.Option(help="Where to put it; by default where it will be found.")] = None,
    json_: Json = False,
) -> None:
    """Downloads a corpus, or copies a local one; every file is checked."""
    from fleeting import config

    dataset = plugins.load("datasets", name)
    if not dataset.INFO.fetchable:
        raise UserError(f"want a dataset that may be downloaded, got {name}; ask for it at {dataset.INFO.request}")
    target = to or config.fetched(name)
    with _progress(quiet=json_) as progress:
        changed = dataset.fetch(target, source, lambda done, total: progress("fetching files", done, total))
    found = {"folder": str(target), "fetched": changed, "licence": dataset.INFO.licence}
    _say(found, f"{target}: {changed} files fetched, all checked. Licence: {dataset.INFO.licence}", json_)


@contextmanager
def _progress(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar a kind of work, with the time left; silent with --json and where nobody watches."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_errors, disable=quiet or not _errors.is_terminal, transient=False) as bar:
        tasks: dict[str, TaskID] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                # resumed work starts where it stopped, or the time left would be counted from nothing
                tasks[what] = bar.add_task(what, total=total, completed=done)
            bar.update(tasks[what], completed=done, total=total)

        yield step


def _say(found: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        return _print_json(found)
    _errors.print(sentence, markup=False, soft_wrap=True)
    return None


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False, default=str))


def _show_score(scores: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return _print_json(scores)
    from fleeting import describe

    _output.print(describe.score_table(scores, _output.width))
    return None
