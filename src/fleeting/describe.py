"""What the command line prints: a plug-in in words, scores as a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fleeting import plugins
from fleeting.records import Info, Paper

_SHOWN = (("uf1", "UF1"), ("uar", "UAR"), ("accuracy", "accuracy"), ("macro_precision", "macro precision"))
UNITS = {"subjects": "interval", "clips": "interval_over_clips"}
"""What is drawn with replacement -> the interval's name among the scores."""


def plugin(kind: str, name: str) -> dict[str, Any]:
    """``kind, name, description, options: {name: {default, type}}`` and, where the plug-in has them, ``paper``,
    ``info``, ``recipe``, ``input``.

    Raises:
        UserError: no such kind or name.
    """
    module = plugins.load(kind, name)
    found: dict[str, Any] = {"kind": kind, "name": name, "description": (module.__doc__ or "").strip()}
    for attribute, key in (("PAPER", "paper"), ("INFO", "info")):
        record = getattr(module, attribute, None)
        if isinstance(record, Paper | Info):
            found[key] = dataclasses.asdict(record)
    if hasattr(module, "Options"):
        fields = module.Options.model_fields
        defaults = module.Options().model_dump(mode="json")
        found["options"] = {
            field: {"default": defaults[field], "type": _type(info.annotation)} for field, info in fields.items()
        }
        found["options_doc"] = (module.Options.__doc__ or "").strip()
    if hasattr(module, "RECIPE"):
        found["recipe"] = module.RECIPE.model_dump(mode="json")
        found["input"] = {"name": module.INPUT[0], **module.INPUT[1]}
    return found


def text(found: Mapping[str, Any]) -> str:
    """`plugin`'s answer as plain text."""
    lines = [f"{found['kind']}/{found['name']}", "", found["description"], ""]
    for key in ("paper", "info", "input", "recipe"):
        if key in found:
            lines += [
                f"{key}:",
                *(f"  {name} = {value}" for name, value in found[key].items() if name != "deviations"),
                "",
            ]
    if found.get("options"):
        lines += ["options (default):"]
        lines += [f"  {name} = {option['default']!r}    {option['type']}" for name, option in found["options"].items()]
        lines += ["", found["options_doc"], ""]
    deviations = found.get("paper", {}).get("deviations", ())
    if deviations:
        lines += ["deviations:", *(f"  - {sentence}" for sentence in deviations)]
    return "\n".join(lines).rstrip()


def score_table(scores: Mapping[str, Any], width: int = 100, over: str = "subjects") -> Table:
    """Scores as a table: every part and corpus, then what they must be read against.

    Args:
        scores: of `scoring.score_run` or `scoring.score_csv`.
        width: of the screen in characters; macro precision is left out where it is narrow.
        over: what the intervals draw anew, "subjects" or "clips".
    """
    shown = _SHOWN if width >= 96 else _SHOWN[:3]
    rule = scores["select"]["rule"]
    title = Text(f"{scores['run']}, selection: {rule}", style="bold red" if rule == "oracle" else "bold")
    labels = (label for _, label in shown)
    table = Table(
        "", "clips", *labels, title=title, box=None, header_style="bold", title_justify="left", padding=(0, 1)
    )
    table.columns[0].no_wrap = True
    notes = [f"brackets: 95 % interval over {over}"]
    if over == "clips":
        notes[0] += ", as if those of one person were independent"
    if rule == "oracle":
        notes.append("oracle looks at the test labels: read it against the dice roll")
    parts = scores.get("parts") or {"all": scores}
    for part, block in parts.items():
        table.add_row(escape(part), str(block["n"]), *(_cell(block, name, over) for name, _ in shown))
        if block["absent"]:
            rest = ("" for _ in shown[1:])
            table.add_row(f"  over all {len(block['per_class'])} classes", "", _cell(block, "uf1_all", over), *rest)
        if len(block["by_dataset"]) > 1:
            for name, rows in block["by_dataset"].items():
                table.add_row(
                    escape(f"  {name}"), str(rows["n"]), *(_cell(rows, measure, over) for measure, _ in shown)
                )
        floor, majority = block["floor"], block["majority"]
        table.add_row("  dice roll", "", f"{floor['uf1'][0]:.4f}", f"{floor['uar'][0]:.4f}", style="dim")
        row = (f"{majority[name]:.4f}" for name, _ in shown)
        table.add_row(escape(f"  always {majority['class']}"), "", *row, style="dim")
        if block.get("train_accuracy") is not None:
            table.add_row("  training part", "", "", "", f"{block['train_accuracy']:.4f}", style="dim")
    tasks = scores.get("tasks")
    if tasks and tasks["done"] < tasks["all"]:
        notes.append(f"not finished: {tasks['done']} of {tasks['all']} tasks")
    table.caption = Text("; ".join(notes), style="dim")
    table.caption_justify = "left"
    return table


def class_table(scores: Mapping[str, Any]) -> Table:
    """F1, recall, precision and clips of every class, part by part; a dash for a class that is not in the truth."""
    parts = scores.get("parts") or {"all": scores}
    table = Table("class", "clips", "F1", "recall", "precision", box=None, header_style="bold", padding=(0, 1))
    for part, block in parts.items():
        if len(parts) > 1:
            table.add_row(escape(part), style="bold")
        for word, row in block["per_class"].items():
            numbers = ("–" if row[name] is None else f"{row[name]:.4f}" for name in ("f1", "recall", "precision"))
            table.add_row(escape(word), f"{row['n']:g}", *numbers)
    return table


def repeated_table(found: Mapping[str, Any]) -> Table:
    """Differences over random splits (`scoring.repeated`), each run minus the first, with both tests of their mean."""
    title = Text(f"{found['metric']} over random splits, run minus the first, paired by seed", style="bold")
    names = ("run", "against", "part", "splits", "mean", "sd", "2.5 to 97.5 %", "higher in", "p, plain", "p, corrected")
    table = Table(*names, box=None, header_style="bold", title=title, title_justify="left", padding=(0, 1))
    for one in found["repeated"]:
        low, high = (0.0 - one["quantiles"][share] for share in ("0.975", "0.025"))
        numbers = (f"{0.0 - one['mean']:+.4f}", f"{one['sd']:.4f}", f"{low:+.3f} {high:+.3f}")
        tests = (f"{1 - one['higher']:.0%}", *(f"{one[name]['p']:.4f}" for name in ("plain", "corrected")))
        words = (escape(one[name]) for name in ("second", "first", "part"))
        table.add_row(*words, str(one["splits"]), *numbers, *tests)
    table.caption = Text(
        "corrected for splits that share their clips (Nadeau and Bengio 2003); the plain test takes them for "
        "independent and finds too much",
        style="dim",
    )
    table.caption_justify = "left"
    return table


def timing_table(found: Mapping[str, Any]) -> Table:
    """What `timing.run` found."""
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("experiment", overflow="fold", min_width=20)
    table.add_column("on", overflow="fold")
    table.add_column("size", justify="right", overflow="fold")
    for name in ("weights", "ms a view", "views", "ms a clip", "before"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["rows"]:
        label = f"{row['name']}, {row['change']}" if row["change"] else row["name"]
        sides = "\n".join("x".join(map(str, shape[1:])) for shape in row["input"].values())
        low, high = row["quartiles_ms"]
        count = f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] >= 1e5 else f"{row['parameters']:,}"
        view = f"{_ms(row['ms_view'])}\n{_ms(low)} – {_ms(high)}"
        cells = escape(label), escape(row["device"]), sides, count, view, str(row["views"])
        table.add_row(*cells, _ms(row["ms_clip"]), f"{row['before_ms']:.0f}")
    table.caption = Text(
        f"medians of {found['rounds']} turns, one view at a time; {found['processor']}, {found['threads']} threads; "
        "weights: parameters; below: quartiles; ms a clip: all its views; before: frames, faces, alignment and flow of "
        "it, one thread",
        style="dim",
    )
    table.caption_justify = "left"
    return table


def _ms(value: float) -> str:
    """Three digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _cell(block: Mapping[str, Any], name: str, over: str) -> str:
    low, high = block[UNITS[over]][name]
    interval = "" if low is None else f" [{low:.2f} {high:.2f}]".replace("0.", ".")
    return f"{block[name]:.4f}{interval}"


def _type(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
