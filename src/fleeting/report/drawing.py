"""Figures of the report as SVG, written by hand: they take the page's colours, light or dark, through CSS variables.

A figure is drawn twice, for a wide and for a narrow column, because scaled-down text cannot be read. Positions are
in px of the drawing; nothing here reads a run or computes a score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files

WIDE, NARROW = 1160, 372
_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


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
    return files("fleeting.report").joinpath("drawing.css").read_text(encoding="utf-8")


def mark(drawing: Drawing, x: float, y: float, rule: str) -> None:
    """Disc: last. Diamond: inner. Hollow square: oracle. So the shape tells them apart without the colour."""
    if rule == "last":
        drawing.dot(x, y, 6.5, "mark")
    elif rule == "inner":
        drawing.path(f"M{x:.1f} {y - 8:.1f}l8 8-8 8-8-8z", "mark")
    else:
        drawing.path(f"M{x - 5.5:.1f} {y - 5.5:.1f}h11v11h-11z", "mark redmark")


def scale(drawing: Drawing, left: float, right: float, top: float, bottom: float) -> None:
    """Grid from 0 to 1 with its numbers on top."""
    for tick in _TICKS:
        x = left + (right - left) * tick
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, top - 5, f"{tick:.1f}", "tiny", "middle")


def signed(value: float) -> str:
    """A difference with its sign: +0.091, −0.031."""
    return f"{'−' if round(value, 3) < 0 else '+'}{abs(value):.3f}"


def both(name: str, alt: str, caption: str, draw: Callable[[Drawing], float]) -> Figure:
    drawn = []
    for width in (WIDE, NARROW):
        drawing = Drawing(width)
        drawn.append(drawing.svg(draw(drawing), alt))
    return Figure(name, alt, caption, *drawn)


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _anchor(anchor: str) -> str:
    return "" if anchor == "start" else f' text-anchor="{anchor}"'
