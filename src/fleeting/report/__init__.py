"""Run folders -> one self-contained HTML page, or the same as Markdown with SVG figures beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fleeting import files
from fleeting.errors import UserError
from fleeting.report import html, markdown, sections
from fleeting.report.blocks import Block, Page
from fleeting.report.comparison import compared
from fleeting.report.configuration import configuration
from fleeting.report.drawing import standalone
from fleeting.report.printed import printed
from fleeting.report.readings import Reading, read
from fleeting.report.searched import searched

_SECTIONS: tuple[Callable[[Sequence[Reading]], list[Block]], ...] = (
    sections.opening,
    sections.headline,
    sections.selection,
    sections.errors,
    sections.epochs,
    sections.subjects,
    searched,
    compared,
    printed,
    configuration,
)


def write(folders: Sequence[Path], out: Path) -> None:
    """Writes a report about one or more runs.

    Args:
        folders: of the runs; the others are compared with the first. A run that is not finished is reported as
            far as it is, and the page says so.
        out: ``.html``: one page that needs no other file. ``.md``: Markdown, its figures as SVG files in
            ``<stem>_files/`` beside it.

    Raises:
        UserError: another ending, no run, a run without a finished task, or `out` cannot be written.
    """
    kind = out.suffix.lower()
    if kind not in (".html", ".md"):
        raise UserError(f"{out}: want a report that ends with .html or .md, got {out.suffix or 'no ending'}")
    content = _page(read(folders))
    if kind == ".html":
        return files.write_text(out, html.page(content))
    folder = out.parent / f"{out.stem}_files"
    for figure in markdown.figures(content.blocks):
        files.write_text(folder / f"{figure.name}.svg", standalone(figure.wide))
    return files.write_text(out, markdown.text(content, folder.name))


def _page(readings: Sequence[Reading]) -> Page:
    blocks = [block for section in _SECTIONS for block in section(readings)]
    return Page(_title(readings), blocks)


def _title(readings: Sequence[Reading]) -> str:
    names = [reading.label for reading in readings]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
