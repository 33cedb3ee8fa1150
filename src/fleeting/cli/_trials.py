"""Commands that try several things: values of hyperparameters, and how fast models are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fleeting.cli._console import Changes, Experiment, Json, app, errors, output, print_json, progress_bar


@app.command()
def search(
    experiment: Experiment,
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the search; an existing one goes on. Default: searches/NAME.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Parallel processes, one thread each.", min=1)] = 1,
    trials: Annotated[int | None, typer.Option(help="How many in all; by default search.trials.", min=1)] = None,
    json_: Json = False,
) -> None:
    """Searches the table [search] of an experiment on inner subjects, never on the test part; resumes where it stopped.

    The same command may be started several times at once: all work on one study.
    """
    from fleeting import config
    from fleeting import search as searching

    asked = [*(changes or []), *([f"search.trials={trials}"] if trials else [])]
    tables = config.tables(experiment, asked)
    folder = out or Path("searches") / str(tables.get("name", experiment.stem))
    with progress_bar(quiet=json_) as progress:
        found = searching.run(experiment, folder, asked, jobs, progress)
    if json_:
        return print_json(found)
    for notice in found["notices"]:
        errors.print(f"notice: {notice}", style="yellow", markup=False, soft_wrap=True)
    for line in _search_lines(found):
        output.print(line, markup=False, soft_wrap=True)
    return None


def _search_lines(found: dict[str, Any]) -> list[str]:
    count, best = found["trials"], found["best"]
    lines = [
        f"{count['done']} trials done, {count['failed']} failed, {count['lost']} lost and taken over; "
        f"{found['metric']} pooled over {found['inner']} inner groups of fold {found['fold']}, seed {found['seed']}",
        f"best: trial {best['number']}, {found['metric']} {best['score']:.4f}",
    ]
    width = max(len(name) for name in best["values"])
    for name, value in best["values"].items():
        share = found["importances"].get(name)
        told = "" if share is None else f"  (importance {share:.2f})"
        lines.append(f"  {name:{width}}  {value}{told}")
    return [*lines, f"run it: fleeting run {found['files'][0]}"]


@app.command(name="time")
def time_(
    experiments: Annotated[list[Path], typer.Argument(help="Experiment files (TOML).")],
    changes: Changes = None,
    each: Annotated[
        list[str] | None,
        typer.Option(
            help="Time every experiment under this change too: a.b=c, such as input.size=384. May be repeated."
        ),
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="cpu (default) or cuda. May be repeated.")] = None,
    threads: Annotated[int | None, typer.Option(help="Of a network on the CPU; by default all cores.", min=1)] = None,
    rounds: Annotated[int, typer.Option(help="Turns of every network.", min=1)] = 30,
    json_: Json = False,
) -> None:
    """Milliseconds a view and a clip of the networks of experiments, in turns, on a drawn clip, one view at a time."""
    from fleeting import describe, timing

    asked = timing.Asked(changes or (), each or (), device or ("cpu",), threads, rounds)
    with progress_bar(quiet=json_) as progress:
        found = timing.run(experiments, asked, progress)
    if json_:
        return print_json(found)
    output.print(describe.timing_table(found))
    return None
