"""The sections of a report, from readings to blocks: what is said, not how it looks.

Every sentence and number comes from `runs` and `scoring`; nothing is scored here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleeting import predictions
from fleeting.report.blocks import (
    Banner,
    Beside,
    Block,
    Cell,
    Details,
    Heading,
    Table,
    Text,
    counted,
    interval,
    number,
)
from fleeting.report.drawing import Figure, signed
from fleeting.report.figures import Line, Selected, bar, curves, measured
from fleeting.report.readings import Reading, Scores, logged, overlap, people
from fleeting.report.strip import strip

_MEASURES = (("uf1", "UF1"), ("uar", "UAR"), ("accuracy", "accuracy"), ("macro_precision", "macro precision"))
_NAMED = 20  # failed tasks on the page; more than that failed for one reason
_MAKING = {
    "last": "the network as training leaves it: after the last epoch, or as early stopping restored it",
    "inner": "the epoch that is best over inner splits of the training subjects",
}


# --- summary and banners


def opening(readings: Sequence[Reading]) -> list[Block]:
    """The summary in words, and what must not be overlooked."""
    lead = [Text(_sentence(reading, part), "lead") for reading in readings for part in reading.parts]
    warnings = [banner for reading in readings for banner in _banners(reading)]
    return [*lead, *warnings]


def _sentence(reading: Reading, part: str) -> str:
    block = reading.parts[part]
    where = f" on {part}" if len(reading.parts) > 1 else ""
    over = f"over {counted(block['subjects'], 'subject')}, {counted(block['n'], 'clip')}"
    seeds = f", mean of {reading.seeds} seeds" if reading.seeds > 1 else ""
    pair = interval(block["interval"]["uf1"])
    score = f"UF1 {number(block['uf1'])}{' ' if pair else ''}{pair}{where}"
    return f"{reading.label}: {score} {over}{seeds}{_ending(reading)}."


def _ending(reading: Reading) -> str:
    """How training ended; no test label had a say in it."""
    if reading.experiment["recipe"].get("patience"):
        return ", stopped early on clips that are not tested, nothing selected on the test"
    return f", last of {reading.epochs} epochs, nothing selected" if reading.epochs > 1 else ", nothing selected"


def _banners(reading: Reading) -> list[Banner]:
    found = []
    if reading.made_up:
        words = f"{reading.label} ran on a stand-in of {', '.join(reading.made_up)}."
        found.append(Banner("made-up data: these numbers say nothing about faces.", words))
    if known := overlap(reading):
        met, tested = known
        words = (
            f"In {reading.label} {met} of {tested} tested clips are of people whom the network has met: other clips of "
            "theirs train it or choose its epoch. This measures no new face."
        )
        found.append(Banner("subjects overlap.", words))
    return found + _progress(reading)


def _progress(reading: Reading) -> list[Banner]:
    """What failed, by name, and what is still to be run."""
    status, failed = reading.status, reading.status["failed"]
    found = []
    if failed:
        first = [f"{task.replace('~', '/')}: {why}" for task, why in list(failed.items())[:_NAMED]]
        more = len(failed) - len(first)
        named = "; ".join([*first, f"and {more} more, which fleeting status names"] if more else first)
        found.append(Banner("failed.", f"{counted(len(failed), 'task')} of {reading.label}. {named}"))
    if status["done"] < status["all"]:
        absent = f" Folds without a result: {'; '.join(reading.missing)}." if reading.missing else ""
        words = (
            f"{reading.label}: {status['done']} of {status['all']} tasks done; the scores below are of these.{absent}"
        )
        found.append(Banner("not finished.", words))
    return found


# --- scores


def headline(readings: Sequence[Reading]) -> list[Block]:
    """A row a run and part."""
    corpora = sorted({name for _, block in _every(readings) for name in _corpora(block)})
    seeds = any(reading.seeds > 1 for reading in readings)
    missing = any(block["absent"] for _, block in _every(readings))
    head = ["run", "clips", *(label for _, label in _MEASURES)]
    head += ["UF1, all classes"] if missing else []
    head += ["UF1 over seeds"] if seeds else []
    head += [*(f"UF1 {name}" for name in corpora), "training accuracy", "majority class UF1"]
    rows = [_row(reading, part, corpora, (seeds, missing)) for reading in readings for part in reading.parts]
    caption = (
        "The networks as training left them, pooled over all folds, never averaged over folds. Brackets and bars: "
        "95 % bootstrap over subjects; below it the one over clips, as many papers have it, which takes the clips of "
        "one person for independent. The tick on the bar of UF1 and UAR is a dice roll with the class frequencies. "
        "Training accuracy: of the finished networks, mean over folds. Majority: always saying the most frequent class."
    )
    blocks: list[Block] = [Heading("Scores"), Table(caption, head, rows, "cards")]
    return [*blocks, *_absent(readings), *_unpooled(readings)]


def _every(readings: Sequence[Reading]) -> list[tuple[str, Scores]]:
    return [(reading.title(part), block) for reading in readings for part, block in reading.parts.items()]


def _corpora(block: Scores) -> dict[str, Any]:
    """Scores of each corpus, where there are several."""
    return block["by_dataset"] if len(block["by_dataset"]) > 1 else {}


def _row(reading: Reading, part: str, corpora: Sequence[str], shown: tuple[bool, bool]) -> list[Cell]:
    block, (seeds, missing) = reading.parts[part], shown
    cells = [
        Cell(reading.title(part), str(reading.experiment["model"]["name"])),
        Cell(str(block["n"]), counted(block["subjects"], "subject")),
        *(_measure(block, name) for name, _ in _MEASURES),
    ]
    if missing:
        cells.append(_measure(block, "uf1_all"))
    if seeds:
        low, high = block["range"]["uf1"]
        cells.append(
            Cell(f"{number(low)} – {number(high)}" if reading.seeds > 1 else "–", counted(reading.seeds, "seed"))
        )
    majority = block["majority"]
    cells += [_corpus(block, name) for name in corpora]
    cells.append(Cell(number(block["train_accuracy"])))
    cells.append(Cell(number(majority["uf1"]), f"{majority['class']}; accuracy {number(majority['accuracy'])}"))
    return cells


def _measure(block: Scores, name: str) -> Cell:
    low, high = block["interval"][name]
    floor = block["floor"].get(name)
    svg = bar(block[name], low, high, None if floor is None else floor[0])
    subjects, clips = interval((low, high)), interval(block["interval_over_clips"][name])
    kept = [words.replace(" ", "\N{NO-BREAK SPACE}") for words in (subjects, f"clips {clips}" if clips else "")]
    return Cell(number(block[name]), " ".join(kept).strip(), svg=svg)


def _corpus(block: Scores, name: str) -> Cell:
    found = _corpora(block).get(name)
    return Cell("–") if found is None else Cell(number(found["uf1"]), f"UAR {number(found['uar'])}")


def _absent(readings: Sequence[Reading]) -> list[Block]:
    sentences = [
        f"{title}: no clip of {', '.join(block['absent'])} among the tested ones; UF1, UAR and macro precision are "
        f"means over the other classes. Over all {len(block['per_class'])} classes, an absent one counting 0, UF1 is "
        f"{number(block['uf1_all'])}."
        for title, block in _every(readings)
        if block["absent"]
    ]
    return [Text(sentence, "note") for sentence in sentences]


def _unpooled(readings: Sequence[Reading]) -> list[Block]:
    several = [reading.label for reading in readings if len(reading.parts) > 1]
    words = f"{', '.join(several)}: the parts are different test sets; there is no pooled number."
    return [Text(words, "note")] if several else []


# --- measured against selected


def selection(readings: Sequence[Reading]) -> list[Block]:
    """The same runs under last, inner and oracle, each beside the dice roll of its rule."""
    several = [reading for reading in readings if reading.epochs > 1]
    words = (
        "A trained network has as many versions as epochs. Which one counts is a rule, and a rule that looks at the "
        "test labels lifts any model, also one that knows nothing: read each score as its distance from the dice "
        "roll that chooses by the same rule among as many epochs."
    )
    blocks: list[Block] = [Heading("Measured against selected"), Text(words)]
    blocks += [
        Text(f"{reading.label} has one epoch: there is nothing to select.")
        for reading in readings
        if reading.epochs == 1
    ]
    if several:
        blocks += [_selection_figure(several), _selection_table(several)]
    return blocks


def _selection_figure(readings: Sequence[Reading]) -> Figure:
    groups = [
        (_among(reading, part), [_selected(rule, scores["parts"][part]) for rule, scores in reading.scores.items()])
        for reading in readings
        for part in reading.parts
    ]
    caption = (
        "UF1. Mark and bar: the score and its 95 % interval; band: the dice roll under the same rule, mean ± 2 "
        "standard deviations; dots: what lies between. Hollow red square: oracle, which sees the test labels."
    )
    return measured("selection", groups, caption)


def _among(reading: Reading, part: str) -> str:
    return f"{reading.title(part)}, {counted(reading.epochs, 'epoch')}"


def _selected(rule: str, block: Scores) -> Selected:
    low, high = block["interval"]["uf1"]
    floor, spread = block["floor"]["uf1"]
    return Selected(rule, block["uf1"], low, high, floor, spread)


def _selection_table(readings: Sequence[Reading]) -> Table:
    rows = [
        row
        for reading in readings
        for part in reading.parts
        for rule in ("last", "inner", "oracle")
        for row in [_rule_row(reading, part, rule)]
    ]
    head = ("run", "rule", "UF1", "dice roll UF1", "UF1 above it", "UAR", "dice roll UAR", "UAR above it")
    caption = "Dice roll: class frequencies of the test labels, same rule, epochs and folds; mean ± standard deviation."
    return Table(caption, head, rows, "cards", (1,))


def _rule_row(reading: Reading, part: str, rule: str) -> list[Cell]:
    title = Cell(reading.title(part), counted(reading.epochs, "epoch"))
    if rule not in reading.scores:
        return [title, Cell(rule, reading.refused[rule]), *(Cell("–") for _ in range(6))]
    scores = reading.scores[rule]
    block, tone = scores["parts"][part], "red" if rule == "oracle" else ""
    cells = [title, Cell(rule, _how(scores["select"]), tone)]
    for name in ("uf1", "uar"):
        floor, spread = block["floor"][name]
        cells.append(Cell(number(block[name]), interval(block["interval"][name]), tone))
        cells.append(Cell(number(floor), f"± {number(spread)}", tone))
        cells.append(Cell(signed(block[name] - floor), tone=tone))
    return cells


def _how(select: Mapping[str, str]) -> str:
    """The rule in words, with the oracle's tie rule."""
    if select["rule"] != "oracle":
        return _MAKING[select["rule"]]
    return f"each fold's best epoch by {select['by']} on its own test labels; ties: the {select['ties']}"


# --- where it errs


def errors(readings: Sequence[Reading]) -> list[Block]:
    """Confusion matrices of all clips and of each corpus, and scores of each class."""
    blocks: list[Block] = [Heading("Where it errs")]
    for reading in readings:
        for part, block in reading.parts.items():
            blocks.append(Heading(reading.title(part), 3))
            named = {"all": block, **_corpora(block)}
            classes = reading.run.classes
            blocks.append(Beside([_confusion(name, one, classes, reading.seeds) for name, one in named.items()]))
            blocks.append(_classes(block, classes))
    return blocks


def _confusion(name: str, block: Scores, classes: Sequence[str], seeds: int) -> Table:
    rows = []
    for word, counts in zip(classes, block["confusion"], strict=True):
        total = sum(counts)
        shares = [count / total if total else None for count in counts]
        cells = [
            Cell(_count(count), "" if share is None else f"{100 * share:.0f} %", share=share)
            for count, share in zip(counts, shares, strict=True)
        ]
        rows.append([Cell(word, "" if total else "no such clip"), *cells])
    mean = f", mean of {seeds} seeds" if seeds > 1 else ""
    return Table(f"{name}: {counted(block['n'], 'clip')}{mean}", ("true ↓ said →", *classes), rows, "matrix")


def _count(count: float) -> str:
    return str(int(count)) if float(count).is_integer() else f"{count:.1f}"


def _classes(block: Scores, classes: Sequence[str]) -> Table:
    rows = []
    for word in classes:
        found = block["per_class"][word]
        scores = (Cell(number(found[name])) for name in ("f1", "recall", "precision"))
        rows.append([Cell(word, "" if found["n"] else "not among the tested clips"), Cell(str(found["n"])), *scores])
    return Table("Each class, all clips of the part pooled.", ("class", "clips", "F1", "recall", "precision"), rows)


# --- along the epochs


def epochs(readings: Sequence[Reading]) -> list[Block]:
    """Pooled UF1 after every epoch, with training accuracy and loss."""
    blocks: list[Block] = [Heading("Along the epochs")]
    for place, reading in enumerate(readings, 1):
        for part in reading.parts:
            if reading.epochs == 1:
                blocks.append(Text(f"{reading.title(part)}: one epoch, no curve."))
            else:
                blocks += [Heading(reading.title(part), 3), _curves(reading, part, f"epochs-{place}-{part}")]
    return blocks


def _curves(reading: Reading, part: str, name: str) -> Figure:
    found = predictions.curve(reading.run, part)
    scores = [
        Line(f"UF1, seed {seed}" if len(found) > 1 else "UF1", list(map(float, values)))
        for seed, values in found.items()
    ]
    training = [Line(words, values, True) for words, values in _mean_lines(reading, part, "train_accuracy", "training")]
    losses = [Line(words, values, True) for words, values in _mean_lines(reading, part, "loss", "loss")]
    caption = (
        "Solid: UF1 pooled over the tested clips after each epoch, one line a seed; dashed: running accuracy "
        "(with dropout and augmentation) and loss in training, mean over folds and seeds. Drawn to see whether "
        "training has settled: the last epoch counts, wherever the line had its peak."
    )
    return curves(_slug(name), [*scores, *training], losses, reading.parts[part]["floor"]["uf1"][0], caption)


def _mean_lines(reading: Reading, part: str, name: str, words: str) -> list[tuple[str, list[float]]]:
    """One line: the mean over the seeds."""
    series = list(logged(reading, part, name).values())
    if not series:
        return []
    length = min(map(len, series))
    return [(words, [sum(values) / len(series) for values in zip(*(one[:length] for one in series), strict=True)])]


def _slug(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)


# --- subject by subject


def subjects(readings: Sequence[Reading]) -> list[Block]:
    """The strip of subjects, and the same as a table."""
    blocks: list[Block] = [Heading("Subject by subject")]
    for place, reading in enumerate(readings, 1):
        for part in reading.parts:
            seed, found = people(reading, part)
            which = f" Seed {seed}, the first of {reading.seeds}." if reading.seeds > 1 else ""
            caption = (
                "A column a subject, within a corpus from the least to the best recognised; a square a clip: above the "
                f"line the right ones, below it the wrong ones.{which}"
            )
            name = _slug(f"subjects-{place}-{part}")
            rows = [
                [Cell(f"{one.corpus} {one.name}"), Cell(str(one.counts.trace())), Cell(str(one.counts.sum()))]
                for one in found
            ]
            table = Table("Clips recognised.", ("subject", "right", "clips"), rows)
            blocks += [Heading(reading.title(part), 3), strip(name, found, reading.run.classes, caption)]
            blocks.append(Details(f"{counted(len(found), 'subject')} as a table", [table]))
    return blocks
