"""What a report is made of: blocks without any markup, which `html` and `markdown` write out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleeting.report.drawing import Figure


@dataclass(frozen=True)
class Heading:
    """A section (level 2) or a part of one (3); `number` and title make the entry of the contents."""

    title: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; kind "lead" is the summary under the title, "note" is small print."""

    words: str
    kind: str = ""


@dataclass(frozen=True)
class Banner:
    """Something that must not be overlooked."""

    title: str
    words: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the value.
        note: smaller, below it.
        tone: "red" for the oracle, "ours" for our runs among others, "tag", "muted", or "".
        share: in [0, 1], shades the cell.
        svg: a small picture of what the text says; HTML only.
    """

    text: str
    note: str = ""
    tone: str = ""
    share: float | None = None
    svg: str = ""


@dataclass(frozen=True)
class Table:
    """A table whose first column heads the rows.

    Attributes:
        caption: what it shows.
        head: of the columns.
        rows: cells, as many as `head`.
        kind: "cards" falls apart into one card a row on a narrow screen, "dense" is long, "matrix" is small and
            square, "facts" has no visible head.
        words: columns that hold words and not numbers, beside the first.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kind: str = ""
    words: Sequence[int] = ()


@dataclass(frozen=True)
class Beside:
    """Tables that stand side by side where there is room."""

    tables: Sequence[Table]


@dataclass(frozen=True)
class Listing:
    """Sentences, one an item; numbered where they are footnotes."""

    items: Sequence[str]
    numbered: bool = False


@dataclass(frozen=True)
class Code:
    """Text to be shown as it is."""

    text: str


@dataclass(frozen=True)
class Details:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: Sequence[Block]


Block = Heading | Text | Banner | Table | Beside | Listing | Code | Details | Figure


@dataclass(frozen=True)
class Page:
    """A title and what follows."""

    title: str
    blocks: Sequence[Block]


def number(value: float | None) -> str:
    """Three decimals, or a dash for what is not there."""
    return "–" if value is None or value != value else f"{value:.3f}"


def interval(pair: Sequence[float | None]) -> str:
    """[low, high], or nothing where one subject gives no interval."""
    return "" if pair[0] is None else f"[{number(pair[0])}, {number(pair[1])}]"


def counted(count: int, noun: str) -> str:
    """1 clip, 2 clips."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
