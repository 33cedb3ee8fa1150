"""Pictures of a search: its history, what matters, and the scores along each space."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fleeting import files
from fleeting.search.objective import Plan
from fleeting.search.spaces import Choices

_DOT, _BEST, _QUIET = "#1f5fa8", "#b3261e", "#d8dee4"
_COLUMNS = 3


def draw(folder: Path, plan: Plan, done: Sequence[Any], importances: Mapping[str, float]) -> list[Path]:
    """Writes ``history.svg``, ``slices.svg`` and, where it is known what matters, ``importances.svg``.

    Args:
        folder: of the search.
        plan: the search.
        done: trials with a score, in their order.
        importances: name -> share.
    """
    figures = {"history": _history(plan, done), "slices": _slices(plan, done)}
    if importances:
        figures["importances"] = _bars(importances)
    paths = []
    for name, figure in figures.items():
        path = folder / f"{name}.svg"
        with rc_context({"svg.hashsalt": "fleeting"}), files.replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
        paths.append(path)
    return paths


def _history(plan: Plan, done: Sequence[Any]) -> Figure:
    figure, axes = _sheet(7, 3.6)
    numbers, scores = [trial.number for trial in done], [trial.value for trial in done]
    best = [max(scores[: place + 1]) for place in range(len(scores))]
    axes.plot(numbers, scores, "o", ms=4, color=_DOT, label="trial")
    axes.step(numbers, best, where="post", color=_BEST, label="best so far")
    axes.set(xlabel="trial", ylabel=_scored(plan))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False)
    return figure


def _bars(importances: Mapping[str, float]) -> Figure:
    figure, axes = _sheet(7, 0.9 + 0.35 * len(importances))
    names = list(importances)[::-1]
    axes.barh(names, [importances[name] for name in names], color=_DOT, height=0.6)
    axes.set(xlabel="share of the score's variance (fANOVA)", xlim=(0, 1))
    return figure


def _slices(plan: Plan, done: Sequence[Any]) -> Figure:
    names = list(plan.searched.spaces)
    rows, columns = math.ceil(len(names) / _COLUMNS), min(_COLUMNS, len(names))
    figure = Figure(figsize=(3.4 * columns, 3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for name, axes in zip(names, grid, strict=False):
        _slice(axes, plan, name, done)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel(_scored(plan))
    return figure


def _slice(axes: Axes, plan: Plan, name: str, done: Sequence[Any]) -> None:
    space = plan.searched.spaces[name]
    top = max(done, key=lambda trial: (trial.value, -trial.number))
    if isinstance(space, Choices):
        words = [_short(value) for value in space.choices]
        places = {stored: index for index, stored in enumerate(_stored(space))}
        axes.set_xticks(range(len(words)), words, rotation=30 if max(map(len, words)) > 8 else 0)
        axes.set_xlim(-0.5, len(words) - 0.5)
    else:
        places = {}
        axes.set_xscale("log" if space.log else "linear")
        if space.whole and not space.log:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for trial in done:
        x = places[trial.params[name]] if places else trial.params[name]
        axes.plot(x, trial.value, "o", ms=5 if trial is top else 4, color=_BEST if trial is top else _DOT, alpha=0.8)
    axes.set_xlabel(name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_QUIET, lw=0.5)


def _stored(space: Choices) -> list[str]:
    return [json.dumps(value) for value in space.choices]


def _short(value: Any) -> str:
    word = str(value)
    return word if len(word) <= 16 else f"{word[:15]}…"


def _scored(plan: Plan) -> str:
    settings = plan.searched.settings
    return f"{settings.metric}, {settings.inner} inner groups"


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=_QUIET, lw=0.5)
    return figure, axes
