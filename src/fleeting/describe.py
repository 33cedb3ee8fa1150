"""What the command line prints: a plug-in in words, scores as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fleeting import plugins
from fleeting.records import Info, Paper

_SHOWN = (("uf1", "UF1"), ("uar", "UAR"), ("accuracy", "accuracy"), ("macro_precision", "macro precision"))


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


def score_table(scores: Mapping[str, Any], width: int = 100) -> Table:
    """Scores as a table: every part and corpus, then what they must be read against.

    Args:
        scores: of `scoring.score_run` or `scoring.score_csv`.
        width: of the screen in characters; macro precision is left out where it is narrow.
    """
    shown = _SHOWN if width >= 96 else _SHOWN[:3]
    rule = scores["select"]["rule"]
    title = Text(f"{scores['run']}, selection: {rule}", style="bold red" if rule == "oracle" else "bold")
    labels = (label for _, label in shown)
    table = Table(
        "", "clips", *labels, title=title, box=None, header_style="bold", title_justify="left", padding=(0, 1)
    )
    table.columns[0].no_wrap = True
    notes = ["brackets: 95 % interval over subjects"]
    if rule == "oracle":
        notes.append("oracle looks at the test labels: read it against the dice roll")
    parts = scores.get("parts") or {"all": scores}
    for part, block in parts.items():
        table.add_row(escape(part), str(block["n"]), *(_cell(block, name) for name, _ in shown))
        if len(block["by_dataset"]) > 1:
            for name, rows in block["by_dataset"].items():
                table.add_row(escape(f"  {name}"), str(rows["n"]), *(_cell(rows, measure) for measure, _ in shown))
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


def _cell(block: Mapping[str, Any], name: str) -> str:
    low, high = block["interval"][name]
    interval = "" if low is None else f" [{low:.2f} {high:.2f}]".replace("0.", ".")
    return f"{block[name]:.4f}{interval}"


def _type(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
