"""A report as Markdown, with its figures as SVG files in a folder beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from fleeting.report.blocks import Banner, Beside, Block, Cell, Code, Details, Heading, Listing, Page, Table, Text
from fleeting.report.drawing import Figure

_MARKS = re.compile(r"[\\`*|]|\](?=[(\[:])|(?<!\w)_|_(?!\w)|(?<=\w)_(?=_)")
_ORACLE = re.compile(r"\boracle(?:-epoch)?\b")


def text(content: Page, folder: str) -> str:
    """The Markdown; its pictures are looked for in `folder`, relative to the file."""
    blocks = [_markdown(block, folder) for block in content.blocks]
    return "\n\n".join([f"# {_words(content.title)}", *blocks]) + "\n"


def figures(blocks: Sequence[Block]) -> Iterator[Figure]:
    """Every figure of the page."""
    for block in blocks:
        if isinstance(block, Figure):
            yield block
        elif isinstance(block, Details):
            yield from figures(block.blocks)


def _markdown(block: Block, folder: str) -> str:
    match block:
        case Heading(title, level):
            return f"{'#' * level} {_words(title)}"
        case Text(words, kind):
            return f"**{_escaped(words)}**" if kind == "lead" else _words(words)
        case Banner(title, words):
            return f"> **{_escaped(title)}** {_words(words)}"
        case Listing(items, numbered):
            return "\n".join(f"{f'{i}.' if numbered else '-'} {_words(item)}" for i, item in enumerate(items, 1))
        case Code(shown):
            return _fenced(shown)
        case Details(summary, blocks):
            inside = "\n\n".join(_markdown(inner, folder) for inner in blocks)
            return f"<details><summary>{_entities(summary)}</summary>\n\n{inside}\n\n</details>"
        case Figure(name, alt, caption):
            return f"![{_escaped(alt)}]({quote(folder)}/{quote(name)}.svg)\n\n{_words(caption)}"
        case Beside(tables):
            return "\n\n".join(_table(table) for table in tables)
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    lines = [
        _line([_words(word) for word in table.head]),
        _line(["---" if place in (0, *table.words) else "---:" for place in range(len(table.head))]),
        *(_line([_cell(cell) for cell in row]) for row in table.rows),
    ]
    return f"{_words(table.caption)}\n\n" + "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    words = _words(cell.text)
    words = f"**{words}**" if cell.tone == "ours" and words else words
    return "<br>".join(part for part in (words, _words(cell.note)) if part).replace("\n", " ")


def _fenced(shown: str) -> str:
    """A fence longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", shown)), default=0))
    return f"{fence}toml\n{shown.rstrip()}\n{fence}"


def _words(words: str) -> str:
    """Escaped text in which the oracle is always bold."""
    return _ORACLE.sub(r"**\g<0>**", _escaped(words))


def _escaped(words: str) -> str:
    return _MARKS.sub(r"\\\g<0>", _entities(words))


def _entities(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
