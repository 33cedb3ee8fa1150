"""What AMMSM's search did in a run, as figure 4 of the paper: `python benchmarks/ammsm_search.py RUN [--out FILE.svg]`.

Left: the least fitness so far by trial, evolution and random search with the same budget, mean over the tasks and its
95 % bootstrap interval. Right: the sparsity ratios (by pair of blocks) and the magnification factor that were chosen.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fleeting import page, runs
from fleeting.errors import UserError
from fleeting.records import Array

COLOURS = {"search": page.GOOD, "random": page.MUTED}
NAMES = {"search": "evolution", "random": "random search"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("ammsm_search.svg"))
    arguments = parser.parse_args()
    logs = [trace.log for trace in runs.Run(arguments.run).traces.values() if "search_loss" in trace.log]
    if not logs:
        raise UserError(f"{arguments.run}: want a run whose tasks searched, got none; run an experiment of ammsm")
    with mpl.rc_context(page.STYLE):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _trace(left, logs)
        _chosen(right, logs)
        page.save(figure, arguments.out)
    _say(logs)


def _best(logs: Sequence[Mapping[str, Array]], name: str) -> Array:
    """(tasks, trials) the least fitness so far."""
    return np.minimum.accumulate(np.stack([log[f"{name}_loss"] for log in logs]), axis=1)


def _trace(axes: Axes, logs: Sequence[Mapping[str, Array]]) -> None:
    for name, colour in COLOURS.items():
        best = _best(logs, name)
        draws = np.random.default_rng(0).integers(len(best), size=(1000, len(best)))
        low, high = np.percentile(best[draws].mean(1), [2.5, 97.5], axis=0)
        trials = np.arange(1, best.shape[1] + 1)
        axes.plot(trials, best.mean(0), color=colour, label=NAMES[name])
        axes.fill_between(trials, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="trials", ylabel="least inner cross-entropy so far")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _chosen(axes: Axes, logs: Sequence[Mapping[str, Array]]) -> None:
    ratios, factors = np.stack([log["sparsity"] for log in logs]), np.concatenate([log["factor"] for log in logs])
    rng, pairs = np.random.default_rng(0), ratios.shape[1]
    for pair, values in enumerate(ratios.T, 1):
        axes.plot(pair + rng.uniform(-0.25, 0.25, len(values)), values, ".", color=page.GOOD, alpha=0.4, markersize=5)
        axes.plot([pair - 0.3, pair + 0.3], [values.mean()] * 2, color=page.INK, linewidth=1.2)
    axes.set(xlabel="pair of blocks, and the factor", ylabel="sparsity ratio", ylim=(0, 0.9))
    beside = axes.twinx()
    at = pairs + 1.5
    beside.plot(at + rng.uniform(-0.25, 0.25, len(factors)), factors, ".", color=page.BAD, alpha=0.4, markersize=5)
    beside.plot([at - 0.3, at + 0.3], [factors.mean()] * 2, color=page.INK, linewidth=1.2)
    beside.set(ylabel="magnification factor", ylim=(0.5, 4.5))
    axes.set_xticks([*range(1, pairs + 1), at], [*map(str, range(1, pairs + 1)), "factor"])
    for side in (axes, beside):
        side.spines[["top"]].set_visible(False)


def _say(logs: Sequence[Mapping[str, Array]]) -> None:
    ends = {name: _best(logs, name)[:, -1] for name in COLOURS}
    better = float((ends["search"] < ends["random"]).mean())
    print(
        f"{len(logs)} tasks; least fitness: evolution {ends['search'].mean():.3f}, random {ends['random'].mean():.3f}"
    )
    print(f"evolution ends lower in {better:.0%} of the tasks")


if __name__ == "__main__":
    main()
