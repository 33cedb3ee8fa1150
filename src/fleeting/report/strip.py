"""The strip of subjects: every clip of every subject as a square, so that one sees who is not recognised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from fleeting.records import Array
from fleeting.report.drawing import Drawing, Figure, both

_COLOURS = 8  # of drawing.css; more classes begin again


@dataclass(frozen=True)
class Person:
    """A subject: its corpus, name and (C, C) counts, rows truth."""

    corpus: str
    name: str
    counts: Array


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
    return both(name, alt, caption, lambda drawing: _strip(drawing, people, classes))


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
    line = y + 20 + up * step + 3
    drawing.text(34, line - 4, "right", "tiny", "end")
    drawing.text(34, line + 12, "wrong", "tiny", "end")
    x = 42.0
    for group in groups:
        drawing.text(x, y + 10, group[0].corpus, "strong")
        drawing.line(x - 2, line, x + len(group) * pitch, line, "axis")
        for person in group:
            _person(drawing, person, x, line, size)
            _upright(drawing, x + size / 2 + 3.5, line + 7 + _wrongs(person) * step, person.name)
            x += pitch
        x += pitch
    return line + 14 + max(_wrongs(person) * step + 6.2 * min(10, len(person.name)) for person in everybody)


def _wrongs(person: Person) -> int:
    return int(person.counts.sum() - person.counts.trace())


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
