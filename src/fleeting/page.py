"""A page that pictures are drawn on: its colours, and places measured in inches from its upper left corner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fleeting import files
from fleeting.errors import UserError

FORMATS = (".pdf", ".png", ".svg")
INK, MUTED, RULE = "#1c2228", "#57616b", "#dcdad4"
GOOD, BAD = "#1f5f8b", "#b3261e"
"""A face that is there; one that is not, and what a reader must not overlook."""
STYLE: Any = {
    # text stays text, and the same picture twice is the same file
    "svg.fonttype": "none",
    "svg.hashsalt": "fleeting",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}
WIDTH, EDGE = 10.95, 0.3
"""Of the page and of its empty rim, inches."""


def sheet(title: str, height: float) -> Figure:
    """An empty page of `height` inches."""
    figure = Figure(figsize=(WIDTH, height))
    figure.text(EDGE / WIDTH, 1 - 0.18 / height, title, ha="left", va="top", fontsize=12, fontweight="bold")
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place of the page."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def say(figure: Figure, top: float, text: str, colour: str = INK, left: float = EDGE) -> None:
    """A line of text below `top`."""
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, ha="left", va="top", fontsize=9.5, color=colour)


def bare(axes: Axes, name: str) -> None:
    """A picture's title, and no frame."""
    axes.set_title(name, fontsize=9.5, loc="left", color=INK)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def ms(seconds: float) -> str:
    """A time after another."""
    return f"{seconds * 1e3:+.0f} ms" if seconds else "0 ms"


def check_format(out: Path) -> None:
    """Before any work.

    Raises:
        UserError: not one of `FORMATS`.
    """
    kind = out.suffix.lower()
    if kind not in FORMATS:
        raise UserError(f"{out}: want a picture in {', '.join(FORMATS)}, got {kind or 'no ending'}; rename it")


def save(figure: Figure, out: Path) -> None:
    """Writes the page; the same page twice is the same file.

    Raises:
        UserError: it cannot be written.
    """
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(out.suffix.lower(), {})
    with files.replacing(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:].lower(), dpi=150, facecolor="white", metadata=metadata)
