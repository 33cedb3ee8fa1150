"""A report as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import singledispatch
from html import escape
from importlib.resources import files

from fleeting.report import drawing
from fleeting.report.blocks import Banner, Beside, Block, Cell, Code, Details, Heading, Listing, Page, Table, Text
from fleeting.report.drawing import Figure

# with this policy a browser refuses whatever slipped in: scripts, pictures, fonts, addresses
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_ORACLE = re.compile(r"\boracle(?:-epoch)?\b")


def page(content: Page) -> str:
    """The whole page."""
    style = drawing.style() + files("fleeting.report").joinpath("html.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(content.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<main>\n<header>\n<p class="kicker">fleeting report</p>\n<h1>{escape(content.title)}</h1>\n</header>\n'
        f"{_body(content.blocks)}</main>\n</body>\n</html>\n"
    )


def _body(blocks: Sequence[Block]) -> str:
    """The blocks; the contents stand before the first section."""
    first = next((i for i, block in enumerate(blocks) if isinstance(block, Heading)), len(blocks))
    above, below = blocks[:first], blocks[first:]
    titles = [block.title for block in below if isinstance(block, Heading) and block.level == 2]
    links = "".join(f'<li><a href="#{_anchor(title)}">{escape(title)}</a></li>' for title in titles)
    return f'{_all(above)}<nav aria-label="Contents"><ol>{links}</ol></nav>\n{_all(below)}'


def _all(blocks: Sequence[Block]) -> str:
    return "".join(_html(block) for block in blocks)


@singledispatch
def _html(block: object) -> str:
    """One block as HTML."""
    raise TypeError(f"no HTML for {type(block).__name__}")


@_html.register
def _(block: Heading) -> str:
    name = f' id="{_anchor(block.title)}"' if block.level == 2 else ""
    return f"<h{block.level}{name}>{escape(block.title)}</h{block.level}>\n"


@_html.register
def _(block: Text) -> str:
    kind = f' class="{block.kind}"' if block.kind else ""
    return f"<p{kind}>{_words(block.words)}</p>\n"


@_html.register
def _(block: Banner) -> str:
    return f'<div class="banner" role="note"><strong>{escape(block.title)}</strong> {_words(block.words)}</div>\n'


@_html.register
def _(block: Listing) -> str:
    tag = "ol" if block.numbered else "ul"
    return f'<{tag} class="listing">{"".join(f"<li>{_words(item)}</li>" for item in block.items)}</{tag}>\n'


@_html.register
def _(block: Code) -> str:
    return f'<pre tabindex="0"><code>{escape(block.text)}</code></pre>\n'


@_html.register
def _(block: Details) -> str:
    return f"<details><summary>{_words(block.summary)}</summary>\n{_all(block.blocks)}</details>\n"


@_html.register
def _(block: Figure) -> str:
    drawings = f'<div class="wide">{block.wide}</div><div class="narrow">{block.narrow}</div>'
    return f"<figure>{drawings}<figcaption>{_words(block.caption)}</figcaption></figure>\n"


@_html.register
def _(block: Beside) -> str:
    return f'<div class="beside">{"".join(_html(table) for table in block.tables)}</div>\n'


@_html.register
def _(block: Table) -> str:
    # the roles are those of the elements; a browser drops them where CSS turns rows into cards
    head = "".join(
        f'<th scope="col" role="columnheader"{_look(place in block.words)}>{_words(word)}</th>'
        for place, word in enumerate(block.head)
    )
    rows = "".join(_row(block, row) for row in block.rows)
    kind = f' class="{block.kind}"' if block.kind else ""
    keys = ' tabindex="0"' if block.kind == "dense" else ""
    return (
        f'<div class="scroll"{keys}><table role="table"{kind}><caption><span>{_words(block.caption)}</span></caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table></div>\n'
    )


def _row(table: Table, row: Sequence[Cell]) -> str:
    kind = ' class="ours"' if row[0].tone == "ours" else ""
    cells = "".join(_cell(table, place, cell) for place, cell in enumerate(row) if place)
    head = f'<th scope="row" role="rowheader"{_look(False, row[0])}>{_inside(row[0])}</th>'
    return f'<tr role="row"{kind}>{head}{cells}</tr>'


def _cell(table: Table, place: int, cell: Cell) -> str:
    label = escape(table.head[place], quote=True)
    return f'<td role="cell" data-label="{label}"{_look(place in table.words, cell)}>{_inside(cell)}</td>'


def _look(words: bool, cell: Cell | None = None) -> str:
    tone, text = (cell.tone, cell.text) if cell else ("", "")
    kinds = " ".join(filter(None, ("words" if words else "", "empty" if text == "–" else "", tone)))
    shade = "" if cell is None or cell.share is None else f' style="--share:{cell.share:.2f}"'
    return (f' class="{kinds}"' if kinds else "") + shade


def _inside(cell: Cell) -> str:
    # a short note is a number or an interval, which must not break
    kind = "note" if len(cell.note) < 18 else "note long"
    note = f'<span class="{kind}">{_words(cell.note)}</span>' if cell.note else ""
    return f'<span class="value"><span class="main">{_words(cell.text)}</span>{cell.svg}{note}</span>'


def _words(text: str) -> str:
    """Escaped text in which the oracle is always red."""
    return _ORACLE.sub(r'<strong class="red">\g<0></strong>', escape(text))


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")
