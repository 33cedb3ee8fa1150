"""The section that says how a run was made: everything that is needed to run it again."""

from __future__ import annotations

from collections.abc import Sequence

import tomli_w

from fleeting.report.blocks import Block, Cell, Code, Details, Heading, Listing, Table, Text, counted
from fleeting.report.readings import Reading


def configuration(readings: Sequence[Reading]) -> list[Block]:
    """Everything that is needed to run it again."""
    blocks: list[Block] = [Heading("How it was run")]
    for reading in readings:
        blocks += [Heading(reading.label, 3), _facts(reading), *_deviations(reading)]
        blocks.append(Details("Resolved experiment (TOML)", [Code(tomli_w.dumps(reading.experiment))]))
        blocks += _dropped(reading) + _notices(reading)
    return blocks


def _facts(reading: Reading) -> Table:
    header, counts, status = reading.header, reading.header["counts"], reading.status
    machine = header["machine"]
    facts = {
        "started": header["started"],
        "training and testing": f"{duration(status['seconds'])}, sum over {counted(status['done'], 'finished task')}",
        "tasks": f"{status['done']} of {status['all']} done, {len(status['failed'])} failed",
        "seeds": ", ".join(map(str, reading.run.seeds)),
        "inner tasks a fold": str(reading.experiment["inner"]),
        "clips": f"{counts['clips']} of {counted(counts['subjects'], 'subject')}, {counted(counts['views'], 'view')}; "
        f"{counts['dropped']} dropped",
        "machine": f"{machine['processor']}, {machine['system']}, device {machine['device']}",
        "versions": ", ".join(f"{name} {version}" for name, version in header["versions"].items()),
        "commit": header["commit"] or "not recorded",
        "digest of the experiment": header["digest"],
        "SHA-256 of the clip list": header["clips_sha256"],
    }
    return Table(
        "The run.", ("", "value"), [[Cell(name), Cell(str(value))] for name, value in facts.items()], "facts", (1,)
    )


def duration(seconds: float) -> str:
    """12.3 s, 4 min 5 s, 2 h 10 min."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _deviations(reading: Reading) -> list[Block]:
    sentences = list(reading.header["deviations"])
    if not sentences:
        return []
    return [
        Text(f"Where {reading.experiment['model']['name']} departs from its paper, or the paper errs:"),
        Listing(sentences),
    ]


def _dropped(reading: Reading) -> list[Block]:
    dropped = reading.header["dropped"]
    if not dropped:
        return []
    rows = [[Cell(row["key"]), Cell(row["stage"]), Cell(row["reason"])] for row in dropped]
    table = Table("In the corpus, but not in this run.", ("clip", "stage", "reason"), rows, "dense", (1, 2))
    return [Details(f"{counted(len(dropped), 'dropped clip')}", [table])]


def _notices(reading: Reading) -> list[Block]:
    told = reading.header.get("notices", [])
    if not told:
        return []
    table = Table(
        "Used as they are.",
        ("clip", "notice"),
        [[Cell(row["key"]), Cell(row["notice"])] for row in told],
        "dense",
        (1,),
    )
    return [Details(f"{counted(len(told), 'notice')} about clips", [table])]
