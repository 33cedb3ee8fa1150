"""The section that compares runs with the first: a paired permutation test, and over random splits the distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleeting import predictions, repeats, scoring
from fleeting.errors import UserError
from fleeting.report.blocks import Block, Cell, Heading, Table, Text
from fleeting.report.drawing import signed
from fleeting.report.figures import Splits, differences
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
    return blocks + refused + repeated(readings)


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


# --- over random splits


def repeated(readings: Sequence[Reading]) -> list[Block]:
    """How the difference to the first run is distributed over seeds that draw another test part each; else nothing."""
    found = [(other, one) for other in readings[1:] for one in _over_splits(readings[0], other)]
    paired = {other.label for other, _ in found}
    apart = [_apart(readings[0], other) for other in readings[1:] if other.label not in paired]
    notes: list[Block] = [block for block in apart if block]
    if not found:
        return notes
    words = (
        "Each seed draws the clips that are tested anew, so that a difference has a distribution: paired by seed, for "
        "one split is one accident. Splits share most of their clips, which the plain t-test does not know; the "
        "corrected one (Nadeau and Bengio 2003) does. It is the one to believe."
    )
    head = ("run", "minus", "splits", "mean", "sd", "range", "higher in", "corrected 95 % interval", "p", "p, plain")
    caption = "Difference in UF1, the run's minus that of the first run, split by split. p: two-sided t-tests."
    rows = [_row(readings[0], other, one) for other, one in found]
    return [
        Heading("Over random splits"),
        Text(words),
        differences("splits", [_splits(readings[0], other, one) for other, one in found], _CAPTION),
        Table(caption, head, rows, "cards", (1,)),
        *notes,
    ]


_CAPTION = (
    "Difference in UF1 to the first run. A dot a split; mark and bar: the mean and its corrected 95 % interval. "
    "Left of the middle line the first run is better."
)


def _over_splits(first: Reading, other: Reading) -> list[dict[str, Any]]:
    """As `scoring.repeated`, on what both runs tested in the same seed."""
    if not _drawn(first, other):
        return []
    tables = [predictions.table(reading.run) for reading in (first, other)]
    places = [list(zip(table["seed"], table["key"], strict=True)) for table in tables]
    both = set(places[0]) & set(places[1])
    kept = [table[[place in both for place in listed]] for table, listed in zip(tables, places, strict=True)]
    return scoring.repeated([first.run, other.run], kept, "uf1") if both else []


def _drawn(first: Reading, other: Reading) -> bool:
    """Whether both have the same classes, and seeds that draw test parts of their own."""
    return first.run.classes == other.run.classes and all(repeats.drawn(one.run.folds) for one in (first, other))


def _apart(first: Reading, other: Reading) -> Text | None:
    """That two runs over random splits did not draw the same ones, which nobody would miss."""
    if not _drawn(first, other):
        return None
    return Text(
        f"{other.label} and {first.label} both draw their test parts, but there are fewer than two seeds in which both "
        "drew and finished the same one, so nothing is paired split by split. Clips that only one of them could "
        "prepare do not matter; other seeds, classes or corpora do.",
        "note",
    )


def _splits(first: Reading, other: Reading, found: Mapping[str, Any]) -> Splits:
    return Splits.of(f"{other.title(found['part'])} minus {first.title(found['part'])}", found)


def _row(first: Reading, other: Reading, found: Mapping[str, Any]) -> list[Cell]:
    one = _splits(first, other, found)
    relative = found["relative"]
    share = "" if relative is None else f"{'−' if relative > 0 else '+'}{100 * abs(relative):.1f} % of the first"
    return [
        Cell(other.title(found["part"])),
        Cell(first.title(found["part"])),
        Cell(str(found["splits"]), f"{found['train']:.0f} and {found['test']:.0f} clips"),
        Cell(signed(one.mean), share),
        Cell(f"{found['sd']:.3f}"),
        Cell(f"{signed(min(one.values))} to {signed(max(one.values))}"),
        Cell(f"{100 * (1 - found['higher']):.0f} %", "of the splits"),
        Cell(f"[{signed(one.low)}, {signed(one.high)}]"),
        Cell(f"{found['corrected']['p']:.4f}"),
        Cell(f"{found['plain']['p']:.4f}", tone="muted"),
    ]
