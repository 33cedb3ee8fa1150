"""The section that places runs among the numbers that papers print for the same protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fleeting import predictions, published, selection
from fleeting.report.blocks import Block, Cell, Heading, Listing, Table, Text, interval, number
from fleeting.report.drawing import Figure
from fleeting.report.figures import Point
from fleeting.report.figures import published as drawn
from fleeting.report.readings import Reading, Scores

_PROTOCOL = "megc2019"
_PARTS = ("all", "smic", "casme2", "samm")
_EPOCHS = 800  # HTNet's; what most of the printed numbers were chosen from is not known
_Roll = dict[str, tuple[float, float]]
# for pages without a run on the real data: `selection.floor` on its 442 clips, mean and standard deviation
_CHANCE: _Roll = {"uf1": (0.335, 0.022), "uar": (0.336, 0.022)}
_CHOSEN: _Roll = {"uf1": (0.827, 0.010), "uar": (0.813, 0.011)}


@dataclass
class Entry:
    """A method as printed, put together from the tables that print it.

    Attributes:
        method, year, selection: of the method.
        sources: where it is printed.
        cells: (part, metric) -> value in [0, 1].
        notes: known errors and doubts.
    """

    method: str
    year: int | None = None
    selection: str = ""
    sources: list[str] = field(default_factory=list)
    cells: dict[tuple[str, str], float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def printed(readings: Sequence[Reading]) -> list[Block]:
    """Printed numbers and our runs, sorted by UF1; nothing where no run has that protocol."""
    asked = [reading for reading in readings if reading.experiment["protocol"]["name"] == _PROTOCOL]
    if not asked:
        return []
    unplaced = {reading.label: why for reading in asked if (why := _why_not(reading))}
    placed = [reading for reading in asked if reading.label not in unplaced]
    entries, chance, floor = _entries(), *_floors(placed)
    notes = list(dict.fromkeys(note for entry in entries for note in entry.notes))
    return [
        Heading("Among published numbers"),
        Text(_warning(floor["uf1"][0])),
        *(Text(f"{label} {why}; it is not placed among them.") for label, why in unplaced.items()),
        _figure(entries, placed, (chance["uf1"][0], floor["uf1"][0])),
        _table(entries, placed, notes, (chance, floor)),
        Listing(notes, numbered=True),
    ]


def _warning(floor: float) -> str:
    return (
        "Printed numbers under oracle-epoch selection are not comparable with those of a last epoch: under that rule "
        f"a dice roll scores UF1 {floor:.3f} with {_EPOCHS} epochs. Where no public code shows the rule, it is not "
        "known, and a number without its rule cannot be placed either."
    )


def _why_not(reading: Reading) -> str:
    """Why a run measures something else than the printed numbers do; empty if it is the same."""
    if reading.made_up:
        return "ran on made-up data"
    if not reading.complete:
        return "is not finished"
    rows = published.rows("htnet", corpus=_PROTOCOL, metric="n_samples")
    counts = {row.part: int(row.value) for row in rows}
    tested = {part: block["n"] for part, block in _all(reading)["by_dataset"].items()}
    if tested != counts:
        listed = (", ".join(f"{name} {n}" for name, n in sorted(table.items())) for table in (tested, counts))
        return "tested other clips ({}) than the composite's ({})".format(*listed)
    return ""


def _entries() -> list[Entry]:
    """Methods printed with all corpora, best first; a method that several papers copy is one."""
    found: dict[tuple[str, float], Entry] = {}
    rows = [row for row in published.rows(corpus=_PROTOCOL) if row.protocol == "loso" and not row.setting]
    # tables of variants print the composite only
    compared = {_place(row) for row in rows if row.part == "smic"}
    pooled = {_place(row): row.value for row in rows if row.metric == "uf1" and row.part == "all"}
    for row in rows:
        if _place(row) in compared and row.metric in _CHANCE:
            name = row.method.replace(" (ours)", "").replace(" (Ours)", "")
            _add(found.setdefault((name.lower(), pooled[_place(row)]), Entry(name)), row)
    return sorted(found.values(), key=lambda entry: -entry.cells["all", "uf1"])


def _place(row: published.Row) -> tuple[str, str, str]:
    return row.paper, row.table, row.method


def _add(entry: Entry, row: published.Row) -> None:
    own = published.PAPERS[row.paper].year if "(ours)" in row.method.lower() else None
    entry.cells.setdefault((row.part, row.metric), row.value / 100 if row.unit == "%" else row.value)
    entry.selection = entry.selection or row.selection
    entry.year = entry.year or row.year or own
    for words, known in ((f"{row.paper} {row.table}", entry.sources), (row.note, entry.notes)):
        if words and words not in known:
            known.append(words)


def _floors(placed: Sequence[Reading]) -> tuple[_Roll, _Roll]:
    """A dice roll, and one chosen by the oracle rule, on the clips of a placed run."""
    if not placed:
        return _CHANCE, _CHOSEN
    run = placed[0].run
    table = predictions.table(run)
    rows = table[table["seed"] == table["seed"].iloc[0]]
    truth, folds = run.labels(rows["key"]), rows["fold"].to_numpy()
    one, many = (
        selection.floor(truth, folds, len(run.classes), epochs, rule)
        for epochs, rule in ((1, "last"), (_EPOCHS, "oracle"))
    )
    return {name: one[name] for name in _CHANCE}, {name: many[name] for name in _CHANCE}


def _figure(entries: Sequence[Entry], placed: Sequence[Reading], floors: tuple[float, float]) -> Figure:
    points = [
        Point(f"{entry.method} ({entry.year or 'no year'})", entry.cells["all", "uf1"], entry.selection)
        for entry in entries
    ]
    ours = [(reading.label, _all(reading)["uf1"], *_all(reading)["interval"]["uf1"]) for reading in placed]
    caption = (
        f"UF1 on the composite. Small dots: {len(points)} printed results"
        + (", below them these runs after the last epoch with their 95 % intervals" if ours else "")
        + f". Red line: the dice roll under the oracle rule with {_EPOCHS} epochs."
    )
    return drawn("published", points, ours, floors, caption)


def _table(
    entries: Sequence[Entry], placed: Sequence[Reading], notes: Sequence[str], floors: tuple[_Roll, _Roll]
) -> Table:
    rows = [(entry.cells["all", "uf1"], _printed_row(entry, notes)) for entry in entries]
    rows += [(_all(reading)["uf1"], _our_row(reading)) for reading in placed]
    rows += [(roll["uf1"][0], _roll_row(roll, red)) for roll, red in zip(floors, (False, True), strict=True)]
    rows.sort(key=lambda row: -row[0])
    head = ("method", "year", "selection", "UF1", "UAR", *(f"UF1 {part}" for part in _PARTS[1:]), "printed in")
    caption = "Sorted by UF1 on the composite. Shaded: these runs; in brackets their 95 % intervals."
    return Table(caption, head, [row for _, row in rows], "dense", (1, 2, 8))


def _printed_row(entry: Entry, notes: Sequence[str]) -> list[Cell]:
    marks = ", ".join(str(notes.index(note) + 1) for note in entry.notes)
    tone = "tag red" if entry.selection.startswith("oracle") else "tag" if entry.selection else "muted"
    return [
        Cell(entry.method, f"{'notes' if len(entry.notes) > 1 else 'note'} {marks}" if marks else ""),
        Cell(str(entry.year or "–")),
        Cell(entry.selection or "not known", tone=tone),
        Cell(number(entry.cells["all", "uf1"])),
        Cell(number(entry.cells.get(("all", "uar")))),
        *(_corpus(entry.cells.get((part, "uf1")), entry.cells.get((part, "uar"))) for part in _PARTS[1:]),
        Cell("; ".join(entry.sources)),
    ]


def _our_row(reading: Reading) -> list[Cell]:
    block = _all(reading)
    corpora = [block["by_dataset"].get(part, {}) for part in _PARTS[1:]]
    return [
        Cell(reading.label, "this page", "ours"),
        Cell(str(reading.header["started"])[:4]),
        Cell("last", tone="tag"),
        *(Cell(number(block[name]), interval(block["interval"][name])) for name in _CHANCE),
        *(_corpus(found.get("uf1"), found.get("uar")) for found in corpora),
        Cell("measured"),
    ]


def _roll_row(roll: _Roll, red: bool) -> list[Cell]:
    tone = "red" if red else "muted"
    words, rule = ("dice roll, best of 800", "oracle-epoch") if red else ("dice roll", "last")
    scores = (Cell(number(roll[name][0]), f"± {number(roll[name][1])}", tone) for name in _CHANCE)
    return [
        Cell(words, tone=tone),
        Cell("–"),
        Cell(rule, tone=f"tag {tone}"),
        *scores,
        *(Cell("–") for _ in _PARTS[1:]),
        Cell("simulated"),
    ]


def _corpus(uf1: float | None, uar: float | None) -> Cell:
    return Cell(number(uf1), "" if uar is None else f"UAR {number(uar)}")


def _all(reading: Reading) -> Scores:
    return reading.parts["all"]
