"""The command that makes small motion visible."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleeting.cli._console import Changes, Json, app, output, print_json, progress_bar


@app.command()
def magnify(
    clip: Annotated[str, typer.Argument(help="Clip key (dataset/subject/name), video, or folder of frames.")],
    factor: Annotated[float, typer.Option(help="How many times motion is magnified.")] = 4.0,
    model: Annotated[
        Path | None, typer.Option(help="Model folder (ammsm) whose learned magnifier stands beside the plain ways.")
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(help="learned, flow (times the factor) or linear (brightness); by default all. May be repeated."),
    ] = None,
    slow: Annotated[
        float | None,
        typer.Option(help="How many times slower it plays; by default so that 25 frames last a second.", min=0.01),
    ] = None,
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="Video to write (.mp4); a picture (.png) comes beside it.")] = Path(
        "magnify.mp4"
    ),
    fps: Annotated[float | None, typer.Option("--fps", help="Frames a second of a folder of frames.", min=1)] = None,
    json_: Json = False,
) -> None:
    """Writes a video of the face with its motion magnified, beside the original, and a picture of the flow."""
    from fleeting import magnify as magnifying

    wanted = magnifying.Wanted(factor, model, tuple(show or ()), slow, tuple(changes or ()), fps)
    with progress_bar(quiet=json_) as progress:
        found = magnifying.clip(clip, out, wanted, progress)
    if json_:
        return print_json(found)
    for line in magnifying.lines(found):
        output.print(line, markup=False, soft_wrap=True)
    return None
