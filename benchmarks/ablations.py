"""The papers' ablation tables in small, beside what the papers print: `python benchmarks/ablations.py bowam ...`.

Each row of a table changes one thing about the paper's own system. What a small run on drawn faces can say is not how
high a row scores on another corpus, but whether it comes out above or below the paper's own row, and whether the clips
suffice to tell. So every row is compared with the paper's own: the difference in UF1 with its 95 % bootstrap interval
over subjects and the p of a paired permutation test, next to the difference of the printed numbers.

    python benchmarks/ablations.py bowam still=runs/bowam/still drifting=runs/bowam/drifting --out docs/results/bowam.md

reads the run folders ``runs/bowam/still/table4`` and so on, one for each row, and writes the page and its picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from matplotlib import rc_context
from matplotlib.axes import Axes

from fleeting import files, page, published, runs, scoring
from fleeting.errors import UserError


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: in words.
        run: name of its run folder.
        table, printed: where the paper has it, and the beginning of its `setting` or its whole `method` there; "": the
            paper does not print it.
    """

    label: str
    run: str
    table: str = ""
    printed: str = ""


@dataclass(frozen=True)
class Study:
    """The tables of a paper.

    Attributes:
        own: run of the paper's own row, which every other is compared with.
        part: of the corpus that the printed numbers are about.
        tables: title -> rows.
        words: what the page says first.
    """

    own: str
    part: str
    tables: Mapping[str, Sequence[Row]]
    words: str


STUDIES = {
    "bowam": Study(
        "table4",
        "all",
        {
            "Table 4: what the system is made of": (
                Row("A: conventional flow, plain ConvNeXt", "table4_a", "Table 4", "row=A"),
                Row("B: bidirectional flow, plain ConvNeXt", "table4_b", "Table 4", "row=B"),
                Row("C: B with wavelets", "table4_c", "Table 4", "row=C"),
                Row("D: C with channel attention", "table4_d", "Table 4", "row=D"),
                Row("E: C with spatial attention", "table4_e", "Table 4", "row=E"),
                Row("F: BOWAM", "table4", "Table 4", "row=F"),
            ),
            "Table 5: fusion of both flows": (
                Row("product", "table5_product", "Table 5", "fusion=multiply"),
                Row("concatenation", "table5_concatenation", "Table 5", "fusion=concat"),
            ),
            "Table 6: MLP of the three high bands": (Row("separate", "table6_separate", "Table 6", "mlp=separate"),),
            "Table 7: wavelet": (
                Row("db4", "table7_db4", "Table 7", "wavelet=db4"),
                Row("sym5", "table7_sym5", "Table 7", "wavelet=sym5"),
                Row("biorthogonal", "table7_bior", "Table 7", "wavelet=biorthogonal"),
                Row("coif5", "table7_coif5", "Table 7", "wavelet=coif5"),
            ),
            "Table 8: ratio of the channel attention": (
                Row("4", "table8_4", "Table 8", "ratio=4"),
                Row("8", "table8_8", "Table 8", "ratio=8"),
                Row("32", "table8_32", "Table 8", "ratio=32"),
            ),
            "Table 9: kernel of the spatial attention": (
                Row("5", "table9_5", "Table 9", "kernel=5"),
                Row("7", "table9_7", "Table 9", "kernel=7"),
            ),
            "Table 10: stages": (
                Row("three", "table10_3", "Table 10", "stages=3"),
                Row("five", "table10_5", "Table 10", "stages=5"),
            ),
            "Table 11: other flow features and frequency modules": (
                Row("Bi-WOOF, this network", "table11_biwoof", "Table 11(a)", "Bi-WOOF"),
                Row("MDMO, this network", "table11_mdmo", "Table 11(a)", "MDMO"),
                Row("Bi-WOOF, as published: support vector machine", "table11_biwoof_svm"),
                Row("MDMO, as published: support vector machine", "table11_mdmo_svm"),
                Row("Fourier transform", "table11_fourier", "Table 11(b)", "Fourier transform"),
                Row("Freq-HD's module", "table11_freqhd", "Table 11(b)", "Freq-HD"),
            ),
        },
        "BOWAM's Tables 4 to 11 on two drawn corpora: in one the head is still, in the other it drifts by 2 px in the "
        "course of a clip, which is what the bidirectional flow is to withstand. The paper's numbers are of MEGC2019.",
    ),
    "merba": Study(
        "table4",
        "B",
        {
            "Table IV: compared networks": (
                Row("HTNet", "table4_htnet", "Table IV", "HTNet"),
                Row("MambaVision", "table4_mambavision", "Table IV", "MambaVision-B"),
                Row("MERba-base: one head", "table4_base", "Table IV", "MERba-base (ours)"),
                Row("MERba", "table4", "Table IV", "MERba-DGCM (ours)"),
                Row("flow and a support vector machine", "table4_svm"),
            ),
            "Table VI: local or global": (
                Row(
                    "local extractors, local attention",
                    "table6_local_local",
                    "Table VI",
                    "extractor=local; attention=local",
                ),
                Row("global, global", "table6_global_global", "Table VI", "extractor=global; attention=global"),
            ),
            "Table VII: directions of the scans": (
                Row("a", "table7_a", "Table VII", "directions=a"),
                Row("a, b", "table7_ab", "Table VII", "directions=a+b"),
                Row("c, d", "table7_cd", "Table VII", "directions=c+d"),
                Row("a, b, both ways", "table7_bi", "Table VII", "directions=a+a_bi+b+b_bi"),
                Row("a, b and their mirrored", "table7_sy", "Table VII", "directions=a+a_sy+b+b_sy"),
            ),
        },
        "MERba's Tables IV, VI and VII on drawn faces, six emotions that share action units. The paper's numbers are "
        "of DFME's test part B, seven classes. MERba has 32,000 parameters here, MambaVision 38,000, HTNet 7.2 "
        "million. Each run by itself: [six classes](merba_six.md), [three classes](merba_three.md), Table V's.\n\n"
        "MERba stays behind the support vector machine and HTNet. What these runs show of the reason: in the time "
        "they had, all MERbas fit three quarters of their 120 training clips of six classes, where the machine and "
        "HTNet fit more than nine tenths. In three classes MERba fits .95 and is behind nevertheless, so time alone "
        "does not explain it: it has to learn from so few clips what the machine is given, where on the face motion "
        "is.",
    ),
    "ammsm": Study(
        "table3",
        "all",
        {
            "Table III: what the system is made of": (
                Row("Transformer", "table3_transformer", "Table III", "amm=no; sa=no; backbone=transformer"),
                Row(
                    "Transformer, magnifier",
                    "table3_transformer_amm",
                    "Table III",
                    "amm=yes; sa=no; backbone=transformer",
                ),
                Row(
                    "Transformer, sparse", "table3_transformer_sa", "Table III", "amm=no; sa=yes; backbone=transformer"
                ),
                Row(
                    "Transformer, both",
                    "table3_transformer_amm_sa",
                    "Table III",
                    "amm=yes; sa=yes; backbone=transformer",
                ),
                Row("Mamba", "table3_mamba", "Table III", "amm=no; sa=no; backbone=mamba"),
                Row("Mamba, magnifier", "table3_mamba_amm", "Table III", "amm=yes; sa=no; backbone=mamba"),
                Row("Mamba, sparse", "table3_mamba_sa", "Table III", "amm=no; sa=yes; backbone=mamba"),
                Row("AMMSM: Mamba, both", "table3", "Table III", "amm=yes; sa=yes; backbone=mamba"),
                Row("AMMSM, plain scaling for the magnifier", "table3_scale"),
                Row("AMMSM, equation 1 nine times as heavy", "table3_weight"),
            ),
        },
        "AMMSM's Table III on drawn faces. The paper's numbers are of CASME II, five classes. Flow is 28 px wide "
        "here and 256 there, and equation 1, which counts pixels, weighs a ninth of what it does there: the last row "
        "makes up for it. The same epochs fit rows with a learned magnifier less than the others (trained): a "
        "difference is of the part and of what it costs to train it.",
    ),
}


@dataclass(frozen=True)
class Found:
    """A row on a corpus.

    Attributes:
        uf1, interval, trained: its score, with interval, and its training accuracy.
        difference, between, p: to the paper's own row; None for that row.
    """

    uf1: float
    interval: tuple[float, float]
    trained: float | None
    difference: float | None = None
    between: tuple[float, float] = (0.0, 0.0)
    p: float = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("paper", choices=STUDIES)
    parser.add_argument("corpora", nargs="+", metavar="NAME=FOLDER", help="a corpus and the folder of its runs")
    parser.add_argument("--out", type=Path, required=True, help="the page (.md)")
    arguments = parser.parse_args()
    study = STUDIES[arguments.paper]
    folders = {name: Path(folder) for name, _, folder in (each.partition("=") for each in arguments.corpora)}
    found = {name: measured(study, folder) for name, folder in folders.items()}
    picture = arguments.out.with_suffix(".svg")
    draw(study, arguments.paper, found, picture)
    files.write_text(arguments.out, text(study, arguments.paper, folders, found, picture.name))
    print(f"{arguments.out} and {picture}: {sum(map(len, found.values()))} runs")


def rows(study: Study) -> list[Row]:
    """All rows, in order."""
    return [row for part in study.tables.values() for row in part]


def printed(paper: str, study: Study, row: Row) -> float | None:
    """UF1 that the paper prints for a row, 0 to 1."""
    for one in published.rows(paper, metric="uf1"):
        where = one.table == row.table and one.part == study.part
        if row.table and where and (one.setting == row.printed or one.method == row.printed
                                    or one.setting.startswith(row.printed + ";")):  # fmt: skip
            return one.value / 100 if one.unit == "%" else one.value
    if row.table:
        raise UserError(f"want a printed UF1 of {row.table}, {row.printed}, got none; correct STUDIES[{paper!r}]")
    return None


def measured(study: Study, folder: Path) -> dict[str, Found]:
    """Every row's run of a corpus.

    Raises:
        UserError: a run is missing or not finished.
    """
    own = next(row for row in rows(study) if row.run == study.own)
    found = {}
    for row in rows(study):
        scores = scoring.score_run(folder / row.run)
        if scores["tasks"]["done"] < scores["tasks"]["all"]:
            raise UserError(
                f"{folder / row.run}: want a finished run, got {scores['tasks']}; finish it with fleeting run"
            )
        told: dict[str, Any] = {}
        if row is not own:
            (pair,) = scoring.paired([folder / row.run, folder / own.run])["pairs"]
            told = {"difference": pair["difference"], "between": tuple(pair["interval"]), "p": pair["p"]}
        found[row.run] = Found(scores["uf1"], tuple(scores["interval"]["uf1"]), scores["train_accuracy"], **told)
    return found


# --- the picture

_COLOURS = ("#1f5f8b", "#c2701c", "#2f7d4f")
_LINE = 0.21  # inches


def draw(study: Study, paper: str, found: Mapping[str, Mapping[str, Found]], path: Path) -> None:
    """Differences to the paper's own row: dots with intervals, the paper's as diamonds."""
    shown = [(title, [row for row in part if row.run != study.own]) for title, part in study.tables.items()]
    height = 1.35 + sum(0.3 + _LINE * max(1, len(found)) * len(part) + 0.08 * len(part) for _, part in shown)
    with rc_context(page.STYLE):
        figure = page.sheet("Difference in UF1 to the paper's own row", height)
        names = [*found, "paper"]
        page.say(figure, 0.45, "Dot and bar: drawn faces, 95 % over subjects. Diamond: the paper's printed difference.")
        top, left, width = 0.8, 4.2, 6.3
        axes = page.place(figure, left, top, width, height - top - 0.5)
        lines = _lines(axes, study, paper, shown, found)
        axes.axvline(0, color=page.INK, linewidth=0.8)
        axes.set(ylim=(lines, 0), yticks=[], xlabel="UF1, minus that of the paper's own row")
        axes.grid(axis="x", color=page.RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["left", "right", "top"]].set_visible(False)
        for number, name in enumerate(names):
            mark = {"marker": "D", "mfc": "none", "color": page.MUTED} if name == "paper" else {
                "marker": "o", "color": _COLOURS[number % len(_COLOURS)]
            }  # fmt: skip
            axes.plot([], [], linestyle="none", label=name, **mark)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(names), frameon=False)
        with files.replacing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _lines(
    axes: Axes,
    study: Study,
    paper: str,
    shown: Sequence[tuple[str, Sequence[Row]]],
    found: Mapping[str, Mapping[str, Found]],
) -> float:
    """Draws the rows from the top; the height of all, inches."""
    own = next(row for row in rows(study) if row.run == study.own)
    base, y = printed(paper, study, own) or 0.0, 0.0
    for title, part in shown:
        y += 0.3
        axes.text(-0.62, y - 0.07, title, transform=axes.get_yaxis_transform(), weight="bold", fontsize=8.5)
        for row in part:
            y += 0.08
            middle = y + _LINE * len(found) / 2
            axes.text(-0.6, middle, row.label, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
            there = printed(paper, study, row)
            if there is not None:
                axes.plot(there - base, middle, "D", mfc="none", color=page.MUTED)
            for number, of_corpus in enumerate(found.values()):
                one, place = of_corpus[row.run], y + _LINE * (number + 0.5)
                colour = _COLOURS[number % len(_COLOURS)]
                axes.plot(one.between, (place, place), color=colour, linewidth=1.6, solid_capstyle="butt")
                axes.plot(one.difference, place, "o", color=colour, markersize=4.5)
            y += _LINE * len(found)
    return y + 0.1


# --- the page


def text(
    study: Study, paper: str, folders: Mapping[str, Path], found: Mapping[str, Mapping[str, Found]], picture: str
) -> str:
    """The page."""
    about = published.PAPERS[paper]
    said = [
        f"# The ablation tables of *{about.title}*, in small",
        study.words,
        "A row differs from the paper's own in what its table says; networks of others keep their own input and "
        "recipe. Each run is compared with the run of the paper's own row. On other faces and at a thousandth of the "
        "size the level of a score says nothing; which of two is higher may.",
        f"![Difference in UF1 of each row to the paper's own row, beside the printed one]({picture})",
        _verdict(study, paper, found),
    ]
    for title, part in study.tables.items():
        said += [f"## {title}", _table(study, paper, part, found)]
    said += ["## How it was made", *_made(study, paper, folders)]
    return "\n\n".join(said) + "\n"


def _verdict(study: Study, paper: str, found: Mapping[str, Mapping[str, Found]]) -> str:
    """How many of the paper's differences have its sign, and how many the clips can tell at all."""
    own = next(row for row in rows(study) if row.run == study.own)
    base, lines = printed(paper, study, own) or 0.0, []
    for name, of_corpus in found.items():
        pairs = [
            (there - base, of_corpus[row.run])
            for row in rows(study)
            if row is not own and (there := printed(paper, study, row)) is not None
        ]
        alike = sum(wanted * (one.difference or 0) > 0 for wanted, one in pairs)
        told = holm([one.p for _, one in pairs])
        sure = [(wanted, one) for (wanted, one), clear in zip(pairs, told, strict=True) if clear]
        against = sum(wanted * (one.difference or 0) < 0 for wanted, one in sure)
        lines.append(
            f"* **{name}: {alike} of {len(pairs)} rows lie on the side of the paper's own row where the paper has "
            f"them.** Chance can be ruled out (Holm's correction over the {len(pairs)} tests, p < .05) for "
            f"{len(sure)} of them" + (f"; {against} of these on the other side than in the paper." if sure else ".")
        )
    lines.append(
        "* All rows of a corpus are compared with one and the same run of the paper's own row: if that run was lucky, "
        "all of them lie below it together. The first count is no test."
    )
    return "\n".join(lines)


def holm(p: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several tests hold at a common level (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    clear = [False] * len(p)
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[place] > level / (len(p) - rank):
            break
        clear[place] = True
    return clear


def _table(study: Study, paper: str, part: Sequence[Row], found: Mapping[str, Mapping[str, Found]]) -> str:
    own = next(row for row in rows(study) if row.run == study.own)
    listed = [*part, *([own] if own not in part else [])]
    head = ["row", "paper"] + [f"{name}: {word}" for name in found for word in ("UF1", "difference", "p", "trained")]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for row in listed:
        there = printed(paper, study, row)
        cells = [f"**{row.label}**" if row is own else row.label, "–" if there is None else f"{there:.4f}"]
        for of_corpus in found.values():
            one = of_corpus[row.run]
            cells.append(f"{one.uf1:.3f} [{one.interval[0]:.3f}, {one.interval[1]:.3f}]")
            if one.difference is None:
                cells += ["", ""]
            else:
                cells += [
                    f"{one.difference:+.3f} [{one.between[0]:+.3f}, {one.between[1]:+.3f}]",
                    "< .001" if one.p < 0.0005 else f"{one.p:.3f}",
                ]
            cells.append("–" if one.trained is None else f"{one.trained:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _made(study: Study, paper: str, folders: Mapping[str, Path]) -> list[str]:
    """What the numbers are, the runs, and the configuration of the paper's own row."""
    said = [
        "UF1: pooled over all left-out groups, mean over seeds, the networks as training left them, nothing selected; "
        "brackets: 95 % bootstrap over subjects. p: paired permutation test over subjects. Trained: accuracy on the "
        f"training part. The rows are the files `experiments/{paper}/*_small.toml`."
    ]
    opened = {name: runs.Run(folder / study.own) for name, folder in folders.items()}
    said.append(
        "\n".join(
            f"* {name}: {len(run.clips)} clips of {len({clip['subject'] for clip in run.clips.values()})} subjects; "
            f"begun {run.header['started']}, commit {run.header.get('commit') or 'unknown'}"
            for name, run in opened.items()
        )
    )
    resolved = tomli_w.dumps(next(iter(opened.values())).header["experiment"])
    return [*said, "The paper's own row, with everything filled in:", f"```toml\n{resolved}```"]


if __name__ == "__main__":
    main()
