"""From predictions to scores: of a run under a selection rule, of anybody's CSV, and of two runs compared.

Results are pooled over folds inside a part and a seed, never over parts, and never averaged over folds. Seeds
give mean and range; intervals are 95 % percentile bootstraps of the mean over seeds: ``interval`` over subjects, and
``interval_over_clips`` as papers often have it (1,000 resamples), which takes the clips of one person for independent
and is therefore too narrow where they are not.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleeting import counting, metrics, predictions, repeats, runs, selection, statistics
from fleeting.errors import UserError, nearest
from fleeting.records import Array

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("uf1", "uar", "accuracy", "macro_precision", "uf1_all")
_CLIP_ROUNDS = 1000  # resamples of clips, as in the frame study


def score_run(folder: Path, select: str = "last", by: str = "accuracy", ties: str = "latest") -> dict[str, Any]:
    """Scores of a run.

    Args:
        folder: of the run; one that is not finished is scored as far as it is, and says so ("tasks").
        select, by, ties: selection rule, see `predictions.table`.

    Returns:
        ``run, model, select, tasks, seeds, parts: {part: scores}``; with a single part its scores also stand
        at the top. Scores are ``uf1, uar, accuracy, macro_precision, uf1_all`` (mean over seeds; ``uf1`` is macro F1
        over the classes present, ``uf1_all`` over all), ``range``, ``interval``, ``interval_over_clips``,
        ``by_seed``, ``per_class``, ``confusion``, ``by_dataset``, ``n``, ``subjects``, ``absent``,
        ``majority`` (always the most frequent class), ``train_accuracy`` and ``floor`` (a dice roll with the
        class frequencies under the same selection rule and number of epochs).

    Raises:
        UserError: no run, an unknown rule, or nothing finished.
    """
    run = runs.Run(folder)
    return _scored(run, predictions.table(run, select, by, ties), select, by, ties)


def score_csv(path: Path, columns: Mapping[str, str], select: str = "last") -> dict[str, Any]:
    """Scores of a table of predictions, one row a clip.

    Args:
        path: CSV file with a header.
        columns: where "true", "pred", "subject", "dataset" stand; labels are words or integers. Without a
            dataset column all clips are of one corpus.
        select: only "last": a bare table has no epochs to select from.

    Returns:
        As `score_run`, without what needs a run.

    Raises:
        UserError: no such file or column, an empty cell, or another `select`.
    """
    if select != "last":
        raise UserError(f"{path}: want --select last for a bare CSV, got {select!r}: it holds no epochs to select from")
    table = _read_table(path, columns).sort_values(["dataset", "subject", "true", "pred"], ignore_index=True)
    table["key"] = [f"{row:09d}" for row in table.index]  # a row is a clip
    return {"run": path.stem, "select": {"rule": "last"}, **_scores(table, _words(table)), **_chance(table)}


def compare(folders: Sequence[Path], select: str = "last", metric: str = "uf1") -> dict[str, Any]:
    """Each run against the first, on the clips that all of them tested.

    Args:
        folders: at least two runs with the same classes.
        select: selection rule for all.
        metric: what the permutation test compares.

    Returns:
        As `paired`, ``repeated`` (see there), ``drawn`` (whether every run's seeds draw test parts of their own) and
        ``runs: [scores on the common clips]``.

    Raises:
        UserError: as `paired`.
    """
    opened, tables = _opened(folders, select)
    found = _paired(opened, tables, select, metric)
    kept = _on_common(opened, tables)
    return {
        **found,
        "repeated": repeated(opened, kept, metric),
        "drawn": all(repeats.drawn(run.folds) for run in opened),
        "runs": [_scored(run, table, select) for run, table in zip(opened, kept, strict=True)],
    }


def paired(folders: Sequence[Path], select: str = "last", metric: str = "uf1") -> dict[str, Any]:
    """The tests of `compare` alone.

    Returns:
        ``metric, select, common: clips, left_out: clips`` and
        ``pairs: [{first, second, folders, part, difference, p, rounds, exact, interval}]``: a paired permutation test
        over subjects, and the bootstrap interval over them; difference = first - second.

    Raises:
        UserError: fewer than two runs, other classes or labels, or no clip or part in common.
    """
    return _paired(*_opened(folders, select), select, metric)


def repeated(opened: Sequence[runs.Run], tables: Sequence[pd.DataFrame], metric: str) -> list[dict[str, Any]]:
    """Each run against the first over random splits, paired by seed; see `repeats.differences`.

    Args:
        opened: runs.
        tables: of the clips that all of them tested, in the order of the runs.
        metric: a name of `metrics.METRICS`.

    Returns:
        ``[{first, second, part, ...}]``, difference = first - second, for runs whose seeds draw another test part each
        and that drew and finished the same ones in two seeds or more, but for clips that one could not prepare.
    """
    if not all(repeats.drawn(run.folds) for run in opened):
        return []
    found = []
    shared = frozenset.intersection(*(frozenset(run.clips) for run in opened))
    for run, table in zip(opened[1:], tables[1:], strict=True):
        for part in sorted(set(tables[0]["part"]) & set(table["part"])):
            one, two = (whole[whole["part"] == part] for whole in (tables[0], table))
            told = _differences((opened[0], run), (one, two), shared, part, metric)
            found += [{"first": opened[0].name, "second": run.name, "part": part, **told}] if told else []
    return found


def _differences(
    pair: tuple[runs.Run, runs.Run],
    rows: tuple[pd.DataFrame, pd.DataFrame],
    shared: frozenset[str],
    part: str,
    metric: str,
) -> dict[str, Any]:
    one, two = ({seed: keys & shared for seed, keys in repeats.tested(run.folds, part).items()} for run in pair)
    known = {int(str(seed)): set(keys) for seed, keys in rows[0].groupby("seed")["key"]}
    seeds = [seed for seed, keys in one.items() if two.get(seed) == keys == known.get(seed)]
    if len(seeds) < 2:
        return {}
    matrices = [_matrices(table, pair[0].classes) for table in rows]
    scores = [{seed: float(metrics.METRICS[metric](found[seed].sum(0))) for seed in seeds} for found in matrices]
    test = float(np.mean([len(one[seed]) for seed in seeds]))
    return repeats.differences(scores[0], scores[1], len(shared) - test, test)


def _opened(folders: Sequence[Path], select: str) -> tuple[list[runs.Run], list[pd.DataFrame]]:
    if len(folders) < 2:
        raise UserError(f"want at least two runs to compare, got {len(folders)}")
    opened = [runs.Run(folder) for folder in folders]
    return opened, [predictions.table(run, select) for run in opened]


def _paired(opened: Sequence[runs.Run], tables: Sequence[pd.DataFrame], select: str, metric: str) -> dict[str, Any]:
    kept = _on_common(opened, tables)
    pairs = [
        {
            "first": opened[0].name,
            "second": other.name,
            "folders": [str(opened[0].folder), str(other.folder)],
            **result,
        }
        for other, table in zip(opened[1:], kept[1:], strict=True)
        for result in _pairs(kept[0], table, opened[0].classes, metric)
    ]
    if not pairs:
        raise UserError(f"want runs with a part in common, got {[sorted(set(table['part'])) for table in kept]}")
    common = kept[0]["key"].nunique()
    left_out = max(table["key"].nunique() for table in tables) - common
    return {"metric": metric, "select": {"rule": select}, "common": common, "left_out": left_out, "pairs": pairs}


def _on_common(opened: Sequence[runs.Run], tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """The rows of the clips that all runs tested; where seeds draw the test part, of the same seed."""
    if any(repeats.drawn(run.folds) for run in opened):
        places = [table["seed"].astype(str) + "@" + table["key"] for table in tables]
        shared = set(places[0]).intersection(*places[1:])
        _check_alike(opened, {place.partition("@")[2] for place in shared})
        return [table[place.isin(shared)].reset_index(drop=True) for table, place in zip(tables, places, strict=True)]
    common = _common(opened, tables)
    return [table[table["key"].isin(common)].reset_index(drop=True) for table in tables]


def _scored(
    run: runs.Run, table: pd.DataFrame, select: str, by: str = "accuracy", ties: str = "latest"
) -> dict[str, Any]:
    """`score_run`'s answer for a table of a run's predictions."""
    parts = {
        str(part): {**_scores(rows, run.classes), **_beside(run, rows, select, by, ties)}
        for part, rows in table.groupby("part", sort=True)
    }
    done, failed = run.done(), run.failed()
    head = {
        "run": run.name,
        "folder": str(run.folder),
        "model": run.header["experiment"]["model"]["name"],
        "select": {"rule": select, "by": by, "ties": ties} if select == "oracle" else {"rule": select},
        "tasks": {"done": len(done), "failed": len(failed), "all": run.header["counts"]["tasks"]},
        "seeds": run.seeds,
        "standin": run.header["standin"],
    }
    return {**head, **_top(parts), "parts": parts}


def _scores(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    corpora = {str(name): _block(part, classes) for name, part in rows.groupby("dataset", sort=True)}
    return {**_block(rows, classes), "by_dataset": corpora}


def _block(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    matrices = _matrices(rows, classes)
    stacked = np.stack(list(matrices.values()))
    each_clip = np.stack(list(_matrices(rows, classes, "key").values()))
    pooled = stacked.sum(axis=1)
    each = {name: np.asarray(metrics.METRICS[name](pooled), dtype=float) for name in MEASURES}
    summaries = [metrics.summary(matrix, classes) for matrix in pooled]
    return {
        **{name: float(values.mean()) for name, values in each.items()},
        "range": {name: [float(values.min()), float(values.max())] for name, values in each.items()},
        "interval": {name: _pair(pair) for name, pair in statistics.intervals(stacked).items()},
        "interval_over_clips": {
            name: _pair(pair) for name, pair in statistics.intervals(each_clip, _CLIP_ROUNDS).items()
        },
        "by_seed": {str(seed): {name: float(each[name][i]) for name in MEASURES} for i, seed in enumerate(matrices)},
        "per_class": {name: _mean([summary["per_class"][name] for summary in summaries]) for name in classes},
        "confusion": pooled[0].tolist() if len(pooled) == 1 else pooled.mean(axis=0).tolist(),
        "absent": [name for name in classes if all(name in summary["absent"] for summary in summaries)],
        **_count(rows),
    }


def _beside(run: runs.Run, rows: pd.DataFrame, select: str, by: str, ties: str) -> dict[str, Any]:
    """What must stand beside a score: the dice roll, the majority class, the accuracy on the training part."""
    first = rows[rows["seed"] == rows["seed"].value_counts().idxmax()]
    traces = [run.traces[place] for place in set(zip(rows["seed"], rows["fold"], strict=True))]
    # folds that stopped early had fewer epochs to choose from
    seed = first["seed"].iloc[0]
    epochs = np.array([run.traces[seed, fold].epochs for fold in first["fold"]])
    fitted = [float(trace.log["fitted_accuracy"]) for trace in traces if "fitted_accuracy" in trace.log]
    groups = first["fold"].to_numpy()
    floor = selection.floor(_numbers(first["true"], run.classes), groups, len(run.classes), epochs, select, by, ties)
    return {**_majority(first), "floor": _plain(floor), "train_accuracy": float(np.mean(fitted)) if fitted else None}


def _chance(table: pd.DataFrame) -> dict[str, Any]:
    words = _words(table)
    groups = (table["dataset"] + "/" + table["subject"]).to_numpy()
    floor = selection.floor(_numbers(table["true"], words), groups, len(words), 1, "last")
    return {**_majority(table), "floor": _plain(floor)}


def _majority(rows: pd.DataFrame) -> dict[str, Any]:
    word = rows["true"].value_counts().sort_index().idxmax()
    words = sorted(rows["true"].unique())
    truth = _numbers(rows["true"], words)
    matrix = counting.confusion(truth, np.full(len(truth), words.index(word)), len(words))
    return {"majority": {"class": str(word), **{name: float(metrics.METRICS[name](matrix)) for name in MEASURES}}}


def _matrices(rows: pd.DataFrame, classes: Sequence[str], unit: str = "subject") -> dict[int, Array]:
    """Seed -> (G, C, C) over the same subjects (or clips: "key"), sorted; zeros where a seed did not test one."""
    groups = rows["key"] if unit == "key" else rows["dataset"] + "/" + rows["subject"]
    names = sorted(groups.unique())
    place = {name: index for index, name in enumerate(names)}
    found = {}
    for seed, part in rows.groupby("seed", sort=True):
        matrix = np.zeros((len(names), len(classes), len(classes)), np.int64)
        where = groups.loc[part.index].map(place).to_numpy()
        np.add.at(matrix, (where, _numbers(part["true"], classes), _numbers(part["pred"], classes)), 1)
        found[int(str(seed))] = matrix
    return found


def _pairs(first: pd.DataFrame, second: pd.DataFrame, classes: Sequence[str], metric: str) -> list[dict[str, Any]]:
    found = []
    for part in sorted(set(first["part"]) & set(second["part"])):
        one, two = (_matrices(table[table["part"] == part], classes) for table in (first, second))
        stacks = np.stack(list(one.values())), np.stack(list(two.values()))
        result = statistics.permutation(*stacks, metric)
        interval = _pair(statistics.bootstrap_difference(*stacks, metric))
        found.append({"part": part, **_plain(result), "interval": interval})
    return found


def _common(opened: Sequence[runs.Run], tables: Sequence[pd.DataFrame]) -> set[str]:
    tested = [_in_every_seed(table) for table in tables]
    common = tested[0].intersection(*tested[1:])
    _check_alike(opened, common)
    return common


def _check_alike(opened: Sequence[runs.Run], common: set[str]) -> None:
    """Refuses runs of other classes, other labels, or no clip in common."""
    for run in opened[1:]:
        if run.classes != opened[0].classes:
            raise UserError(f"want runs with the same classes, got {opened[0].classes} and {run.classes}")
    for run in opened[1:]:
        other = [key for key in common if run.clips[key]["label"] != opened[0].clips[key]["label"]]
        if other:
            raise UserError(f"want the same labels in all runs, got two for {other[0]}; compare runs of one protocol")
    if not common:
        raise UserError("want clips that all runs tested, got none; compare runs on the same corpora")


def _in_every_seed(table: pd.DataFrame) -> set[str]:
    """Keys that all seeds tested: in an unfinished run the seeds differ."""
    seeds = table.groupby("key")["seed"].nunique()
    return set(seeds[seeds == table["seed"].nunique()].index)


def _read_table(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    """dataset, subject, true, pred, seed = 0; labels as words, 1.0 written 1."""
    import pandas as pd

    try:
        # csv, not pandas, which takes a column too many for an index and shifts all others
        reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")), skipinitialspace=True, restkey="")
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        rows = [_cells(row, reader.line_num, columns, path) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: want a CSV file or a run folder, got {error}") from error
    if not rows:
        raise UserError(f"{path}: want at least one row, got none")
    table = pd.DataFrame({"dataset": "all", "subject": "", "seed": 0}, index=range(len(rows)))
    table = table.assign(**{name: [row[name] for row in rows] for name in columns})
    _check_spelling(table, path)
    return table


def _cells(row: Mapping[str, Any], line: int, columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """One row's named cells. Raises `UserError` for a missing column, an empty cell or a cell too many."""
    if any(str(cell).strip() for cell in row.get("", ())):
        raise UserError(f"{path}, line {line}: want as many cells as the header, got more; correct the line")
    found = {}
    for name, column in columns.items():
        if column not in row:
            raise UserError(f"{path}: want a column {column!r}{nearest(column, [key for key in row if key])}")
        found[name] = (row[column] or "").strip()
        if found[name].lower() in ("", "nan", "na", "none"):
            raise UserError(f"{path}, line {line}: want a value in column {column!r}, got an empty cell; fill it in")
    return {**found, **{name: re.sub(r"^(-?[0-9]+)\.0+$", r"\1", found[name]) for name in ("true", "pred")}}


def _check_spelling(table: pd.DataFrame, path: Path) -> None:
    """A predicted word that differs from a true one only in case is a slip, not a class of its own."""
    known = set(table["true"])
    lower = {word.lower(): word for word in known}
    for word in sorted(set(table["pred"]) - known):
        if word.lower() in lower:
            raise UserError(
                f"{path}: want the classes written alike, got {word!r} and {lower[word.lower()]!r}; rename one"
            )


def _words(table: pd.DataFrame) -> list[str]:
    words = set(table["true"]) | set(table["pred"])
    return sorted(words, key=lambda word: (0, int(word), "") if re.fullmatch("-?[0-9]+", word) else (1, 0, word))


def _numbers(words: pd.Series[Any], classes: Sequence[str]) -> Array:
    return words.map({name: index for index, name in enumerate(classes)}).to_numpy(dtype=np.int64)


def _count(rows: pd.DataFrame) -> dict[str, int]:
    groups = rows["dataset"] + "/" + rows["subject"]
    return {"n": int(rows["seed"].value_counts().max()), "subjects": groups.nunique()}


def _mean(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean over the seeds of each value; in an unfinished run a class may be absent (None) from some seeds."""
    known = {name: [item[name] for item in items if item[name] is not None] for name in items[0]}
    means = {name: float(np.mean(values)) if values else None for name, values in known.items()}
    return {**means, "n": max(known["n"])}


def _top(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return dict(next(iter(parts.values()))) if len(parts) == 1 else {}


def _pair(pair: tuple[float, float]) -> list[float | None]:
    return [None if value != value else float(value) for value in pair]


def _plain(value: Any) -> Any:
    """Without numpy: what JSON can say."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
