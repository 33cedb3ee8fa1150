"""The section that compares runs: a paired permutation test of each against the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleeting import scoring
from fleeting.errors import UserError
from fleeting.report.blocks import Block, Cell, Heading, Table, Text
from fleeting.report.drawing import signed
from fleeting.report.readings import Reading


def compared(readings: Sequence[Reading]) -> list[Block]:
    """Paired permutation tests of each run against the first."""
    if len(readings) < 2:
        return []
    first, rows, refused = readings[0], [], []
    for other in readings[1:]:
        try:
            found = scoring.paired([first.run.folder, other.run.folder])
        except UserError as error:
            refused.append(Text(f"{other.label} cannot be compared with {first.label}: {error}"))
            continue
        rows += [_pair(first, other, pair, found) for pair in found["pairs"]]
    words = (
        "Paired permutation test over subjects, nothing selected: if two runs were equally good, it would not "
        "matter which of them a subject's predictions came from. p is the share of random exchanges, subject by "
        "subject, that bring a difference in UF1 at least as large as the one found."
    )
    blocks: list[Block] = [Heading("Against the first run"), Text(words)]
    if rows:
        head = ("run", "minus", "difference in UF1", "p", "common clips", "what it says")
        caption = "Difference: the run's UF1 minus that of the first run, on the clips of both."
        blocks.append(Table(caption, head, rows, "cards", (1, 5)))
    if len(rows) > 1:
        blocks.append(Text(f"{len(rows)} tests are shown; p is not corrected for their number.", "note"))
    return blocks + refused


def _pair(first: Reading, other: Reading, pair: Mapping[str, Any], found: Mapping[str, Any]) -> list[Cell]:
    # `paired` subtracts the later run from the first
    difference, p = -pair["difference"], pair["p"]
    better = other.label if difference > 0 else first.label
    says = f"{better} is better; chance alone seldom does this"
    if p >= 0.05:
        says = "chance can explain it: these subjects do not tell the two apart"
    left = f"{found['left_out']} left out" if found["left_out"] else ""
    kind = "all exchanges" if pair["exact"] else f"{pair['rounds']} exchanges"
    return [
        Cell(other.title(pair["part"])),
        Cell(first.title(pair["part"])),
        Cell(signed(difference)),
        Cell(f"{p:.4f}", kind),
        Cell(str(found["common"]), left),
        Cell(says),
    ]
