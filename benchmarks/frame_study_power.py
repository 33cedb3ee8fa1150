"""What 28 test clips can tell: the design of the frame study, simulated: `make results-frame-study`.

Writes a section of ``docs/results/frame_study.md``, between two marks, and its pictures beside the page. What is
simulated stands in ``frame_study_simulation.py``.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import frame_study_simulation as study
from fleeting import files, statistics
from fleeting.records import Array

SHARED = (0.0, 0.2, 0.4, 0.6, 0.8)
SIZES = (28, 56, 112, 255, 560, 1120, 2240, 4480)
BEGIN = "<!-- power: written by benchmarks/frame_study_power.py, make results-frame-study -->"
END = "<!-- power: end -->"
TITLE = "# The frame study: is its preprocessing paradox real?"
INK, FAINT, COLOURS = "#1f2933", "#d8dee4", ("#b3261e", "#1f5fa8")
Pairs = Mapping[tuple[str, float], study.Pair]
Power = Mapping[tuple[float, float], Sequence[float]]


def main() -> None:
    arguments = _arguments()
    rng = np.random.default_rng(arguments.seed)
    systems = {"Table V": study.chances(study.TABLE_V)}
    systems["weaker"] = study.weakened(systems["Table V"], study.WEAK)
    pairs = {
        (name, rho): study.simulated(first, 0.0, rho, study.split_counts(), arguments.rounds, rng)
        for name, first in systems.items()
        for rho in SHARED
    }
    power = {
        (fall, rho): [study.powers(systems["Table V"], fall, rho, size, arguments.rounds // 5, rng) for size in SIZES]
        for fall in (0.1, 0.2)
        for rho in (0.0, 0.4, 0.8)
    }
    folder = arguments.out.with_name("frame_study_files")
    draw_null(folder / "power_null.svg", pairs)
    draw_power(folder / "power_clips.svg", power)
    parts = [
        "## Could 28 test clips show it by chance?",
        *_answer(pairs),
        "![Share of simulated studies that show such a difference](frame_study_files/power_null.svg)",
        *_method(arguments, systems),
        *_null(arguments, systems, pairs),
        *_checks(arguments, systems["Table V"], pairs, rng),
        *_seen(arguments, systems["Table V"], power, rng),
    ]
    write(arguments.out, "\n\n".join(parts))
    print(f"wrote {arguments.out}")


# --- words


def _answer(pairs: Pairs) -> list[str]:
    def told(name: str, edge: float, kind: str) -> str:
        shares = [100 * float((getattr(pairs[name, rho], kind) >= edge).mean()) for rho in SHARED]
        return f"{max(shares):.0f} to {min(shares):.0f} %"

    low, high = study.FOUND
    return paragraphs(
        f"""The paper's second preprocessing (M2) has a macro F1 that is 18.4 % and 20.5 % lower than that of the first
        (M1), on 28 clips, and it calls that a paradox. Two systems that are **equally good** and as good as the
        paper's best one show at least the smaller of these in {told("Table V", low, "fall")} of all studies, and
        one of the two is lower by at least that, whichever, in {told("Table V", low, "either")}; by the larger in
        {told("Table V", high, "fall")} and {told("Table V", high, "either")}. The first number of each is for
        errors that have nothing to do with each other, the second for errors that correlate by .8. Systems as weak
        as the weakest of its tables: {told("weaker", low, "fall")} and {told("weaker", low, "either")} for the
        smaller.""",
        """So the paper's figures are what chance does in every fifth to tenth study, unless two networks that see
        different pictures err on nearly the same clips; and then only if no model was chosen for its score (below).
        One split of 28 clips cannot tell a preprocessing paradox from an accident. What can: every clip tested, or
        many seeds of the split with the correction that overlapping splits want (`fleeting compare`).""",
    )


def _method(arguments: argparse.Namespace, systems: Mapping[str, Array]) -> list[str]:
    counts, corpus = ", ".join(map(str, study.split_counts())), ", ".join(map(str, study.CORPUS))
    low, high = statistics.bootstrap(_as_clips(study.TABLE_V), "uf1", rounds=1000, seed=arguments.seed)
    good, weak = (study.expected(system) for system in systems.values())
    return paragraphs(
        f"""CASME II's classes ({corpus}), split 78.8 / 10.2 / 11.0 % class by class, leave {sum(study.split_counts())}
        test clips: {counts}. Both systems have one matrix of P(prediction | class). "Table V": the confusion matrix
        of PoolFormer-m36 with M1, rebuilt from the per-class F1 of Table V, macro F1 {good:.4f}; "weaker": the same
        mixed with guessing down to {weak:.4f}, the lowest of Table IV. A clip's two predictions are one shared draw
        with probability rho, else two independent ones: given the class, errors then correlate by exactly rho. Seed
        {arguments.seed}; `benchmarks/frame_study_simulation.py` has the rest.""",
        f"""The F1 of Table V leave one matrix as far as its diagonal and margins go, if the text's five errors between
        others and disgust are to be in it. The text's three errors between repression and others are in none: Table
        V allows two. A bootstrap over clips (1,000 resamples, percentile) of the rebuilt matrix gives [{low:.2f},
        {high:.2f}]; the paper prints [0.26, 0.71].""",
    )


def _as_clips(matrix: Array) -> Array:
    """(n, C, C): one confusion matrix a clip."""
    cells = np.repeat(np.arange(matrix.size), matrix.ravel())
    return np.asarray(np.eye(matrix.size, dtype=int)[cells].reshape(-1, *matrix.shape))


def _null(arguments: argparse.Namespace, systems: Mapping[str, Array], pairs: Pairs) -> list[str]:
    heads = ("matrix", "rho", "agreement", "errors correlate", *_FALLS, "sd of the difference")
    rows = []
    for (name, rho), pair in pairs.items():
        alike, errors = study.agreement(systems[name], rho)
        spread = f"{np.std(pair.first - pair.second):.3f}"
        rows.append((name, f"{rho:.1f}", f"{100 * alike:.0f} %", f"{errors:.2f}", *_shares(pair), spread))
    return [
        "### How often equally good systems differ by so much",
        table(heads, rows),
        *paragraphs(
            f"""Share of {arguments.rounds:,} simulated studies in %, in brackets the 95 % Monte Carlo interval
            (Wilson). "M2 lower by": relative to M1, as the paper counts. "Either lower by": the lower relative to
            the higher, for had M2 been the better one, that would have been the finding. Agreement: clips on which
            both say the same class. The correlation of errors is over all 28 clips, and above rho since both err
            more on the hard classes."""
        ),
    ]


_FALLS = ("M2 lower by 18.4 %", "by 20.5 %", "either lower by 18.4 %", "by 20.5 %")


def _shares(pair: study.Pair) -> list[str]:
    return [share(values >= edge) for values in (pair.fall, pair.either) for edge in study.FOUND]


def _checks(arguments: argparse.Namespace, system: Array, pairs: Pairs, rng: np.random.Generator) -> list[str]:
    rounds, rho = arguments.rounds // 2, 0.4
    open_ = study.smoothed(rho, rounds, rng)
    ways = {
        "shared draws, as above": pairs["Table V", rho],
        "correlated normal numbers": study.by_copula(system, rho, rounds, rng),
        "shared draws, matrix not known": open_,
    }
    ways |= {f"best of {study.MODELS} on M1, rho = {other}": study.best_of(system, other, rounds // 2, rng)
             for other in (0.0, rho, 0.8)}  # fmt: skip
    once, chosen = (float((ways[name].fall >= study.FOUND[0]).mean()) for name in
                    ("shared draws, as above", f"best of {study.MODELS} on M1, rho = {rho}"))  # fmt: skip
    fall = float(np.mean(ways[f"best of {study.MODELS} on M1, rho = {rho}"].fall))
    return [
        "### Other ways to be equally good",
        table(("Table V, rho = 0.4", *_FALLS), [(name, *_shares(pair)) for name, pair in ways.items()]),
        *paragraphs(
            f"""Two correlated normal numbers a clip, whose ranks say what each system answers, calibrated class by
            class to the same correlation of errors, are another mechanism with nearly the same answer. If the
            matrix is not taken for known but drawn, for both systems, from what 28 clips leave open (Dirichlet,
            counts + 1/7), such differences are more frequent: the matrices that fit are on the whole worse than the
            one that was seen (mean macro F1 {open_.first.mean():.3f}).""",
            f"""Table III prints the best of several models of each phase. Where four equally good models are tried, any
            two of the eight sharing rho of their draws, and the one with the highest M1 is compared with its own
            M2, M2 is lower by {100 * fall:.0f} % in the mean (rho .4) though nothing is worse: to be chosen by one
            of two numbers makes the other look bad. The paper has such falls in two of three phases. If phases were
            independent, two or three of three would show 18.4 % in {100 * _two_of_three(once):.0f} % of the studies
            at rho .4, and in {100 * _two_of_three(chosen):.0f} % with the best of four; they are not (the same 28
            clips), which makes both more frequent.""",
        ),
    ]


def _two_of_three(one: float) -> float:
    return 3 * one**2 * (1 - one) + one**3


def _seen(arguments: argparse.Namespace, system: Array, power: Power, rng: np.random.Generator) -> list[str]:
    heads = ("M2 truly lower by", "rho", *(f"{size:,} clips" for size in SIZES), "clips for 80 %")
    rows = []
    for (fall, rho), found in power.items():
        wanted = study.wanted_clips(system, fall, rho, arguments.rounds // 5, rng)
        rows.append((f"{100 * fall:.0f} %", f"{rho:.1f}", *(f"{100 * one:.0f} %" for one in found), f"{wanted:,}"))
    rounds = max(100, arguments.rounds // 100)
    null, seen = (study.permuted(system, fall, 0.4, rounds, rng) for fall in (0.0, 0.2))
    return [
        "### How often a true difference is seen, and how many clips it takes",
        table(heads, rows),
        "![Power by number of test clips](frame_study_files/power_clips.svg)",
        *paragraphs(
            f"""Share of studies in which a two-sided test at 5 % finds M2 worse; clips in CASME II's shares of the
            classes. The test knows the distribution of the difference under the null, so no real test of this
            difference does better: a paired permutation test over the 28 clips finds a true fall of 20 % at rho .4
            in {100 * seen:.0f} % of {rounds:,} studies (and one of 0 % in {100 * null:.0f} %). Clips count as
            independent; those of one subject are not, so more are needed. 255 is all of CASME II, every clip tested
            once, which leaving one subject out at a time does. Many seeds of a random split help less than they
            seem to: they test the same 255 clips over and over."""
        ),
    ]


def paragraphs(*texts: str) -> list[str]:
    return [
        textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False) for text in texts
    ]


def share(chosen: Array) -> str:
    """A share in % with its 95 % Monte Carlo interval (Wilson)."""
    n, p, z = chosen.size, float(chosen.mean()), 1.96
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return f"{100 * p:.1f} [{100 * (middle - reach):.1f}, {100 * (middle + reach):.1f}]"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


def write(page: Path, text: str) -> None:
    """Puts the section between its marks; the rest of a page that is there stays as it is."""
    old = page.read_text(encoding="utf-8") if page.is_file() else f"{TITLE}\n\n{BEGIN}\n{END}\n"
    head, mark, rest = old.partition(BEGIN)
    if not mark:
        head, rest = f"{old.rstrip()}\n\n", f"{END}\n"
    tail = rest.partition(END)[2]
    files.write_text(page, f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")


# --- pictures


def draw_null(path: Path, pairs: Pairs) -> None:
    """Left: how often, by rho. Right: all falls at rho .4, with the paper's two."""
    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, edge in zip(COLOURS, study.FOUND, strict=True):
        for name, line in (("Table V", "-"), ("weaker", "--")):
            seen = [100 * float((pairs[name, rho].either >= edge).mean()) for rho in SHARED]
            left.plot(SHARED, seen, line, color=colour, marker="o", ms=4, label=f"by {100 * edge:.1f} %, {name} matrix")
    left.set(xlabel="correlation of the two systems' errors, rho", ylabel="% of studies", ylim=(0, 100))
    left.set_title("Equally good: one is lower than the other", fontsize=10, color=INK)
    falls = 100 * pairs["Table V", 0.4].fall
    weights = np.full(len(falls), 100 / len(falls))
    right.hist(falls, bins=np.arange(-102.5, 103, 5), color="#b8c2cc", edgecolor="white", weights=weights)
    for colour, edge in zip(COLOURS, study.FOUND, strict=True):
        right.axvline(100 * edge, color=colour, lw=1.5, label=f"the paper: {100 * edge:.1f} %")
    right.set(xlabel="M2 lower than M1 by, %", ylabel="% of studies", xlim=(-100, 80))
    right.set_title("Equally good, Table V matrix, rho 0.4: what one finds", fontsize=10, color=INK)
    _save(figure, path)


def draw_power(path: Path, power: Power) -> None:
    """Power over the number of test clips."""
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    lines = {0.0: ":", 0.4: "--", 0.8: "-"}
    for (fall, rho), seen in power.items():
        label = f"true fall {100 * fall:.0f} %, rho {rho}"
        percent = [100 * one for one in seen]
        axes.plot(SIZES, percent, lines[rho], color=COLOURS[fall > 0.15], marker="o", ms=3, label=label)
    axes.axhline(80, color=FAINT, lw=1, zorder=0)
    for clips, name in ((28, "the paper"), (255, "all of CASME II")):
        axes.axvline(clips, color=FAINT, lw=1, zorder=0)
        axes.text(clips * 1.04, 103, name, fontsize=8, color=INK)
    axes.set(xscale="log", xlabel="test clips", ylabel="% of studies that see it", ylim=(0, 108))
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.minorticks_off()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    for axes in figure.axes:
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    with mpl.rc_context({"svg.hashsalt": "fleeting"}), files.replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100_000, help="simulated studies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results/frame_study.md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
