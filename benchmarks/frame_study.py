"""Tables III, IV and V of the frame study from run folders, with what one split cannot show beside them.

    python benchmarks/frame_study.py runs/frame_study --out docs/results/frame_study_small.md

The folder holds ``split/ROW`` (random splits of the clips, one a seed) and ``subjects/ROW`` (one subject left out at a
time), ROW as the files of experiments/frame_study are called without "_small". Rows that are not there are left out,
and so is a section without rows. `make results-frame-study-small` runs them all and then this.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tomli_w

from fleeting import counting, files, predictions, runs, samples, scoring, statistics
from fleeting.report.drawing import Figure, standalone
from fleeting.report.figures import Splits, differences

MODELS = {"vit": "ViT", "swin": "Swin", "m36": "PoolFormer"}
SAMPLINGS = ("af", "kfs", "mfs")
CROSSED = [(crop, size, colour) for crop in ("centre", "box") for size in (384, 224) for colour in ("rgb", "grey")]
DECISIONS = {
    "": "majority of the frames",
    "_mean": "mean probability",
    "_long": "majority, trained as the next",
    "_gru": "GRU over frames",
    "_lstm": "LSTM over frames",
}
TABLE3 = "## M1 against M2: Table III, and what many splits say"
CLASSED = (("ViT", "vit_af"), ("PoolFormer", "m36_mfs"))  # as Table V


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/frame_study_small.md"))
    given = parser.parse_args()
    root = given.root
    sections = (opening, splits, evolution, over_time, by_subject, crossed, classes, training, made)
    found = [part for section in sections for part in section(root) if part]
    if faces := _faces(root):
        given.out.with_suffix(".png").write_bytes(faces)
        name = given.out.with_suffix(".png").name
        found.insert(3, f"![Eight clips as M1 gives them to a network, and below as M2 does]({name})")
    if drawn := _drawn(root):
        files.write_text(given.out.with_suffix(".svg"), standalone(drawn.wide))
        found.insert(found.index(TABLE3) + 1, f"![{drawn.alt}]({given.out.with_suffix('.svg').name})")
    files.write_text(given.out, "\n\n".join(found) + "\n")


# each is asked for by several sections; a comparison exchanges subjects thousands of times
_compared = cache(lambda one, two: scoring.compare([one, two]))
_scored = cache(scoring.score_run)


def _told(one: Path, two: Path) -> tuple[Splits, Mapping[str, Any]] | None:
    """Two minus one over the random splits, and the rest of what is known of it."""
    found = _compared(one, two)["repeated"]
    return (Splits.of("", found[0]), found[0]) if found else None


def _own(root: Path) -> runs.Run:
    """The run that speaks for all: ViT's first, or the first that is there."""
    own = root / "split" / "vit_af_m1"
    return runs.Run(own if own.is_dir() else min((root / "split").iterdir()))


def opening(root: Path) -> Iterator[str]:
    run = _own(root)
    parts = next(iter(run.folds.values()))
    tested = sum(map(len, parts.values()))
    splits = len(run.seeds)
    words = f"""{len(run.clips)} clips of drawn faces, {len(run.classes)} classes in CASME II's numbers; {splits} random
        splits of which each tests {tested} clips, stratified as in the study; and one subject left out at a time. Tiny
        networks on pictures of 48 px for 384 and 32 for 224: what is found here is about the instrument, not about
        people. M1: middle of the frame, colours, 48 px; M2: the face's box, grey, 32 px."""
    yield "# The frame study in small"
    yield paragraph(words)
    yield paragraph(
        """**In the random splits the same people are on both sides.** Such scores say little about new people; the
        section by subject does."""
    )


def _faces(root: Path) -> bytes | None:
    """Apexes of eight clips, M1 over M2, as a PNG; None where the packed pictures are gone."""
    rows = []
    for name in ("vit_af_m1", "vit_af_m2"):
        folder = root / "split" / name
        where = runs.Run(folder).samples if folder.is_dir() else None
        if where is None or not where.is_dir():
            return None
        packed = samples.read(where)
        chosen = samples.testing(packed, sorted(map(str, packed.keys))[::32][:8])
        faces = [cv2.resize(np.moveaxis(face, 0, -1), (144, 144), interpolation=cv2.INTER_NEAREST)
                 for face in packed.x["frame"][chosen.rows]]  # fmt: skip
        rows.append(np.hstack(faces))
    done, data = cv2.imencode(".png", np.vstack(rows)[..., ::-1])
    return data.tobytes() if done else None


def splits(root: Path) -> Iterator[str]:
    """Table III: M1 against M2, as one split shows it and as all do."""
    heads = ("model, sampling", "M1, first split", "M2", "M2 is", "M1, all splits", "M2", "M2 - M1",
             "corrected 95 %", "p", "lower in", "range of M2 - M1")  # fmt: skip
    rows = []
    for name, one, two in _pairs(root / "split"):
        first, second = _compared(one, two)["runs"]
        rows.append((name, *_as_printed(first, second), *_all_splits(first, second, _told(one, two))))
    if rows:
        yield TABLE3
        yield paragraph(_verdict(root))
        yield table(heads, rows)
        yield paragraph(
            """Macro F1 over the classes that are tested. First split: what a paper with one split prints, with its
            bootstrap over its clips (1,000 resamples, percentile). All splits: means, with a bootstrap over all clips;
            the difference's interval and p are Nadeau and Bengio's, whose t-test knows that splits share their clips.
            "Lower in": share of the splits in which M2 is below M1. In the picture: a dot a split; mark and bar: the
            mean and its corrected interval."""
        )


def _verdict(root: Path) -> str:
    """In how many rows M2 is below M1, on one split and on all."""
    found = [told[0] for _, one, two in _pairs(root / "split") if (told := _told(one, two))]
    if not found:
        return ""
    first, below, above = (
        sum(one.values[0] < 0 for one in found), sum(one.high < 0 for one in found), sum(one.low > 0 for one in found)
    )  # fmt: skip
    return f"""**The study reports that M2 lowers macro F1. Here M2 is below M1 in {first} of {len(found)} rows on the
        first split; over all splits the corrected interval lies below 0 in {below} and above 0 in {above}** (of
        {len(found)} intervals of 95 %, not corrected for their number)."""


def _drawn(root: Path) -> Figure | None:
    """A dot a split: M2 - M1 of each pair of rows."""
    rows = [
        replace(told[0], label=f"{name}: M2 minus M1")
        for name, one, two in _pairs(root / "split")
        if (told := _told(one, two))
    ]
    return differences("splits", rows, "") if rows else None


def _as_printed(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, str, str]:
    seed = min(first["by_seed"], key=int)
    one, two = (scores["by_seed"][seed]["uf1"] for scores in (first, second))
    fall = f"{100 * (two - one) / one:+.1f} %" if one else "-"
    return f"{one:.4f} {_of_split(first, int(seed))}", f"{two:.4f} {_of_split(second, int(seed))}", fall


def _of_split(scores: Mapping[str, Any], seed: int) -> str:
    """The paper's interval: a bootstrap over the clips of one split."""
    run = runs.Run(Path(scores["folder"]))
    rows = predictions.table(run)
    rows = rows[rows["seed"] == seed]
    truth, guess = ([run.classes.index(word) for word in rows[name]] for name in ("true", "pred"))
    _, matrices = counting.by_group(truth, guess, list(rows["key"]), len(run.classes))
    low, high = statistics.intervals(matrices, 1000)["uf1"]
    return f"[{low:.2f}, {high:.2f}]"


def _all_splits(
    first: Mapping[str, Any], second: Mapping[str, Any], told: tuple[Splits, Mapping[str, Any]] | None
) -> Sequence[str]:
    means = (f"{first['uf1']:.4f} {clips(first)}", f"{second['uf1']:.4f} {clips(second)}")
    if told is None:
        return (*means, *["-"] * 5)
    one, rest = told
    # `higher`: the share in which the first run is
    lower, spread = f"{100 * rest['higher']:.0f} %", f"{min(one.values):+.3f} to {max(one.values):+.3f}"
    return (*means, *_numbers(told), lower, spread)


def _numbers(told: tuple[Splits, Mapping[str, Any]]) -> tuple[str, str, str]:
    """The mean difference over the splits, its corrected interval and p."""
    one, rest = told
    return f"{one.mean:+.4f}", f"[{one.low:+.3f}, {one.high:+.3f}]", f"{rest['corrected']['p']:.3f}"


def clips(scores: Mapping[str, Any]) -> str:
    low, high = scores["interval_over_clips"]["uf1"]
    return f"[{low:.2f}, {high:.2f}]"


def evolution(root: Path) -> Iterator[str]:
    """Table IV: the samplings of each model, M1; beside the means their range over the splits."""
    rows = []
    for model, name in MODELS.items():
        folders = [root / "split" / f"{model}_{sampling}_m1" for sampling in SAMPLINGS]
        if all(folder.is_dir() for folder in folders):
            scores = [_scored(folder) for folder in folders]
            cells = [f"{one['uf1']:.4f} {_range(one)}" for one in scores]
            rows.append((name, *cells))
    if rows:
        yield "## Samplings: Table IV"
        yield table(("model, M1", "AF", "KFS", "MFS"), rows)
        yield paragraph("Mean macro F1 over the splits, in brackets the least and the largest of one split.")
        yield paragraph(_frames(root))


def _range(scores: Mapping[str, Any]) -> str:
    low, high = scores["range"]["uf1"]
    return f"({low:.2f} to {high:.2f})"


def _frames(root: Path) -> str:
    counts = {}
    for sampling in SAMPLINGS:
        folder = root / "split" / f"vit_{sampling}_m1"
        if folder.is_dir():
            header = runs.Run(folder).header["counts"]
            counts[sampling.upper()] = header["views"] / header["clips"]
    listed = ", ".join(f"{name} {value:.2f}" for name, value in counts.items())
    return f"""Frames a clip: {listed}. The study prints 10.25 for MFS, whose windows name 13; fewer only where windows
        meet or leave the clip."""


def over_time(root: Path) -> Iterator[str]:
    """How the frames of a clip become one decision: the study's vote, and what it leaves to future work."""
    rows = []
    for preprocessing in ("m1", "m2"):
        base = root / "split" / f"m36_mfs_{preprocessing}"
        folders = {words: base.with_name(base.name + ending) for ending, words in DECISIONS.items()}
        there = {words: folder for words, folder in folders.items() if folder.is_dir()}
        if len(there) < 2 or not base.is_dir():
            continue
        for words, folder in there.items():
            scores = _scored(folder)
            cells = f"{scores['uf1']:.4f} {clips(scores)}", f"{scores['train_accuracy']:.3f}"
            rows.append((preprocessing.upper(), words, *cells, *_minus(base, folder)))
    if rows:
        yield "## One decision from thirteen frames: PoolFormer on MFS"
        heads = ("faces", "decision", "macro F1", "training accuracy", "minus the majority", "corrected 95 %", "p")
        yield table(heads, rows)
        yield paragraph(
            """Eight of the thirteen frames are beside the onset and the offset, where a face shows next to nothing, and
            each has a vote of the same weight as an apex. Key frames are worse off: two of three. The first rows train
            6 epochs; the recurrent ones 100 at another step, and so does "majority, trained as the next", with as many
            frames a step."""
        )


def by_subject(root: Path) -> Iterator[str]:
    """M1 against M2 with every clip tested once, by a network that has not met the person."""
    rows = []
    for name, one, two in _pairs(root / "subjects"):
        found = _compared(one, two)
        (first, second), pair = found["runs"], found["pairs"][0]
        cells = (f"{scores['uf1']:.4f} {interval(scores)} | {clips(scores)}" for scores in (first, second))
        rows.append((name, *" | ".join(cells).split(" | "), f"{0.0 - pair['difference']:+.4f}", f"{pair['p']:.3f}",
                     f"{first['n']}"))  # fmt: skip
    if rows:
        yield "## By subject: every clip tested, on nobody known"
        heads = ("model, sampling", "M1, over subjects", "over clips", "M2, over subjects", "over clips", "M2 - M1",
                 "p", "clips")  # fmt: skip
        yield table(heads, rows)
        yield paragraph("p: paired permutation test over subjects.")


def interval(scores: Mapping[str, Any]) -> str:
    low, high = scores["interval"]["uf1"]
    return f"[{low:.2f}, {high:.2f}]"


def crossed(root: Path) -> Iterator[str]:
    """Crop, size and colour told apart."""
    folders = {place: root / "split" / _crossed(*place) for place in CROSSED}
    there = {place: folder for place, folder in folders.items() if folder.is_dir()}
    if len(there) < len(CROSSED):
        return
    base = there["centre", 384, "rgb"]
    rows = []
    for (crop, size, colour), folder in there.items():
        scores = _scored(folder)
        name = {"vit_af_m1": " (M1)", "vit_af_m2": " (M2)"}.get(folder.name, "")
        rows.append((f"{crop}{name}", str(size), colour, f"{scores['uf1']:.4f}", *_minus(base, folder)))
    yield "## Crop, size and colour crossed: ViT on apex frames"
    yield table(("crop", "size of the study", "colour", "macro F1", "minus M1", "corrected 95 %", "p"), rows)
    yield paragraph(
        "Means over the random splits. The study changes all three at once, so that it cannot say which matters."
    )


def _minus(base: Path, folder: Path) -> tuple[str, str, str]:
    """`_numbers` of a run minus the base; dashes for the base itself."""
    told = _told(base, folder) if folder != base else None
    return _numbers(told) if told else ("-", "-", "-")


def _crossed(crop: str, size: int, colour: str) -> str:
    ends = {("centre", 384, "rgb"): "m1", ("box", 224, "grey"): "m2"}
    return f"vit_af_{ends.get((crop, size, colour), f'{crop}_{size}_{colour}')}"


def classes(root: Path) -> Iterator[str]:
    """Table V: F1 of each class, means over the splits that test it."""
    names, columns = [], []
    for model, row in CLASSED:
        for preprocessing in ("m1", "m2"):
            folder = root / "split" / f"{row}_{preprocessing}"
            if folder.is_dir():
                names.append(f"{model} {preprocessing.upper()}")
                columns.append(_scored(folder)["per_class"])
    if columns:
        yield "## Classes: Table V"
        rows = [
            (
                word,
                *("-" if one[word]["f1"] is None else f"{one[word]['f1']:.3f}" for one in columns),
                f"{columns[0][word]['n']:g}",
            )
            for word in columns[0]
        ]
        yield table(("class", *names, "clips a split"), rows)
        yield paragraph("ViT on apex frames, PoolFormer on MFS; means over the splits.")


def training(root: Path) -> Iterator[str]:
    """Whether the networks learned what they were shown."""
    rows = []
    for kind in ("split", "subjects"):
        for folder in sorted((root / kind).iterdir()) if (root / kind).is_dir() else ():
            scores = _scored(folder)
            done = scores["tasks"]
            floor, majority = scores["floor"]["uf1"][0], scores["majority"]["uf1"]
            numbers = scores["train_accuracy"], scores["accuracy"], scores["uf1_all"], floor, majority
            rows.append((folder.name, kind, f"{done['done']} of {done['all']}", *(f"{one:.3f}" for one in numbers)))
    yield "## Every run"
    heads = (
        "run",
        "split",
        "trainings",
        "training accuracy",
        "accuracy",
        "macro F1, all 7",
        "dice roll",
        "always others",
    )
    yield table(heads, rows)


def made(root: Path) -> Iterator[str]:
    run = _own(root)
    yield "## How it was made"
    yield paragraph(
        f"""`make results-frame-study-small`; the rows are the files `experiments/frame_study/*_small.toml`. {run.name}:
        begun {run.header["started"]}, commit {run.header.get("commit") or "unknown"}; with everything filled in:"""
    )
    yield f"```toml\n{tomli_w.dumps(run.header['experiment'])}```"


def _pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    for model, name in MODELS.items():
        for sampling in SAMPLINGS:
            one, two = (folder / f"{model}_{sampling}_{preprocessing}" for preprocessing in ("m1", "m2"))
            if one.is_dir() and two.is_dir():
                yield f"{name}, {sampling.upper()}", one, two


def paragraph(words: str) -> str:
    return textwrap.fill(" ".join(words.split()), 120, break_long_words=False, break_on_hyphens=False)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


if __name__ == "__main__":
    main()
