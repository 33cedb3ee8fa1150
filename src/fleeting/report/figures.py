"""The report's figures but the strip of subjects: intervals, rules beside dice rolls, epochs, published numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleeting.report.drawing import Drawing, Figure, both, mark, scale, signed


@dataclass(frozen=True)
class Selected:
    """A score under a selection rule, and the dice roll under the same rule.

    Attributes:
        rule: "last", "inner" or "oracle".
        value, low, high: the score and its interval (None for one subject).
        floor, spread: mean and standard deviation of the dice roll.
    """

    rule: str
    value: float
    low: float | None
    high: float | None
    floor: float
    spread: float


@dataclass(frozen=True)
class Line:
    """Values after each epoch; `train` draws it as a quantity of the training part."""

    label: str
    values: Sequence[float]
    train: bool = False


@dataclass(frozen=True)
class Point:
    """A printed score: what it is, its value and its selection rule ("" where unknown)."""

    label: str
    value: float
    selection: str


@dataclass(frozen=True)
class Splits:
    """A difference over random splits: what of what, its value on each split, mean and corrected interval."""

    label: str
    values: Sequence[float]
    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, label: str, found: Mapping[str, Any]) -> Splits:
        """The later run minus the first, of one of `scoring.repeated`, which subtracts the later one."""
        low, high = found["corrected"]["interval"]
        values = [0.0 - value for value in found["by_seed"].values()]
        return cls(label, values, 0.0 - found["mean"], 0.0 - high, 0.0 - low)


# --- an interval, small enough for a table cell


def bar(value: float, low: float | None, high: float | None, floor: float | None = None) -> str:
    """A score in [0, 1] as a dot on its interval, with a tick at the dice roll; the cell prints the numbers."""
    drawing = Drawing(88)
    drawing.line(3, 7, 85, 7, "grid")
    if floor is not None:
        drawing.line(3 + 82 * floor, 2, 3 + 82 * floor, 12, "axis")
    if low is not None and high is not None:
        drawing.line(3 + 82 * low, 7, 3 + 82 * high, 7, "whisker")
    drawing.dot(3 + 82 * value, 7, 4, "mark")
    return drawing.svg(14, "").replace('role="img" aria-label=""', 'aria-hidden="true"')


# --- measured against selected


def measured(name: str, groups: Sequence[tuple[str, Sequence[Selected]]], caption: str) -> Figure:
    """Scores under each selection rule as dots, each beside the dice roll of its rule as a band.

    Args:
        name: of the figure.
        groups: (title, scores) a run and part.
        caption: what else is to be said.
    """
    alt = "UF1 under each selection rule beside the dice roll of that rule. " + " ".join(
        f"{title}: " + "; ".join(f"{row.rule} {row.value:.3f}, dice roll {row.floor:.3f}" for row in rows) + "."
        for title, rows in groups
    )
    return both(name, alt, caption, lambda drawing: _measured(drawing, groups))


def _measured(drawing: Drawing, groups: Sequence[tuple[str, Sequence[Selected]]]) -> float:
    left, right = (10.0, drawing.width - 10.0) if drawing.narrow else (160.0, 760.0)
    step, y = (46, 34.0) if drawing.narrow else (30, 34.0)
    bottom = y + sum(38 + step * len(rows) for _, rows in groups)
    scale(drawing, left, right, 20, bottom)
    if not drawing.narrow:
        for x, words in ((820, "UF1"), (905, "dice roll, same rule"), (1150, "above the dice")):
            drawing.text(x, 16, words, "muted", "end" if x > 1000 else "start")
    for title, rows in groups:
        drawing.text(0, y + 20, title, "strong")
        y += 38
        for row in rows:
            _selected(drawing, row, y, left, right)
            y += step
    return bottom + 8


def _selected(drawing: Drawing, row: Selected, y: float, left: float, right: float) -> None:
    """One row: words at the top (narrow) or on both sides (wide), the marks on a line."""
    red = row.rule == "oracle"
    middle = y + (30 if drawing.narrow else 12)
    _words(drawing, row, y, middle)

    def at(value: float) -> float:
        return left + (right - left) * value

    low, high = max(0.0, row.floor - 2 * row.spread), min(1.0, row.floor + 2 * row.spread)
    drawing.box(at(low), middle - 10, at(high), middle + 10, "band redband" if red else "band")
    drawing.line(at(row.floor), middle - 10, at(row.floor), middle + 10, "floor redline" if red else "floor")
    drawing.line(at(row.floor), middle, at(row.value), middle, "gain redline" if red else "gain")
    if row.low is not None and row.high is not None:
        drawing.line(at(row.low), middle, at(row.high), middle, "whisker redline" if red else "whisker")
    mark(drawing, at(row.value), middle, row.rule)


def _words(drawing: Drawing, row: Selected, y: float, middle: float) -> None:
    red, gain = row.rule == "oracle", signed(row.value - row.floor)
    strong = "redstrong" if red else "strong"
    if drawing.narrow:
        drawing.text(12, y + 12, row.rule, strong)
        words = f"{row.value:.3f} = dice roll {row.floor:.3f} {gain[0]} {gain[1:]}"
        return drawing.text(drawing.width - 4, y + 12, words, "red" if red else "", "end")
    drawing.text(148, middle + 5, row.rule, strong, "end")
    drawing.text(820, middle + 5, f"{row.value:.3f}", strong)
    drawing.text(905, middle + 5, f"{row.floor:.3f} ± {row.spread:.3f}", "red" if red else "")
    return drawing.text(1150, middle + 5, gain, strong, "end")


# --- along the epochs


def curves(name: str, scores: Sequence[Line], losses: Sequence[Line], chance: float, caption: str) -> Figure:
    """Scores in [0, 1] and, beside or below them, losses, along the epochs; the last epoch is marked.

    Args:
        name: of the figure.
        scores, losses: lines; losses may be empty.
        chance: UF1 of a dice roll.
        caption: what else is to be said.
    """
    ends = ", ".join(f"{line.label} {line.values[-1]:.3f}" for line in (*scores, *losses))
    alt = f"Lines along {max(len(line.values) for line in scores)} epochs. After the last one: {ends}."
    return both(name, alt, caption, lambda drawing: _curves(drawing, scores, losses, chance))


def _curves(drawing: Drawing, scores: Sequence[Line], losses: Sequence[Line], chance: float) -> float:
    wide = not drawing.narrow
    edge = 150 if wide else 118
    width = (drawing.width * (0.56 if losses else 1.0) if wide else drawing.width) - edge - 34
    _panel(drawing, (34, 26, 34 + width, 246), scores, 1.0, "UF1 on the tested clips; accuracy in training")
    y = 246 - 220 * chance
    drawing.line(34, y, 34 + width, y, "dashed")
    drawing.text(38, y - 5, f"dice roll {chance:.3f}", "tiny")
    if not losses:
        return 276
    top = _round_up(max(max(line.values) for line in losses))
    if wide:
        _panel(drawing, (drawing.width * 0.56 + 44, 26, drawing.width - 64, 246), losses, top, "training loss")
        return 276
    _panel(drawing, (34, 306, 34 + width, 466), losses, top, "training loss")
    return 496


def _round_up(value: float) -> float:
    """The next number above whose quarters are short to print."""
    if not value > 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8, 10) if unit * step >= value)


def _panel(
    drawing: Drawing, frame: tuple[float, float, float, float], lines: Sequence[Line], top: float, title: str
) -> None:
    left, above, right, below = frame
    epochs = max(len(line.values) for line in lines)
    drawing.text(left, above - 12, title, "muted")
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = below - (below - above) * share
        drawing.line(left, y, right, y, "grid")
        drawing.text(left - 6, y + 4, f"{top * share:.2f}", "tiny", "end")
    for epoch in sorted({1, (epochs + 1) // 2, epochs}):
        drawing.text(left + _along(epoch, epochs) * (right - left), below + 15, str(epoch), "tiny", "middle")
    drawing.text((left + right) / 2, below + 28, "epoch", "tiny", "middle")
    ends = [_curve(drawing, frame, line, epochs, top) for line in lines]
    if len(lines) <= 8:
        for y, (_, line) in zip(_apart([y for y, _ in ends], 14), sorted(ends, key=lambda end: end[0]), strict=True):
            drawing.text(right + 9, y + 4, f"{line.values[-1]:.3f} {line.label}", "tiny")


def _curve(
    drawing: Drawing, frame: tuple[float, float, float, float], line: Line, epochs: int, top: float
) -> tuple[float, Line]:
    """Draws a line and the dot at its last epoch; returns the dot's height."""
    left, above, right, below = frame
    points = [
        (left + _along(epoch, epochs) * (right - left), below - (below - above) * min(1.0, value / top))
        for epoch, value in enumerate(line.values, 1)
    ]
    kind = " train" if line.train else ""
    drawing.path("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), f"curve{kind}")
    drawing.dot(*points[-1], 4, f"end{kind}")
    return points[-1][1], line


def _along(epoch: int, epochs: int) -> float:
    return (epoch - 1) / max(1, epochs - 1)


def _apart(places: Sequence[float], gap: float) -> list[float]:
    """The places in order, moved down where two labels would overlap."""
    moved: list[float] = []
    for place in sorted(places):
        moved.append(max(place, moved[-1] + gap) if moved else place)
    return moved


# --- among published numbers


def published(
    name: str,
    points: Sequence[Point],
    ours: Sequence[tuple[str, float, float | None, float | None]],
    floors: tuple[float, float],
    caption: str,
) -> Figure:
    """Printed scores as dots on one line, our runs with their intervals below, the two dice rolls as lines.

    Args:
        name: of the figure.
        points: printed scores.
        ours: (label, value, low, high).
        floors: UF1 of a dice roll; of one under oracle-epoch selection.
        caption: what else is to be said.
    """
    alt = f"{len(points)} printed UF1 from {min(p.value for p in points):.3f} to {max(p.value for p in points):.3f}. "
    alt += f"Dice roll {floors[0]:.3f}; with oracle-epoch selection {floors[1]:.3f}. "
    alt += " ".join(f"{label}: {value:.3f}." for label, value, _, _ in ours)
    return both(name, alt, caption, lambda drawing: _published(drawing, points, ours, floors))


def _published(
    drawing: Drawing,
    points: Sequence[Point],
    ours: Sequence[tuple[str, float, float | None, float | None]],
    floors: tuple[float, float],
) -> float:
    left, right, radius = 10.0, drawing.width - 14.0, 3.4 if drawing.narrow else 5.0
    stacks = _dodged(points, (right - left), 2.3 * radius)
    line = 64 + 2.4 * radius * max(height for _, _, height in stacks)
    bottom = line + 12 + 26 * len(ours)
    scale(drawing, left, right, 20, bottom)

    def at(value: float) -> float:
        return left + (right - left) * value

    for value, kind, red, words in (
        (floors[0], "dashed", "muted", f"dice roll {floors[0]:.3f}"),
        (floors[1], "dashed redline", "redsmall", f"dice roll, oracle epoch of 800: {floors[1]:.3f}"),
    ):
        drawing.line(at(value), 28, at(value), bottom, kind)
        drawing.text(at(value) - 5, 38 if value == floors[0] else 54 if drawing.narrow else 38, words, red, "end")
    for point, x, height in stacks:
        kind = {"oracle-epoch": "pub redmark", "last": "pub known"}.get(point.selection, "pub")
        title = f"{point.label} {point.value:.3f}"
        drawing.dot(left + x, line - radius - height * 2.4 * radius, radius, kind, title)
    drawing.line(left, line + 2, right, line + 2, "axis")
    for number, run in enumerate(ours):
        _ours(drawing, run, line + 22 + 26 * number, at)
    return _keys(drawing, bottom + 20)


def _ours(
    drawing: Drawing, run: tuple[str, float, float | None, float | None], y: float, at: Callable[[float], float]
) -> None:
    label, value, low, high = run
    if low is not None and high is not None:
        drawing.line(at(low), y, at(high), y, "whisker")
    mark(drawing, at(value), y, "last")
    drawing.text(at(value if low is None else low) - 10, y + 4, f"{label} {value:.3f}", "accent", "end")


def _keys(drawing: Drawing, y: float) -> float:
    """What the dots mean; returns where it ends."""
    x = 6.0
    words = (("pub redmark", "oracle-epoch selection"), ("pub known", "last epoch"), ("pub", "selection not known"))
    for kind, word in words:
        if x + 20 + 6.4 * len(word) > drawing.width:
            x, y = 6.0, y + 18
        drawing.dot(x, y - 4, 4.5, kind)
        drawing.text(x + 10, y, word, "redsmall" if "red" in kind else "muted")
        x += 34 + 6.4 * len(word)
    return y + 8


def _dodged(points: Sequence[Point], width: float, gap: float) -> list[tuple[Point, float, int]]:
    """Each point with its x and the lowest free level, so that no two dots cover each other."""
    levels: list[float] = []
    placed = []
    for point in sorted(points, key=lambda point: point.value):
        x = point.value * width
        level = next((i for i, end in enumerate(levels) if x - end >= gap), len(levels))
        levels[level:] = [x, *levels[level + 1 :]]
        placed.append((point, x, level))
    return placed


# --- over random splits


def differences(name: str, rows: Sequence[Splits], caption: str) -> Figure:
    """A row a pair of runs: a dot a split around the line of no difference, below them the mean with its interval."""
    alt = "Differences over random splits. " + " ".join(
        f"{row.label}: mean {signed(row.mean)} [{signed(row.low)}, {signed(row.high)}] over {len(row.values)} splits."
        for row in rows
    )
    return both(name, alt, caption, lambda drawing: _differences(drawing, rows))


def _differences(drawing: Drawing, rows: Sequence[Splits]) -> float:
    left, right, top, step = 10.0, drawing.width - 10.0, 24.0, 62.0
    reach = _round_up(max(abs(value) for row in rows for value in (*row.values, row.low, row.high)))
    bottom = top + step * len(rows)

    def at(value: float) -> float:
        return (left + right) / 2 + (right - left) / 2 * value / reach

    for share in (-1.0, -0.5, 0.0, 0.5, 1.0):
        drawing.line(at(share * reach), top, at(share * reach), bottom, "grid" if share else "axis")
        words = signed(share * reach) if share else "0"
        anchor = "start" if share == -1 else "end" if share == 1 else "middle"
        drawing.text(at(share * reach), top - 6, words, "tiny", anchor)
    for place, row in enumerate(rows):
        y = top + step * place
        drawing.text(left, y + 16, row.label, "strong")
        for number, value in enumerate(row.values):
            # moved up and down in turn, so that near ones are told apart
            drawing.dot(at(value), y + 28 + 4 * (number % 3 - 1), 3.0, "pub known", signed(value))
        drawing.line(at(row.low), y + 46, at(row.high), y + 46, "whisker")
        mark(drawing, at(row.mean), y + 46, "last")
    return bottom + 8
