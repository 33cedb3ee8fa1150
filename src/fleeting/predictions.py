"""What the finished tasks of a run say of each clip, under a selection rule."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fleeting import counting, files, metrics, selection
from fleeting.errors import UserError
from fleeting.records import Array
from fleeting.runs import Run, Trace

if TYPE_CHECKING:
    import pandas as pd

SELECTIONS = ("last", "inner", "oracle")


def assemble(run: Run) -> Path:
    """Writes ``predictions.csv`` from the finished tasks: last epoch, sorted by (seed, fold, key)."""
    frame = table(run, "last")
    text = io.StringIO()
    frame.to_csv(text, index=False, float_format="%.9g", lineterminator="\n")
    path = run.folder / "predictions.csv"
    files.write_text(path, text.getvalue())
    return path


def table(run: Run, select: str = "last", by: str = "accuracy", ties: str = "latest") -> pd.DataFrame:
    """Predictions under a selection rule, one row a clip and seed.

    Args:
        run: with at least one finished task.
        select: "last" epoch (with early stopping: the restored network); "inner": the epoch with the best pooled
            UF1 over the inner tasks of that fold and seed, earliest on ties; "oracle": the best epoch per fold
            and part on the *test* labels.
        by, ties: of the oracle: score ("accuracy" | "uf1") and tie rule ("latest" | "earliest").

    Returns:
        key, dataset, subject, clip, part, fold, seed, epoch, true, pred, p_<class>..., sorted by
        (seed, fold, key).

    Raises:
        UserError: an unknown rule, inner tasks missing, or no finished task.
    """
    import pandas as pd

    if select not in SELECTIONS:
        raise UserError(f"want select to be one of {SELECTIONS}, got {select!r}")
    rows = [
        row
        for (seed, fold), trace in run.traces.items()
        for part, keys in run.folds[seed, fold].items()
        for row in _part_rows(run, trace, seed, fold, part, keys, _chooser(run, select, by, ties))
    ]
    if not rows:
        raise UserError(f"{run.folder}: want at least one finished task, got none; run the same command again")
    return pd.DataFrame(rows).sort_values(["seed", "fold", "key"], ignore_index=True)


def curve(run: Run, part: str) -> dict[int, Array]:
    """Seed -> (E,) pooled UF1 of a part after every epoch that all its folds ran."""
    curves = {}
    for seed in run.seeds:
        places = [
            (place, trace) for place, trace in run.traces.items() if place[0] == seed and part in run.folds[place]
        ]
        if not places:
            continue
        epochs = min(trace.epochs for _, trace in places)
        matrices = np.zeros((epochs, len(run.classes), len(run.classes)), np.int64)
        for place, trace in places:
            chosen = np.flatnonzero(np.isin(trace.keys, run.folds[place][part]))
            truth = run.labels(trace.keys[chosen])
            for epoch in range(epochs):
                guess = trace.probs[epoch][chosen].argmax(-1)
                np.add.at(matrices[epoch], (truth, guess), 1)
        curves[seed] = np.asarray(metrics.uf1(matrices))
    return curves


_Chooser = Callable[[Trace, int, str, Array], int]


def _chooser(run: Run, select: str, by: str, ties: str) -> _Chooser:
    """(trace, seed, fold, positions of the part's clips) -> epoch."""
    known: dict[tuple[int, str], int] = {}

    def inner(trace: Trace, seed: int, fold: str, chosen: Array) -> int:
        if (seed, fold) not in known:
            known[seed, fold] = _inner_epoch(run, run.inner_traces(seed, fold))
        return min(known[seed, fold], trace.epochs - 1)

    def oracle(trace: Trace, seed: int, fold: str, chosen: Array) -> int:
        guesses = trace.probs[: trace.epochs, chosen].argmax(-1)
        return selection.best_epoch(guesses, run.labels(trace.keys[chosen]), len(run.classes), by=by, ties=ties)

    return {"last": lambda trace, *_: len(trace.probs) - 1, "inner": inner, "oracle": oracle}[select]


def _inner_epoch(run: Run, traces: Sequence[Trace]) -> int:
    epochs = min(trace.epochs for trace in traces)
    truth = run.labels(np.concatenate([trace.keys for trace in traces]))
    guesses = np.concatenate([trace.probs[:epochs].argmax(-1) for trace in traces], axis=1)
    matrices = np.stack([counting.confusion(truth, guess, len(run.classes)) for guess in guesses])
    return int(np.argmax(metrics.uf1(matrices)))


def _part_rows(
    run: Run, trace: Trace, seed: int, fold: str, part: str, keys: Sequence[str], choose: _Chooser
) -> Iterator[dict[str, Any]]:
    chosen = np.flatnonzero(np.isin(trace.keys, keys))
    epoch = choose(trace, seed, fold, chosen)
    for position in chosen:
        clip, probs = run.clips[str(trace.keys[position])], trace.probs[epoch, position]
        yield {
            **{name: clip[name] for name in ("key", "dataset", "subject", "clip")},
            # early stopping's restored network has a row of its own, but no epoch of its own
            **{"part": part, "fold": fold, "seed": seed, "epoch": min(epoch, trace.epochs - 1), "true": clip["label"]},
            "pred": run.classes[int(probs.argmax())],
            **{f"p_{name}": float(p) for name, p in zip(run.classes, probs, strict=True)},
        }
