"""Commands on corpora, clips and recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fleeting import plugins
from fleeting.cli._console import Changes, Experiment, Json, app, errors, output, print_json, progress_bar, say
from fleeting.errors import UserError

Fps = Annotated[float | None, typer.Option("--fps", help="Frames a second of a folder of frames.", min=1)]
data = typer.Typer(no_args_is_help=True, help="Get a corpus that may be downloaded, or draw one.")
app.add_typer(data, name="data")


@app.command()
def prepare(
    experiment: Experiment,
    changes: Changes = None,
    jobs: Annotated[int | None, typer.Option(help="Parallel processes; by default one a core.", min=1)] = None,
    json_: Json = False,
) -> None:
    """Reads, tracks, aligns and computes the flow of every clip, without any training; what is done is kept."""
    import os

    from fleeting import config
    from fleeting import experiment as stages

    resolved = config.read(experiment, changes or [])
    with progress_bar(quiet=json_) as progress:
        clips, _, dropped = stages.load(resolved)
        packed, broken, notices = stages.prepare(resolved, clips, progress, jobs or os.cpu_count() or 1)
    found = {
        "views": len(packed),
        "clips": len(clips) - len(broken),
        "shapes": {name: list(array.shape[1:]) for name, array in packed.x.items()},
        "folder": str(packed.folder),
        "broken": broken,
        "dropped": len(dropped),
        "notices": notices,
    }
    if json_:
        return print_json(found)
    for key, reason in broken.items():
        errors.print(f"broken: {key}: {reason}", style="red", markup=False, soft_wrap=True)
    for key, told in notices.items():
        errors.print(f"notice: {key}: {'; '.join(told)}", style="yellow", markup=False, soft_wrap=True)
    output.print(
        f"{found['views']} views of {found['clips']} clips {found['shapes']}; {len(broken)} broken, {len(dropped)} "
        f"dropped; in {packed.folder}",
        markup=False,
        soft_wrap=True,
    )
    return None


@app.command()
def look(
    clip: Annotated[str, typer.Argument(help="Clip key (dataset/subject/name), video, or folder of frames.")],
    experiment: Annotated[
        Path | None, typer.Option(help="Experiment whose face, alignment, spotter and flow are used.")
    ] = None,
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="Picture to write (.png, .svg, .pdf).")] = Path("look.png"),
    fps: Fps = None,
    json_: Json = False,
) -> None:
    """Draws onset, apex and offset of a clip, its flow as a colour wheel, and the strain."""
    from fleeting import looking

    with progress_bar(quiet=json_) as progress:
        found = looking.draw(clip, experiment, changes or [], out, progress, fps)
    if json_:
        return print_json(found)
    for line in looking.lines(found):
        output.print(line, markup=False, soft_wrap=True)
    return None


@app.command()
def doctor(
    what: Annotated[
        str, typer.Argument(help="A dataset, a run folder, or an experiment file.", metavar="DATASET|RUN|EXPERIMENT")
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of the corpus; by default the configured one.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also read the onset, apex and offset of every clip.")] = False,
    quality: Annotated[
        bool,
        typer.Option(
            "--quality",
            help="Also measure the pictures that a network sees: faces in the middle, values a picture. Of an "
            "experiment its own, of a dataset those of the frame study's two preprocessings.",
        ),
    ] = False,
    changes: Changes = None,
    json_: Json = False,
) -> None:
    """Checks a corpus, or a run, against what is published, row by row; of an experiment, who is in which part."""
    from fleeting import config
    from fleeting import doctor as checks

    if quality:
        from fleeting import quality as pictures
    measured = []
    with progress_bar(quiet=json_) as progress:
        if what.endswith(".toml"):
            from fleeting import experiment as stages

            chosen = config.read(Path(what), changes or [])
            found = stages.examine(chosen)
            if quality:
                measured = [pictures.measure(chosen, stages.load(chosen)[0], progress)]
        elif Path(what).is_dir() and what not in plugins.names("datasets"):
            if quality:
                raise UserError(f"want a dataset or an experiment file to measure its pictures, got the run {what}")
            found = checks.examine_run(Path(what))
        else:
            loader, folder = plugins.load("datasets", what), root or config.root(what)
            found = checks.examine(what, folder, deep)
            if quality:
                measured = pictures.of_corpus(what, loader.load(folder), changes or [], progress)
    if json_:
        return print_json(checks.plain(found) | ({"quality": pictures.plain(measured)} if quality else {}))
    output.print(checks.text(found), markup=False, soft_wrap=True)
    if quality:
        output.print(pictures.text(measured), markup=False, soft_wrap=True)
    return None


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    clips: Annotated[
        list[str], typer.Argument(help="Clip keys (dataset/subject/name), videos, folders of frames or flow pictures.")
    ],
    changes: Changes = None,
    fps: Fps = None,
    json_: Json = False,
) -> None:
    """Class probabilities of clips or of the moments in a recording, by a saved model."""
    from fleeting import deciding

    with progress_bar(quiet=json_) as progress:
        found = deciding.predict(model, clips, progress, changes or [], fps)
    failed = [row for row in found if "error" in row]
    if json_:
        print_json(found)
    for row in () if json_ else found:
        _say_decision(row)
    if failed:
        raise UserError(f"want a decision on every clip, got none on {len(failed)} (named above)")


def _say_decision(row: dict[str, Any]) -> None:
    for notice in row.get("notices", []):
        errors.print(f"notice: {row['clip']}: {notice}", style="yellow", markup=False, soft_wrap=True)
    if "error" in row:
        errors.print(f"failed: {row['error']}", style="red", markup=False, soft_wrap=True)
        return
    where = f" frames {row['onset']} to {row['offset']}" if "onset" in row else ""
    probs = ", ".join(f"{name} {value:.3f}" for name, value in row["probabilities"].items())
    note = "  (its subject was trained on)" if row["trained_on"] else ""
    output.print(f"{row['clip']}{where}: {row['class']} ({probs}){note}", markup=False, soft_wrap=True)


@app.command()
def explain(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    clip: Annotated[
        str, typer.Argument(help="Clip key (dataset/subject/name), video, folder of frames or flow picture.")
    ],
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Another model folder: draws one map a model side by side. May be repeated."),
    ] = None,
    class_: Annotated[
        str | None, typer.Option("--class", help="Explain this class only; by default all, or with --beside decisions.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto (integrated), grad_cam, grad_cam++, hires_cam, gradient_input or attention.")
    ] = "auto",
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="Picture to write (.png, .svg, .pdf).")] = Path("explain.png"),
    fps: Fps = None,
    json_: Json = False,
) -> None:
    """Draws what saved models saw of a clip, and where on the face the reasons of their decisions lie."""
    from fleeting import explain as explanations

    wanted = explanations.Wanted(class_, method, tuple(changes or ()), fps)
    with progress_bar(quiet=json_) as progress:
        if beside:
            found = explanations.beside.clip([model, *beside], clip, out, wanted, progress)
        else:
            found = explanations.clip(model, clip, out, wanted, progress)
    if json_:
        return print_json(found)
    for line in explanations.beside.lines(found) if beside else explanations.lines(found):
        output.print(line, markup=False, soft_wrap=True)
    return None


@data.command()
def draw(
    to: Annotated[Path, typer.Argument(help="Folder to draw into.")],
    changes: Changes = None,
    jobs: Annotated[int, typer.Option(min=1, help="Threads.")] = 2,
    json_: Json = False,
) -> None:
    """Draws a simulated corpus: faces that move by action units, and the true flow beside them."""
    from fleeting import config

    simulated = plugins.load("datasets", "simulated")
    options = config.checked(simulated.Options, config.changed({}, changes or []), "simulated")
    with progress_bar(quiet=json_) as progress:
        simulated.write(to, options, lambda done, total: progress("drawing clips", done, total), jobs)
    clips = simulated.load(to)
    sentence = f"{to}: {len(clips)} clips of {options.subjects} subjects; use it with FLEETING_SIMULATED={to}"
    say({"folder": str(to), "clips": len(clips), "subjects": options.subjects}, sentence, json_)


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
    with progress_bar(quiet=json_) as progress:
        changed = dataset.fetch(target, source, lambda done, total: progress("fetching files", done, total))
    found = {"folder": str(target), "fetched": changed, "licence": dataset.INFO.licence}
    say(found, f"{target}: {changed} files fetched, all checked. Licence: {dataset.INFO.licence}", json_)
