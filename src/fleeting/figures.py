"""Figures of the report as SVG, written by hand: they take the page's colours, light or dark, through CSS variables.

A figure is drawn twice, for a wide and for a narrow column, because scaled-down text cannot be read. Positions are
in px of the drawing; nothing here reads a run or computes a score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from itertools import groupby

from fleeting.records import Array

WIDE, NARROW = 1160, 372
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_COLOURS = 8


@dataclass(frozen=True)
class Figure:
    """A drawing in two widths.

    Attributes:
        name: of a file, without ending.
        alt: what it shows, in words, for those who do not see it.
        caption: plain text.
        wide, narrow: ``<svg>`` elements.
    """

    name: str
    alt: str
    caption: str
    wide: str
    narrow: str


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
class Person:
    """A subject: its corpus, name and (C, C) counts, rows truth."""

    corpus: str
    name: str
    counts: Array


@dataclass(frozen=True)
class Point:
    """A printed score: what it is, its value and its selection rule ("" where unknown)."""

    label: str
    value: float
    selection: str


class Drawing:
    """The elements of one SVG of a given width."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.narrow = width < WIDE
        self.parts: list[str] = []

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        """Words with their baseline at y."""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{_kind(kind)}{_anchor(anchor)}>{escape(words)}</text>')

    def line(self, x: float, y: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self.parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"{_kind(kind)}/>')

    def box(self, x: float, y: float, x2: float, y2: float, kind: str) -> None:
        """A rectangle between two corners."""
        size = f'width="{max(0.0, x2 - x):.1f}" height="{y2 - y:.1f}"'
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size}{_kind(kind)}/>')

    def dot(self, x: float, y: float, radius: float, kind: str, title: str = "") -> None:
        """A disc; the title shows under the pointer."""
        inside = f"><title>{escape(title)}</title></circle>" if title else "/>"
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"{_kind(kind)}{inside}')

    def path(self, data: str, kind: str) -> None:
        """Any shape, in SVG's path language."""
        self.parts.append(f'<path d="{data}"{_kind(kind)}/>')

    def svg(self, height: float, alt: str) -> str:
        """The element."""
        box = f'viewBox="0 0 {self.width} {height:.0f}" width="{self.width}" height="{height:.0f}"'
        label = escape(alt, quote=True)
        return f'<svg class="drawing" {box} role="img" aria-label="{label}">{"".join(self.parts)}</svg>'


def standalone(svg: str) -> str:
    """An ``<svg>`` element as a file of its own, with colours and a sheet behind it."""
    start, _, rest = svg.partition(">")
    start = start.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return f'{start}><style>{style()}</style><rect class="sheet" width="100%" height="100%"/>{rest}\n'


@cache
def style() -> str:
    """The CSS of all drawings."""
    return files("fleeting").joinpath("figures.css").read_text(encoding="utf-8")


# --- an interval, small enough for a table cell


def bar(value: float, low: float | None, high: float | None, floor: float | None = None) -> str:
    """A score in [0, 1] as a dot on its interval, with a tick at the dice roll; the cell prints the numbers."""
    drawing = Drawing(96)
    drawing.line(3, 7, 93, 7, "grid")
    if floor is not None:
        drawing.line(3 + 90 * floor, 2, 3 + 90 * floor, 12, "axis")
    if low is not None and high is not None:
        drawing.line(3 + 90 * low, 7, 3 + 90 * high, 7, "whisker")
    drawing.dot(3 + 90 * value, 7, 4, "mark")
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
    return _both(name, alt, caption, lambda drawing: _measured(drawing, groups))


def _measured(drawing: Drawing, groups: Sequence[tuple[str, Sequence[Selected]]]) -> float:
    left, right = (10.0, drawing.width - 10.0) if drawing.narrow else (160.0, 760.0)
    step, y = (46, 34.0) if drawing.narrow else (30, 34.0)
    bottom = y + sum(30 + step * len(rows) for _, rows in groups)
    _scale(drawing, left, right, 20, bottom)
    if not drawing.narrow:
        for x, words in ((820, "UF1"), (905, "dice roll, same rule"), (1150, "above the dice")):
            drawing.text(x, 16, words, "muted", "end" if x > 1000 else "start")
    for title, rows in groups:
        drawing.text(0, y + 14, title, "strong")
        y += 30
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
    _mark(drawing, at(row.value), middle, row.rule)


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


def _mark(drawing: Drawing, x: float, y: float, rule: str) -> None:
    """Disc: last. Diamond: inner. Hollow square: oracle. So the shape tells them apart without the colour."""
    if rule == "last":
        drawing.dot(x, y, 6.5, "mark")
    elif rule == "inner":
        drawing.path(f"M{x:.1f} {y - 8:.1f}l8 8-8 8-8-8z", "mark")
    else:
        drawing.path(f"M{x - 5.5:.1f} {y - 5.5:.1f}h11v11h-11z", "mark redmark")


def _scale(drawing: Drawing, left: float, right: float, top: float, bottom: float) -> None:
    """Grid from 0 to 1 with its numbers on top."""
    for tick in _TICKS:
        x = left + (right - left) * tick
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, top - 5, f"{tick:.1f}", "tiny", "middle")


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
    return _both(name, alt, caption, lambda drawing: _curves(drawing, scores, losses, chance))


def _curves(drawing: Drawing, scores: Sequence[Line], losses: Sequence[Line], chance: float) -> float:
    wide = not drawing.narrow
    edge = 150 if wide else 118
    width = (drawing.width * (0.56 if losses else 1.0) if wide else drawing.width) - edge - 34
    _panel(drawing, (34, 26, 34 + width, 246), scores, 1.0, "UF1 on the left-out subjects; accuracy in training")
    y = 246 - 220 * chance
    drawing.line(34, y, 34 + width, y, "dashed")
    drawing.text(38, y - 5, f"dice roll {chance:.3f}", "tiny")
    if not losses:
        return 276
    top = max(max(line.values) for line in losses) * 1.05 or 1.0
    if wide:
        _panel(drawing, (drawing.width * 0.56 + 44, 26, drawing.width - 64, 246), losses, top, "training loss")
        return 276
    _panel(drawing, (34, 306, 34 + width, 466), losses, top, "training loss")
    return 496


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


# --- subject by subject


def strip(name: str, people: Sequence[Person], classes: Sequence[str], caption: str) -> Figure:
    """One column a subject: a square a clip, right ones above the line, wrong ones below it and hollow.

    Args:
        name: of the figure.
        people: in the order of the columns; a corpus' subjects side by side.
        classes: words.
        caption: what else is to be said.
    """
    right = sum(int(person.counts.trace()) for person in people)
    total = sum(int(person.counts.sum()) for person in people)
    failed = [f"{person.corpus} {person.name}" for person in people if not person.counts.trace()]
    alt = f"{right} of {total} clips right over {len(people)} subjects. No clip right: {', '.join(failed) or 'nobody'}."
    return _both(name, alt, caption, lambda drawing: _strip(drawing, people, classes))


def _strip(drawing: Drawing, people: Sequence[Person], classes: Sequence[str]) -> float:
    y = _legend(drawing, classes)
    room = drawing.width - 42
    rows = _rows(people, int(room // 11))
    pitch = min(18.0, room / max(sum(len(group) for group in row) + len(row) - 1 for row in rows))
    for row in rows:
        y = _row(drawing, row, y + 8, pitch)
    return y


def _legend(drawing: Drawing, classes: Sequence[str]) -> float:
    x, y = 0.0, 12.0
    for number, word in enumerate(classes):
        length = 22 + 7.2 * len(word) + 14
        if x + length > drawing.width:
            x, y = 0.0, y + 20
        drawing.path(_squares([(x, y - 10)], 10), f"f{number % _COLOURS}")
        drawing.text(x + 16, y, word)
        x += length
    words = ("wrong: hollow, in the colour of the", "true class; its core is what was said")
    lines = words if drawing.narrow else (" ".join(words),)
    if drawing.narrow:
        x, y = 0.0, y + 20
    drawing.path(_squares([(x + 0.8, y - 9.2)], 8.4), "ring s0")
    drawing.path(_squares([(x + 3.5, y - 6.5)], 3), "f1")
    for line in lines:
        drawing.text(x + 16, y, line, "muted")
        y += 16
    return y


def _rows(people: Sequence[Person], capacity: int) -> list[list[list[Person]]]:
    """Rows of groups: all corpora in one row where they fit, else each corpus in rows of its own."""
    corpora = [list(group) for _, group in groupby(people, key=lambda person: person.corpus)]
    if sum(map(len, corpora)) + len(corpora) - 1 <= capacity:
        return [corpora]
    return [[group[i : i + capacity]] for group in corpora for i in range(0, len(group), capacity)]


def _row(drawing: Drawing, groups: Sequence[Sequence[Person]], y: float, pitch: float) -> float:
    """Draws groups side by side; returns where the row ends."""
    everybody = [person for group in groups for person in group]
    size = min(pitch - 2, 10.0)
    step = size + 1.5
    up = max(int(person.counts.trace()) for person in everybody)
    down = max(int(person.counts.sum() - person.counts.trace()) for person in everybody)
    line = y + 20 + up * step + 3
    drawing.text(34, line - 4, "right", "tiny", "end")
    drawing.text(34, line + 12, "wrong", "tiny", "end")
    x = 42.0
    for group in groups:
        drawing.text(x, y + 10, group[0].corpus, "strong")
        drawing.line(x - 2, line, x + len(group) * pitch, line, "axis")
        for person in group:
            _person(drawing, person, x, line, size)
            _upright(drawing, x + size / 2 + 3.5, line + 8 + down * step, person.name)
            x += pitch
        x += pitch
    return line + 12 + down * step + 5.6 * min(10, max(len(person.name) for person in everybody))


def _person(drawing: Drawing, person: Person, x: float, line: float, size: float) -> None:
    """A subject's squares, in the order of the classes, away from the line."""
    step, right, total = size + 1.5, int(person.counts.trace()), int(person.counts.sum())
    title = f"{person.corpus} {person.name}: {right} of {total} clips right"
    drawing.parts.append(f"<g><title>{escape(title)}</title>")
    up, down = line - 3 - size, line + 3
    for truth, row in enumerate(person.counts.tolist()):
        if row[truth]:
            drawing.path(_squares([(x, up - i * step) for i in range(row[truth])], size), f"f{truth % _COLOURS}")
            up -= row[truth] * step
        for said, count in enumerate(row):
            if said != truth and count:
                places = [(x, down + i * step) for i in range(count)]
                _wrong(drawing, places, size, (truth, said))
                down += count * step
    drawing.parts.append("</g>")


def _wrong(drawing: Drawing, places: Sequence[tuple[float, float]], size: float, what: tuple[int, int]) -> None:
    truth, said = what
    drawing.path(_squares([(x + 0.8, y + 0.8) for x, y in places], size - 1.6), f"ring s{truth % _COLOURS}")
    core = size * 0.3
    inset = (size - core) / 2
    drawing.path(_squares([(x + inset, y + inset) for x, y in places], core), f"f{said % _COLOURS}")


def _squares(places: Sequence[tuple[float, float]], size: float) -> str:
    """Squares as one path, which is a fraction of the size of so many elements."""
    return "".join(f"M{x:.1f} {y:.1f}h{size:.1f}v{size:.1f}h-{size:.1f}z" for x, y in places)


def _upright(drawing: Drawing, x: float, y: float, words: str) -> None:
    short = words if len(words) <= 10 else words[:9] + "…"
    turned = f'transform="translate({x:.1f} {y:.1f}) rotate(-90)" text-anchor="end"'
    drawing.parts.append(f'<text {turned} class="tiny">{escape(short)}</text>')


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
    return _both(name, alt, caption, lambda drawing: _published(drawing, points, ours, floors))


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
    _scale(drawing, left, right, 20, bottom)

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
    _mark(drawing, at(value), y, "last")
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


# --- what all share


def signed(value: float) -> str:
    """A difference with its sign: +0.091, −0.031."""
    return f"{'−' if round(value, 3) < 0 else '+'}{abs(value):.3f}"


def _both(name: str, alt: str, caption: str, draw: Callable[[Drawing], float]) -> Figure:
    drawn = []
    for width in (WIDE, NARROW):
        drawing = Drawing(width)
        drawn.append(drawing.svg(draw(drawing), alt))
    return Figure(name, alt, caption, *drawn)


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _anchor(anchor: str) -> str:
    return "" if anchor == "start" else f' text-anchor="{anchor}"'
