"""Commands on experiments and runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from fleeting import plugins
from fleeting.cli._console import Changes, Experiment, Json, app, errors, output, print_json, progress_bar, say
from fleeting.errors import UserError


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


class Over(StrEnum):
    """What intervals draw anew."""

    subjects = "subjects"
    clips = "clips"


SelectOption = Annotated[
    Select, typer.Option("--select", help="Which epoch counts; 'oracle' looks at the test labels.")
]
RunFolder = Annotated[Path, typer.Argument(help="Run folder.")]


@app.command(name="list")
def list_(
    kind: Annotated[str, typer.Argument(help=f"One of: {', '.join(plugins.KINDS)}.")], json_: Json = False
) -> None:
    """Lists the plug-ins of a kind."""
    rows = plugins.summaries(kind)
    if json_:
        return print_json(rows)
    table = Table("name", "what it is", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["name"], row["summary"])
    output.print(table)
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
        return print_json(found)
    output.print(describe.text(found), markup=False, soft_wrap=True)
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
    with progress_bar(quiet=json_) as progress:
        done = stages.run(resolved, folder, jobs, progress=progress)
    failed = done.failed()
    for message in failed.values():
        errors.print(f"failed: {message}", style="red", markup=False, soft_wrap=True)
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
        return print_json(found)
    line = f"{found['name']}: {found['done']} of {found['all']} tasks done, {len(found['failed'])} failed"
    output.print(line, markup=False, soft_wrap=True)
    for message in found["failed"].values():
        output.print(f"  failed: {message}", markup=False, soft_wrap=True)
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
    over: Annotated[
        Over, typer.Option(help="What the shown intervals draw anew: subjects, or clips as many papers do.")
    ] = Over.subjects,
    per_class: Annotated[bool, typer.Option("--per-class", help="Also a table of the classes.")] = False,
    json_: Json = False,
) -> None:
    """Scores a run, or anybody's predictions."""
    from fleeting import describe, scoring

    if path.is_file():
        columns = {"true": true, "pred": pred, "subject": subject} | ({"dataset": dataset} if dataset else {})
        scores = scoring.score_csv(path, columns, select.value)
    else:
        scores = scoring.score_run(path, select.value, by.value, ties.value)
    _show_score(scores, json_, over.value)
    if per_class and not json_:  # the document has them anyway
        output.print(describe.class_table(scores))


@app.command()
def compare(
    folders: Annotated[list[Path], typer.Argument(help="Run folders; each is compared with the first.")],
    select: SelectOption = Select.last,
    metric: Annotated[str, typer.Option(help="uf1, uf1_all, uar, accuracy or macro_precision.")] = "uf1",
    json_: Json = False,
) -> None:
    """Compares runs: paired permutation test over subjects, and over random splits the distribution over seeds."""
    from fleeting import describe, scoring

    found = scoring.compare(folders, select.value, metric)
    if json_:
        return print_json(found)
    for scores in found["runs"]:
        _show_score(scores, False)
    table = Table("run", "against", "part", f"difference in {metric}", "95 %", "p", box=None, header_style="bold")
    for pair in found["pairs"]:
        # run minus first
        low, high = pair["interval"]
        between = "one subject" if low is None else f"{0.0 - high:+.4f} to {0.0 - low:+.4f}"
        numbers = (f"{0.0 - pair['difference']:+.4f}", between, f"{pair['p']:.4f}")
        table.add_row(*(escape(pair[name]) for name in ("second", "first", "part")), *numbers)
    output.print(table)
    if found["repeated"]:
        output.print(describe.repeated_table(found))
    paired = {one["second"] for one in found["repeated"]}
    for scores in found["runs"][1:] if found["drawn"] else ():
        if scores["run"] not in paired:
            words = "random splits, of which both drew alike and finished fewer than two: nothing paired by seed"
            output.print(f"{scores['run']}: {words}", markup=False, highlight=False)
    output.print(f"on the {found['common']} clips that all runs tested; {found['left_out']} left out", style="dim")
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
    say({"report": str(out)}, f"wrote {out}", json_)


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
    with progress_bar(quiet=json_) as progress:
        folder = stages.train(resolved, out, progress=progress)
    say({"model": str(folder)}, f"wrote {folder}", json_)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, runs and the page.")] = Path("demo"),
    jobs: Annotated[int, typer.Option(help="Parallel processes.", min=1)] = 2,
    json_: Json = False,
) -> None:
    """The whole way on a made-up corpus: leave-one-subject-out, and a report page."""
    from fleeting import demo as tour

    with progress_bar(quiet=json_) as progress:
        page = tour.run(out, jobs, progress)
    say({"report": str(page)}, f"open {page}", json_)


def _show_score(scores: dict[str, Any], as_json: bool, over: str = "subjects") -> None:
    if as_json:
        return print_json(scores)
    from fleeting import describe

    output.print(describe.score_table(scores, output.width, over))
    return None
