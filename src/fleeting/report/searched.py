"""What a search in training chose: the section of runs whose tasks logged one (AMMSM, Liu et al. 2025, figure 4).

A task logs ``search_*`` and ``random_*``, the evolutionary and the random search with the same budget, by trial:
``_loss`` (the fitness), ``_factor``, and ``_sparsity``, the ratios of one trial after those of another; ``sparsity``
and ``factor`` are what it chose. Without them there is no section.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fleeting.records import Array
from fleeting.report.blocks import Block, Cell, Heading, Table, counted, number
from fleeting.report.drawing import Drawing, Figure, both
from fleeting.report.readings import Reading

_NAMES = {"search": "evolution", "random": "random search"}
_LOGGED = {"sparsity", "factor", *(f"{name}_{what}" for name in _NAMES for what in ("loss", "factor", "sparsity"))}


@dataclass(frozen=True, eq=False)
class Search:
    """The searches of a run.

    Attributes:
        losses: "search" and "random" -> (tasks, trials) fitness.
        ratios: (tasks, pairs of blocks) as chosen; no column where they were not searched.
        factors: (tasks,) as chosen; empty where it was not searched.
        pairs: what each column of the ratios is: "1.1": the first two blocks of the first stage.
        steps: the ratios to choose from. span: the least and the largest factor.
    """

    losses: Mapping[str, Array]
    ratios: Array
    factors: Array
    pairs: Sequence[str]
    steps: Sequence[float]
    span: tuple[float, float]


def searched(readings: Sequence[Reading]) -> list[Block]:
    """A figure for each run that searched, and what the searches found as a table; nothing if no run did."""
    found = [(reading, one) for reading in readings if (one := search(reading)) is not None]
    if not found:
        return []
    blocks: list[Block] = [Heading("What the search chose")]
    for place, (reading, one) in enumerate(found, 1):
        blocks += [Heading(reading.label, 3)] if len(found) > 1 else []
        blocks.append(figure(f"searched-{place}", one))
    return [*blocks, _table(found)]


def search(reading: Reading) -> Search | None:
    """What the tasks of a run logged; None if none of them searched."""
    logs = [trace.log for trace in reading.run.traces.values() if trace.log.keys() >= _LOGGED]
    if not logs:
        return None

    def moves(what: str) -> bool:
        return any(len(np.unique(log[f"{name}_{what}"])) > 1 for log in logs for name in _NAMES)

    model = reading.experiment["model"]
    ratios = np.stack([log["sparsity"] for log in logs])
    factors = np.concatenate([log["factor"] for log in logs])
    tried = np.concatenate([log[f"{name}_sparsity"] for log in logs for name in _NAMES])
    span = model.get("factors") or (factors.min(), factors.max())
    return Search(
        losses={name: np.stack([log[f"{name}_loss"] for log in logs]) for name in _NAMES},
        ratios=ratios if moves("sparsity") else ratios[:, :0],
        factors=factors if moves("factor") else factors[:0],
        pairs=_pairs(model.get("depths", ()), ratios.shape[1]),
        steps=sorted(model.get("ratios") or np.unique(tried).tolist()),
        span=(float(span[0]), float(span[1])),
    )


def _pairs(depths: Sequence[int], count: int) -> list[str]:
    names = [f"{stage}.{pair + 1}" for stage, depth in enumerate(depths, 1) for pair in range(-(-depth // 2))]
    return names if len(names) == count else [str(pair + 1) for pair in range(count)]


# --- the figure


def figure(name: str, one: Search) -> Figure:
    """Left (or above): the least fitness so far by trial. Right: what was chosen, as the paper's figure 4 has it."""
    tasks, trials = one.losses["search"].shape
    ends = ", ".join(f"{words} {number(_ends(one, key).mean())}" for key, words in _NAMES.items())
    alt = f"Least fitness after {counted(trials, 'trial')}, mean over {counted(tasks, 'task')}: {ends}. Mean choice:"
    chosen = [f"ratio {pair} {values.mean():.2f}" for pair, values in zip(one.pairs, one.ratios.T, strict=False)]
    chosen += [f"factor {one.factors.mean():.2f}"] if len(one.factors) else []
    caption = (
        "Left: the least fitness so far (cross-entropy of inner subjects, none of them tested), mean over the "
        f"{counted(tasks, 'task')}; bars at the end: 95 % bootstrap over tasks. Right: what the tasks chose. A disc's "
        "area is the share of tasks that took this ratio, 2.1 the first two blocks of the second stage; orange: the "
        "factor of each task. Lines: means."
    )
    return both(name, f"{alt} {', '.join(chosen)}.", caption, partial(_draw, one))


def _draw(one: Search, drawing: Drawing) -> float:
    if drawing.narrow:
        _trace(drawing, one, (44, 30, drawing.width - 14, 200))
        _chosen(drawing, one, (44, 290, drawing.width - 40, 470))
        return 520
    _trace(drawing, one, (44, 30, 500, 270))
    _chosen(drawing, one, (580, 30, 1110, 270))
    return 320


Frame = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _trace(drawing: Drawing, one: Search, frame: Frame) -> None:
    left, top, right, bottom = frame
    lines = {name: np.minimum.accumulate(losses, axis=1).mean(0) for name, losses in one.losses.items()}
    bounds = {name: _bounds(_ends(one, name)) for name in lines}
    every = np.concatenate([*lines.values(), *(np.array(pair) for pair in bounds.values())])
    low, high = float(every.min()), float(every.max())
    low, high = (low - 0.05, high + 0.05) if high - low < 1e-3 else (low, high)

    def at(value: float) -> float:
        return bottom - (bottom - top - 12) * (value - low) / (high - low)

    drawing.text(left, top - 12, "least fitness so far", "muted")
    for value in np.linspace(low, high, 4):
        drawing.line(left, at(value), right, at(value), "grid")
        drawing.text(left - 6, at(value) + 4, f"{value:.2f}" if high - low > 0.06 else f"{value:.3f}", "tiny", "end")
    trials = len(lines["search"])
    end = right - 30
    for trial in sorted({1, (trials + 1) // 2, trials}):
        drawing.text(left + (end - left) * _share(trial, trials), bottom + 17, str(trial), "tiny", "middle")
    drawing.text((left + end) / 2, bottom + 32, "trials", "tiny", "middle")
    for (name, kind), away in zip((("random", " train"), ("search", "")), (18, 8), strict=True):
        points = [(left + (end - left) * _share(trial, trials), at(v)) for trial, v in enumerate(lines[name], 1)]
        drawing.path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), f"curve{kind}")
        drawing.dot(*points[-1], 4, f"end{kind}", f"{_NAMES[name]} {lines[name][-1]:.3f}")
        drawing.line(end + away, at(bounds[name][0]), end + away, at(bounds[name][1]), "floor" if kind else "whisker")
    y = bottom + 48
    drawing.line(left, y - 4, left + 22, y - 4, "whisker")
    drawing.text(left + 28, y, "evolution", "tiny")
    drawing.line(left + 96, y - 4, left + 118, y - 4, "dashed")
    drawing.text(left + 124, y, "random search, same budget", "tiny")


def _chosen(drawing: Drawing, one: Search, frame: Frame) -> None:
    """Ratios on the left scale, a column a pair of blocks; the factor on the right one."""
    left, top, right, bottom = frame
    columns = one.ratios.shape[1] + (1.5 if len(one.factors) else 0)
    width = (right - left) / max(columns, 1.5)
    if one.ratios.shape[1]:
        least, most = min(one.steps), max(one.steps)
        room = (bottom - top) * 0.5 / max(len(one.steps), 2)

        def of_ratio(ratio: float) -> float:
            return bottom - room - (bottom - top - 2 * room) * (ratio - least) / max(most - least, 1e-9)

        drawing.text(left, top - 12, "sparsity ratio by pair of blocks", "muted")
        for step in one.steps:
            drawing.line(left, of_ratio(step), left + width * one.ratios.shape[1], of_ratio(step), "grid")
            drawing.text(left - 6, of_ratio(step) + 4, f"{step:.2g}", "tiny", "end")
        for place, (pair, values) in enumerate(zip(one.pairs, one.ratios.T, strict=True)):
            middle = left + width * (place + 0.5)
            _ratios(drawing, values, pair, (middle, min(0.45 * width, room)), of_ratio)
            drawing.text(middle, bottom + 17, pair, "tiny", "middle")
        drawing.text(left, bottom + 34, "stage.pair of blocks", "tiny")
    if len(one.factors):
        _factors(drawing, one, (right - width, top, right, bottom))


def _ratios(
    drawing: Drawing, values: Array, pair: str, place: tuple[float, float], at: Callable[[float], float]
) -> None:
    middle, largest = place
    for ratio, count in sorted(Counter(np.round(values, 6).tolist()).items()):
        title = f"{pair}: {ratio:.2g} in {count} of {counted(len(values), 'task')}"
        drawing.dot(middle, at(ratio), max(1.5, largest * (count / len(values)) ** 0.5), "mark", title)
    y = at(float(values.mean()))
    drawing.line(middle - largest, y, middle + largest, y, "floor")


def _factors(drawing: Drawing, one: Search, frame: Frame) -> None:
    left, top, right, bottom = frame
    low, high = one.span

    def at(factor: float) -> float:
        return bottom - 8 - (bottom - top - 16) * (factor - low) / max(high - low, 1e-9)

    drawing.text(right, top - 12, "factor", "muted", "end")
    drawing.line(right, top, right, bottom, "axis")
    for tick in np.linspace(low, high, 4):
        drawing.line(right, at(tick), right + 4, at(tick), "axis")
        drawing.text(right + 7, at(tick) + 4, f"{tick:.2g}", "tiny")
    for place, factor in enumerate(one.factors.tolist()):
        beside = (place * 0.618034) % 1 - 0.5  # spread evenly, and the same every time
        drawing.dot((left + right) / 2 + 0.6 * (right - left) * beside, at(factor), 3, "f1", f"{factor:.2f}")
    y = at(float(one.factors.mean()))
    drawing.line(left + 6, y, right - 6, y, "floor")
    drawing.text((left + right) / 2, bottom + 17, "factor", "tiny", "middle")


def _share(trial: int, trials: int) -> float:
    return (trial - 1) / max(1, trials - 1)


# --- the table


def _table(found: Sequence[tuple[Reading, Search]]) -> Table:
    head = (
        "run", "tasks", "trials of each", "evolution ends at", "random search ends at", "a random trial",
        "evolution is lower in", "factor",
    )  # fmt: skip
    rows = []
    for reading, one in found:
        tasks, trials = one.losses["search"].shape
        ends = {name: _ends(one, name) for name in _NAMES}
        rows.append([
            Cell(reading.label), Cell(str(tasks)), Cell(str(trials)), *(_mean(ends[name]) for name in _NAMES),
            Cell(number(float(one.losses["random"].mean()))),
            Cell(f"{(ends['search'] < ends['random']).mean():.0%}", "of the tasks"), _factor(one.factors),
        ])  # fmt: skip
    caption = (
        "The least fitness of each search, mean over tasks, in brackets its 95 % bootstrap over tasks; beside it what "
        "a configuration at random has, mean over trials and tasks. Factor: mean and range of what was chosen."
    )
    return Table(caption, head, rows, "cards")


def _mean(values: Array) -> Cell:
    low, high = _bounds(values)
    return Cell(number(float(values.mean())), f"[{number(low)}, {number(high)}]" if len(values) > 1 else "")


def _factor(factors: Array) -> Cell:
    if not len(factors):
        return Cell("–", "not searched")
    return Cell(f"{factors.mean():.2f}", f"{factors.min():.2f} – {factors.max():.2f}")


def _ends(one: Search, name: str) -> Array:
    """(tasks,) the least fitness."""
    return np.asarray(one.losses[name].min(axis=1))


def _bounds(values: Array) -> tuple[float, float]:
    draws = np.random.default_rng(0).choice(values, (1000, len(values))).mean(1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
