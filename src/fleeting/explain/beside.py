"""Several models beside each other on one clip: the apex, the flow, and a heat map a model.

As in figure 9 of BOWAM (Xie et al., 2026): a row a moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from fleeting import config, deciding, finding, motion, page, seeing
from fleeting.explain import clips, sheet
from fleeting.explain.clips import Model, Wanted
from fleeting.explain.sheet import Explained
from fleeting.records import Array, Clip
from fleeting.seeing import Progress, Seen, quiet
from fleeting.stages import Stages

# inches: above the rows, between pictures, above and below them; a line and a letter of their names
_TOP, _GAP, _ABOVE, _BELOW = 0.85, 0.1, 0.22, 0.52
_LINE, _LETTER, _WHEEL = 0.15, 0.073, 0.44
_MOST_SIDE = 2.4
_COLOURS = (("wheel_r", "wheel_g", "wheel_b"), ("r", "g", "b"))


@dataclass(frozen=True, eq=False)
class Row:
    """One moment as each model sees it.

    Attributes:
        found: name of the model -> what it says of its decision, or of the class that was asked for.
    """

    found: Mapping[str, Explained]


def clip(
    models: Sequence[Path], name: str, out: Path, wanted: Wanted = Wanted(), progress: Progress = quiet
) -> dict[str, Any]:
    """Draws a moment a row: the apex, the flow that the models were given, and of each model one heat map.

    The first model finds the moments of a recording, and all look at the same. Each map shows the reasons of the class
    that its model decided for, or of `wanted.only`, on its own scale: maps of two networks have no common unit.

    Args:
        models: folders that `fleeting train` wrote; their inputs may differ.
        name: as in `clips.clip`, a clip of a corpus of the first model's experiment.
        out: .png, .svg or .pdf.
        wanted: class, method, changes.
        progress: for a progress bar.

    Returns:
        ``clip, methods: {model: method}, moments: [{onset, apex, offset, models: {model: {class, explained,
        probabilities, regions, trained_on}}}], picture, notices``. See `clips.clip`.

    Raises:
        UserError: as `clips.clip`.
    """
    page.check_format(out)
    opened = _named(models, [clips.open_model(folder, wanted) for folder in models])
    (found,), known = finding.find(opened[0].experiment.datasets, [name], wanted.fps)
    rows: list[Row] = []
    notices: list[str] = []
    with seeing.look(deciding.spotted(opened[0].experiment, found), found, progress) as seen:
        for one in seen:
            notices = notices or [f"{found.key}: {notice}" for notice in seeing.notices(one)]
            rows.append(_row(opened, found, one, wanted, found.key in known))
    draw(out, rows)
    return {
        "clip": found.key,
        "methods": {model.name: model.method for model in opened},
        "moments": [_told(row) for row in rows],
        "picture": str(out),
        "notices": notices,
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What `clip` found, as sentences."""
    yield from (f"notice: {notice}" for notice in found["notices"])
    for moment in found["moments"]:
        where = f" frames {moment['onset']} to {moment['offset']}" if "onset" in moment else ""
        yield f"{found['clip']}{where}:"
        for name, told in moment["models"].items():
            probs = ", ".join(f"{word} {value:.3f}" for word, value in told["probabilities"].items())
            yield f"  {name}: {told['class']} ({probs}); subject {clips.TOLD[told['trained_on']]}"
    yield f"{', '.join(dict.fromkeys(found['methods'].values()))}: {found['picture']}"


def draw(out: Path, rows: Sequence[Row]) -> None:
    """The page: in each row the apex, each flow picture that a model was given, and a map a model.

    Args:
        out: .png, .svg or .pdf.
        rows: of one clip and the same models.

    Raises:
        UserError: another format, or the picture cannot be written.
    """
    page.check_format(out)
    first = next(iter(rows[0].found.values()))
    count = max(len(_pictures(row)) for row in rows) + len(rows[0].found)
    side = min(_MOST_SIDE, (page.WIDTH - 2 * page.EDGE + _GAP) / count - _GAP)
    heads = [_wrapped(f"{number}  {name}", side) for number, name in enumerate(rows[0].found, 1)]
    above = _ABOVE + (max(len(head.splitlines()) for head in heads) - 1) * _LINE
    height = above + side + _BELOW
    with mpl.rc_context(page.STYLE):
        figure = page.sheet(first.face.clip.key, _TOP + len(rows) * height)
        page.say(figure, 0.42, _legend(rows[0]), page.MUTED)
        if any(name.startswith("flow") for row in rows for name, _ in _pictures(row)):
            _draw_wheel(figure)
        for number, row in enumerate(rows):
            _draw_row(figure, row, _TOP + number * height + above, side)
        page.save(figure, out)


def _draw_row(figure: Figure, row: Row, top: float, side: float) -> None:
    pictures = _pictures(row)
    total = len(pictures) + len(row.found)
    places = [page.place(figure, page.EDGE + at * (side + _GAP), top, side, side) for at in range(total)]
    for axes, (name, picture) in zip(places, pictures, strict=False):
        axes.imshow(picture, interpolation="nearest", extent=(0, 1, 1, 0))
        page.bare(axes, name)
    for number, (axes, (name, explained)) in enumerate(zip(places[len(pictures) :], row.found.items(), strict=True), 1):
        ((word, heat),) = explained.heats.items()
        sheet.overlay(axes, explained, heat / sheet.full([heat]))
        page.bare(axes, _wrapped(f"{number}  {name}", side))
        said = word if word == explained.decision else f"for {word}"
        style: Any = {"va": "top", "fontsize": 9, "transform": axes.transAxes}
        axes.text(0, 1 - 1.03, f"{said}  {explained.probabilities[word]:.2f}", color=page.INK, **style)
        if explained.trained_on:
            axes.text(0, 1 - 1.03 - 0.17 / side, "trained on subject", color=page.BAD, **style)


def _draw_wheel(figure: Figure) -> None:
    """What the hues of the flow mean."""
    axes = page.place(figure, page.WIDTH - page.EDGE - _WHEEL, 0.16, _WHEEL, _WHEEL)
    axes.imshow(motion.wheel(160))
    axes.set_axis_off()
    words = "hue of the flow: where to"
    page.say(figure, 0.42, words, page.MUTED, page.WIDTH - page.EDGE - _WHEEL - _GAP - len(words) * _LETTER)


def _wrapped(name: str, side: float) -> str:
    """In lines no longer than a picture, broken after blanks and the marks that names are joined by."""
    lines = [""]
    for piece in re.split(r"(?<=[ _/-])", name):
        if lines[-1].strip() and len(lines[-1]) + len(piece.rstrip()) > side / _LETTER:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _legend(row: Row) -> str:
    methods = dict.fromkeys(explained.method for explained in row.found.values())
    said = [sheet.legend(method, "each map on its own scale") for method in methods]
    return "; ".join(said)


def _pictures(row: Row) -> list[tuple[str, Array]]:
    """The apex, and the flow pictures that the models were given, each once with the numbers of those models."""
    faces = [(name, picture) for name, picture, _ in sheet.faces(next(iter(row.found.values())))]
    found = [(name.replace(": frame", ""), picture) for name, picture in faces[-1:]]
    flows: list[tuple[Array, list[int]]] = []
    for number, explained in enumerate(row.found.values(), 1):
        for picture in _flows(explained):
            same = [numbers for other, numbers in flows if np.array_equal(other, picture)]
            if same:
                same[0].append(number)
            else:
                flows.append((picture, [number]))
    for picture, numbers in flows:
        of = "" if len(numbers) == len(row.found) else f" of {', '.join(map(str, dict.fromkeys(numbers)))}"
        found.append((f"flow{of}", picture))
    return found


def _flows(explained: Explained) -> Iterator[Array]:
    """(h, w, 3) colours of each flow that a model was given; of a sequence the middle."""
    for name, array in explained.arrays.items():
        names = list(explained.channels[name])
        middle = array if array.ndim == 3 else array[:, array.shape[1] // 2]
        for at in range(len(names)):
            if name == "flow" and tuple(names[at : at + 3]) in _COLOURS:
                yield np.moveaxis(middle[at : at + 3], 0, -1)
            elif [word.removesuffix("255") for word in names[at : at + 2]] == ["u", "v"]:
                uv = middle[at : at + 2].astype(np.float32)
                if names[at] == "u255":  # its zero is lost: most of a face is still
                    uv = uv - np.median(uv, axis=(1, 2), keepdims=True)
                yield motion.colours(uv, float(np.percentile(motion.magnitude(uv), 99.5)) or None)


_WAY = ("face", "align", "flow", "input")


def _named(folders: Sequence[Path], models: Sequence[Model]) -> list[Model]:
    """Models that differ in name: their folder's, with as many folders above it as that takes."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            break
    else:
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return [replace(model, name=name) for model, name in zip(models, names, strict=True)]


def _row(models: Sequence[Model], found: Clip, seen: Seen, wanted: Wanted, known: bool) -> Row:
    """The first model's moment, as all see it."""
    words = [wanted.only] if wanted.only is not None else []
    rows = {}
    for model in models:
        with ExitStack() as stack:
            one = seen if model is models[0] else _as_seen_by(model, models[0], found, seen, stack)
            rows[model.name] = clips.explain(model, one, words, known)
    return Row(rows)


def _as_seen_by(model: Model, first: Model, found: Clip, seen: Seen, stack: ExitStack) -> Seen:
    """The moment that the first model saw, as another sees it: where it can be, on the very same faces."""
    alike = {table for table in _WAY if getattr(model.experiment, table) == getattr(first.experiment, table)}
    if alike == set(_WAY):
        return seen
    moment = seen.face.moment
    # a recording that was searched for its moments is followed as a whole; else only what the first input asked for
    whole = Stages(deciding.spotted(first.experiment, found)).looks(found)
    if moment is not None and whole and {"face", "align"} <= alike:
        return seeing.seen_as(Stages(model.experiment), seen, moment)
    if moment is not None:
        found = replace(found, onset=moment.onset, apex=moment.apex, offset=moment.offset)
    told = model.experiment.model_copy(update={"apex": "annotated", "spotting": config.Choice(name="annotated")})
    return next(stack.enter_context(seeing.look(told, found)))


def _told(row: Row) -> dict[str, Any]:
    face = next(iter(row.found.values())).face
    moment = face.moment if len(face.frames) else None
    where = {"onset": moment.onset, "apex": moment.apex, "offset": moment.offset} if moment else {}
    return {
        **where,
        "models": {
            name: {
                "class": explained.decision,
                "explained": next(iter(explained.heats)),
                "probabilities": explained.probabilities,
                "regions": explained.regions,
                "trained_on": explained.trained_on,
            }
            for name, explained in row.found.items()
        },
    }
