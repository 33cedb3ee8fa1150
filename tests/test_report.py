"""Reports of small made-up runs: what the pages say, that they are whole, and that they fetch nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleeting import files, predictions, report, runs, scoring
from fleeting.errors import UserError
from fleeting.records import Clip, Fold, FoldResult, FoldTask
from fleeting.report.blocks import number
from fleeting.report.configuration import duration
from fleeting.report.drawing import NARROW, WIDE, signed
from fleeting.report.figures import Line, Point, Selected, Splits, bar, curves, differences, measured, published
from fleeting.report.strip import Person, strip

CLASSES = ("negative", "positive", "surprise")
CORPORA = ("casme2", "samm", "smic")
VOID = {"meta", "br", "link", "img", "input", "hr"}
PAGES: dict[tuple[Path, ...], str] = {}
NASTY = "<script>alert(1)</script> & co"


# --- made-up runs


def clips_of(subjects: int, each: int, corpora: Sequence[str] = CORPORA) -> list[Clip]:
    return [
        Clip(corpus, f"s{subject:02}", f"c{clip}", Path("none"), onset=0, apex=1, offset=2)
        for corpus in corpora
        for subject in range(subjects)
        for clip in range(each)
    ]


def header_of(name: str, tasks: int, clips: Sequence[Clip], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What `experiment` writes into ``run.toml``."""
    tables: dict[str, Any] = {
        "name": name,
        "datasets": ["megc2019_flow"],
        "seeds": [0],
        "inner": 0,
        "device": "cpu",
        "threads": 1,
        "protocol": {"name": "megc2019"},
        "model": {"name": "ststnet", "dropout": 0.5},
        "recipe": {"epochs": 5, "vote": "majority"},
        **changes.get("experiment", {}),
    }
    counts = {"clips": len(clips), "subjects": len({clip.group for clip in clips}), "views": len(clips)}
    return {
        "digest": "d" * 64,
        "started": "2026-01-02T03:04:05Z",
        "classes": list(CLASSES),
        "commit": "",
        "standin": [],
        "deviations": ["The paper's head is <b>linear</b> & small."],
        "counts": {**counts, "tasks": tasks, "epochs": 5, "dropped": 0},
        "machine": {"system": "Linux", "processor": "a processor", "device": "cpu"},
        "versions": {"fleeting": "0", "python": "3.11"},
        "experiment": tables,
        "dropped": [],
        **{key: value for key, value in changes.items() if key != "experiment"},
    }


def loso(clips: Sequence[Clip]) -> list[Fold]:
    keys = [clip.key for clip in clips]
    groups = list(dict.fromkeys(clip.group for clip in clips))
    return [
        Fold(group, tuple(k for k in keys if not k.startswith(group + "/")), {"all": _under(keys, group)})
        for group in groups
    ]


def by_corpus(clips: Sequence[Clip]) -> list[Fold]:
    keys = [clip.key for clip in clips]
    return [
        Fold(corpus, tuple(k for k in keys if not k.startswith(corpus + "/")), {corpus: _under(keys, corpus)})
        for corpus in dict.fromkeys(clip.dataset for clip in clips)
    ]


def _under(keys: Sequence[str], above: str) -> tuple[str, ...]:
    return tuple(key for key in keys if key.startswith(above + "/"))


def guesses(rng: np.random.Generator, labels: Sequence[int], epochs: int, skill: float) -> np.ndarray:
    """(E, N, C) probabilities that lean towards the truth by `skill`."""
    probs = rng.dirichlet(np.ones(3), (epochs, len(labels))) + skill * np.eye(3)[list(labels)]
    return (probs / probs.sum(-1, keepdims=True)).astype(np.float32)


def result_of(task: FoldTask, labels: Mapping[str, int], epochs: int, skill: float, seed: int) -> FoldResult:
    rng = np.random.default_rng([seed, *map(ord, task.name)])
    series = {"loss": np.linspace(1.2, 0.4, epochs), "train_accuracy": np.linspace(0.4, 0.9, epochs)}
    return FoldResult(
        task=task.name,
        keys=np.array(task.test),
        views=np.array(["apex"] * len(task.test)),
        probs=guesses(rng, [labels[key] for key in task.test], epochs, skill),
        log={**(series if epochs > 1 else {}), "fitted_accuracy": np.float64(0.875)},
        seconds=1.5,
    )


def make(
    folder: Path,
    name: str,
    *,
    folds: Sequence[Fold] | Mapping[int, Sequence[Fold]] | None = None,
    clips: Sequence[Clip] | None = None,
    epochs: int = 5,
    skill: float = 0.5,
    classes: int = 3,
    broken: Sequence[int] = (),
    unfinished: Sequence[int] = (),
    **changes: Any,
) -> Path:
    """A run folder; `folds` for all seeds or for each; `broken` and `unfinished` are places in the list of tasks."""
    clips = clips_of(3, 4) if clips is None else clips
    folds = loso(clips) if folds is None else folds
    labels = {clip.key: place % classes for place, clip in enumerate(clips)}
    experiment = changes.get("experiment", {})
    seeds, inner = experiment.get("seeds", [0]), experiment.get("inner", 0)
    by_seed = folds if isinstance(folds, Mapping) else dict.fromkeys(seeds, folds)
    tasks = [task for seed in seeds for fold in by_seed[seed] for task in tasks_of(fold, seed, inner)]
    header = header_of(name, len(tasks), clips, changes)
    run = runs.begin(folder, header, clips, {k: CLASSES[v] for k, v in labels.items()}, by_seed)
    for place, task in enumerate(tasks):
        if place in broken:
            runs.fail(folder, task, f"{task.name}: loss is not finite <in epoch 3>\nTraceback")
        elif place not in unfinished:
            runs.write(folder, result_of(task, labels, epochs, skill, len(name)))
    if run.done():
        predictions.assemble(runs.Run(folder))
    return folder


def tasks_of(fold: Fold, seed: int, inner: int) -> list[FoldTask]:
    held = [fold.train[place::inner] for place in range(inner)]
    outer = FoldTask(fold.name, seed, None, {}, {}, fold.tested)
    return [outer, *(FoldTask(fold.name, seed, place, {}, {}, keys) for place, keys in enumerate(held))]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed, five epochs."""
    return make(tmp_path_factory.mktemp("runs") / "plain", "plain")


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, inner tasks, a dropped clip."""
    return make(
        tmp_path_factory.mktemp("runs") / "rich",
        "rich",
        skill=0.2,
        experiment={"seeds": [0, 4], "inner": 2},
        dropped=[{"key": "casme2/s09/c<1>", "stage": "label", "reason": "emotion 'others' has no class"}],
    )


def html_of(folders: Sequence[Path], tmp_path: Path) -> str:
    """The page; made once for the same runs, which never change."""
    if tuple(folders) not in PAGES:
        report.write(folders, tmp_path / "page.html")
        PAGES[tuple(folders)] = (tmp_path / "page.html").read_text(encoding="utf-8")
    return PAGES[tuple(folders)]


def markdown_of(folders: Sequence[Path], tmp_path: Path) -> str:
    report.write(folders, tmp_path / "page.md")
    return (tmp_path / "page.md").read_text(encoding="utf-8")


class Checker(HTMLParser):
    """Collects the text and the rows of tables, and refuses tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.rows: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.text.append(data)
        if "tr" in self.open:
            self.rows[-1] += data + " "


def parsed(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.open
    return checker


def said(page: str) -> str:
    return " ".join(" ".join(parsed(page).text).split())


# --- the page


def test_the_page_prints_the_numbers_of_scoring(rich: Path, tmp_path: Path) -> None:
    page = said(html_of([rich], tmp_path))
    for rule in ("last", "inner", "oracle"):
        scores = scoring.score_run(rich, rule)
        for name in ("uf1", "uar"):
            low, high = scores["interval"][name]
            assert f"{scores[name]:.3f} [{low:.3f}, {high:.3f}]" in page
            assert f"{scores['floor'][name][0]:.3f} ± {scores['floor'][name][1]:.3f}" in page
    scores = scoring.score_run(rich)
    for corpus in CORPORA:
        found = scores["by_dataset"][corpus]
        assert f"{found['uf1']:.3f} UAR {found['uar']:.3f}" in page
    low, high = scores["range"]["uf1"]
    assert f"{low:.3f} – {high:.3f} 2 seeds" in page
    majority = scores["majority"]
    assert f"0.875 {majority['uf1']:.3f} {majority['class']}; accuracy {majority['accuracy']:.3f}" in page
    for name, found in scores["per_class"].items():
        shown = f"{found['f1']:.3f} {found['recall']:.3f} {found['precision']:.3f}"
        assert f"{name} {found['n']} {shown}" in page


def test_the_summary_is_made_from_the_numbers(plain: Path, tmp_path: Path) -> None:
    scores = scoring.score_run(plain)
    assert "UF1, all classes" not in said(html_of([plain], tmp_path))
    low, high = scores["interval"]["uf1"]
    score = f"plain: UF1 {scores['uf1']:.3f} [{low:.3f}, {high:.3f}] over 9 subjects, 36 clips"
    sentence = f"{score}, last of 5 epochs, nothing selected."
    assert sentence in said(html_of([plain], tmp_path))


def test_the_oracle_never_stands_without_its_floor_and_is_red(plain: Path, rich: Path, tmp_path: Path) -> None:
    page = html_of([plain, rich], tmp_path)
    rows = [" ".join(row.split()) for row in parsed(page).rows]
    oracle = [row for row in rows if re.search(r"epochs? oracle ", row)]
    assert len(oracle) == 2
    for row, folder in zip(oracle, (plain, rich), strict=True):
        scores = scoring.score_run(folder, "oracle")
        assert f"{scores['uf1']:.3f}" in row
        assert f"{scores['floor']['uf1'][0]:.3f}" in row
        assert "ties: the latest" in row
    visible = re.sub(r"<style>.*?</style>|<title>.*?</title>|aria-label=\"[^\"]*\"", "", page, flags=re.S)
    shown = re.findall(r"(<[^>]*>)([^<>]*\boracle\b[^<>]*)", visible)
    assert shown
    assert all("red" in tag for tag, _ in shown)


def test_inner_is_shown_only_where_there_are_inner_tasks(plain: Path, rich: Path, tmp_path: Path) -> None:
    rows = [" ".join(row.split()) for row in parsed(html_of([plain, rich], tmp_path)).rows]
    inner = [row for row in rows if "epochs inner" in row]
    assert "no inner tasks" in inner[0]
    assert f"{scoring.score_run(rich, 'inner')['uf1']:.3f}" in inner[1]


def test_one_epoch_has_nothing_to_select(tmp_path: Path) -> None:
    folder = make(tmp_path / "svm", "svm", epochs=1)
    page = said(html_of([folder], tmp_path))
    assert "svm has one epoch: there is nothing to select." in page
    assert "svm: one epoch, no curve." in page
    assert "ties: the latest" not in page


def test_the_page_is_whole_and_fetches_nothing(plain: Path, rich: Path, tmp_path: Path) -> None:
    page = html_of([plain, rich], tmp_path)
    checker = parsed(page)
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "@import" not in page
    tags = {tag for tag, _ in checker.tags}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "use", "image"}
    for tag, attributes in checker.tags:
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "a":
            assert str(attributes["href"]).startswith("#")
    names = [attributes["id"] for _, attributes in checker.tags if "id" in attributes]
    assert len(set(names)) == len(names)
    assert {str(a["href"])[1:] for tag, a in checker.tags if tag == "a"} == set(names)
    assert len(page.encode()) < 500_000


def test_figures_have_words_and_tables_have_heads(plain: Path, tmp_path: Path) -> None:
    checker = parsed(html_of([plain], tmp_path))
    drawings = [attributes for tag, attributes in checker.tags if tag == "svg"]
    assert drawings
    assert all(a.get("aria-label") if a.get("role") == "img" else a["aria-hidden"] == "true" for a in drawings)
    heads = [attributes for tag, attributes in checker.tags if tag == "th"]
    assert all(attributes["scope"] in ("row", "col") for attributes in heads)
    tables = [tag for tag, _ in checker.tags if tag in ("table", "caption")]
    assert tables == ["table", "caption"] * (len(tables) // 2)


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = make(tmp_path / "nasty", NASTY, experiment={"model": {"name": "a|b_c`*"}})
    page = html_of([folder], tmp_path)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; co" in page
    assert "<b>linear</b>" not in page
    text = markdown_of([folder], tmp_path)
    outside = re.sub(r"```.*?```", "", text, flags=re.S)
    assert "<script" not in outside
    assert r"a\|b_c\`\*" in outside


def test_a_stand_in_is_announced_and_not_placed_among_published_numbers(tmp_path: Path) -> None:
    folder = make(tmp_path / "made-up", "demo", standin=["megc2019_flow"])
    page = said(html_of([folder], tmp_path))
    assert "made-up data: these numbers say nothing about faces" in page
    assert "demo ran on made-up data; it is not placed among them." in page
    assert "0.827" in page
    assert "this page" not in page


def random_splits(clips: Sequence[Clip], seeds: Sequence[int], share: float = 0.25) -> dict[int, list[Fold]]:
    """One fold a seed: a random share of the clips is tested, whoever is in them."""
    found = {}
    for seed in seeds:
        mixed = [clips[place].key for place in np.random.default_rng(seed).permutation(len(clips))]
        cut = round(share * len(clips))
        found[seed] = [Fold("random", tuple(mixed[cut:]), {"all": tuple(mixed[:cut])})]
    return found


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs over the same eight random splits of 72 clips of nine people; the second is the better one."""
    base, clips = tmp_path_factory.mktemp("splits"), clips_of(3, 8)
    changes: dict[str, Any] = {"experiment": {"seeds": list(range(8)), "protocol": {"name": "casme2"}}}
    folds = random_splits(clips, range(8))
    return [
        make(base / name, name, clips=clips, folds=folds, skill=skill, **changes)
        for name, skill in (("M1", 0.1), ("M2", 0.9))
    ]


def test_overlapping_subjects_are_announced_and_counted(split: list[Path], plain: Path, tmp_path: Path) -> None:
    page = html_of(split, tmp_path)
    run = runs.Run(split[0])
    met = 0
    for parts in run.folds.values():
        tested = {key for keys in parts.values() for key in keys}
        rest = {key.rpartition("/")[0] for key in run.clips if key not in tested}
        met += sum(key.rpartition("/")[0] in rest for key in tested)
    assert f"subjects overlap. In M1 {met} of {8 * 18} tested clips are of people whom the network" in said(page)
    assert 0 < met <= 8 * 18
    style = re.search(r"\.banner strong:first-child \{ color: var\(--oracle\)", page)
    assert style, "the line is red"
    assert "subjects overlap." not in said(html_of([plain], tmp_path))


def test_nobody_overlaps_by_an_option_alone(tmp_path: Path) -> None:
    options = {"name": "megc2019", "subject_overlap": True}
    page = said(html_of([make(tmp_path / "o", "o", experiment={"protocol": options})], tmp_path))
    assert "subjects overlap." not in page


def test_random_splits_show_how_a_difference_is_distributed(split: list[Path], tmp_path: Path) -> None:
    page = said(html_of(split, tmp_path))
    (found,) = scoring.compare(split)["repeated"]
    low, high = found["corrected"]["interval"]
    assert found["splits"] == 8
    assert found["mean"] < 0
    words = f"M2 M1 8 54 and 18 clips {signed(-found['mean'])} +{100 * abs(found['relative']):.1f} % of the first"
    assert words in page
    assert f"[{signed(-high)}, {signed(-low)}] {found['corrected']['p']:.4f} {found['plain']['p']:.4f}" in page
    assert f"M2 minus M1: mean {signed(-found['mean'])}" in html_of(split, tmp_path)


def test_seeds_that_test_the_same_clips_have_no_distribution_over_splits(rich: Path, tmp_path: Path) -> None:
    twin = make(tmp_path / "twin", "twin", skill=0.4, experiment={"seeds": [0, 4], "inner": 2})
    page = said(html_of([rich, twin], tmp_path))
    assert "Against the first run" in page
    assert "Over random splits" not in page


def test_splits_that_only_one_run_has_are_left_out(split: list[Path], tmp_path: Path) -> None:
    clips = clips_of(3, 8)
    changes: dict[str, Any] = {"experiment": {"seeds": list(range(8)), "protocol": {"name": "casme2"}}}
    folds = random_splits(clips, range(8))
    other = make(tmp_path / "half", "half", clips=clips, folds=folds, skill=0.5, unfinished=[2, 5], **changes)
    page = said(html_of([split[0], other], tmp_path))
    assert "half M1 6 54 and 18 clips" in page


def test_runs_that_drew_other_splits_say_so(split: list[Path], tmp_path: Path) -> None:
    """Not as when a clip without a face is taken out of one of them: here it was missing when the clips were dealt."""
    clips = clips_of(3, 8)
    changes: dict[str, Any] = {"experiment": {"seeds": list(range(8)), "protocol": {"name": "casme2"}}}
    less = make(tmp_path / "less", "less", clips=clips[:-1], folds=random_splits(clips[:-1], range(8)), **changes)
    assert scoring.compare([split[0], less])["repeated"] == []
    page = said(html_of([split[0], less], tmp_path))
    assert "less and M1 both draw their test parts, but there are fewer than two seeds in which both drew" in page
    assert "Over random splits" not in page
    assert "both draw their test parts" not in said(html_of(split, tmp_path))


def test_intervals_over_clips_stand_beside_those_over_subjects(plain: Path, tmp_path: Path) -> None:
    block, page = scoring.score_run(plain), said(html_of([plain], tmp_path))
    pairs = (block[name]["uf1"] for name in ("interval", "interval_over_clips"))
    one, two = (f"[{low:.3f}, {high:.3f}]" for low, high in pairs)
    assert f"{one} clips {two}" in page


def test_an_unfinished_run_names_what_failed_and_what_is_missing(tmp_path: Path) -> None:
    folder = make(tmp_path / "half", "half", broken=[1], unfinished=[4, 5])
    page = said(html_of([folder], tmp_path))
    assert "casme2/s01@0: casme2~s01@0: loss is not finite <in epoch 3>" in page
    assert "half: 6 of 9 tasks done" in page
    assert "Folds without a result: casme2/s01; samm/s01; samm/s02." in page
    assert "half is not finished; it is not placed among them." in page
    assert f"UF1 {scoring.score_run(folder)['uf1']:.3f}" in page


def test_unfinished_inner_tasks_are_said(tmp_path: Path) -> None:
    folder = make(tmp_path / "half", "half", unfinished=[2], experiment={"inner": 2})
    assert "its inner tasks are not all finished" in said(html_of([folder], tmp_path))


def test_an_absent_class_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "two", "two", classes=2)
    page = said(html_of([folder], tmp_path))
    scores = scoring.score_run(folder)
    assert "two: no clip of surprise among the tested ones" in page
    assert f"Over all 3 classes, an absent one counting 0, UF1 is {scores['uf1_all']:.3f}" in page
    assert scores["uf1_all"] == pytest.approx(scores["uf1"] * 2 / 3)
    assert "UF1, all classes" in page
    assert "surprise not among the tested clips 0 – – –" in page
    assert "nan" not in page.split("How it was run")[0]


def test_parts_are_never_pooled(tmp_path: Path) -> None:
    clips = clips_of(2, 6)
    folder = make(
        tmp_path / "hde", "hde", clips=clips, folds=by_corpus(clips), experiment={"protocol": {"name": "hde"}}
    )
    page = said(html_of([folder], tmp_path))
    scores = scoring.score_run(folder)
    assert "uf1" not in scores
    for part, block in scores["parts"].items():
        assert f"hde: UF1 {block['uf1']:.3f} [" in page
        assert f"hde, {part} ststnet {block['n']}" in page
    assert "there is no pooled number" in page
    assert "Among published numbers" not in page


def test_two_runs_are_compared_with_the_first(plain: Path, rich: Path, tmp_path: Path) -> None:
    page = said(html_of([plain, rich], tmp_path))
    pair = scoring.compare([plain, rich])["pairs"][0]
    assert f"rich plain {signed(-pair['difference'])} {pair['p']:.4f}" in page
    assert "Against the first run" not in said(html_of([plain], tmp_path))


def test_runs_that_cannot_be_compared_stay_on_the_page(plain: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", "other", clips=clips_of(2, 3, ("casme3",)))
    assert "other cannot be compared with plain: want clips that all runs tested" in said(
        html_of([plain, other], tmp_path)
    )


def test_runs_of_one_name_are_told_apart(plain: Path, tmp_path: Path) -> None:
    twin = make(tmp_path / "twin", "plain", skill=0.9)
    page = said(html_of([plain, twin], tmp_path))
    assert f"plain ({plain})" in page
    assert f"plain ({twin})" in page


def composite() -> list[Clip]:
    """As many clips and subjects as the composite has."""
    sizes = {"casme2": (145, 24), "samm": (133, 28), "smic": (164, 16)}
    return [
        Clip(corpus, f"s{place % subjects:02}", f"c{place}", Path("none"))
        for corpus, (count, subjects) in sizes.items()
        for place in range(count)
    ]


def test_runs_on_other_clips_are_not_placed_among_published_numbers(plain: Path, tmp_path: Path) -> None:
    page = said(html_of([plain], tmp_path))
    assert "plain tested other clips (casme2 12, samm 12, smic 12) than the composite's (casme2 145, samm" in page
    assert "this page" not in page


def test_published_numbers_are_sorted_with_ours_among_them(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", "ours", clips=composite(), epochs=2)
    page = html_of([folder], tmp_path)
    section = "<h2 " + page[page.index('id="among-published-numbers"') : page.index('<h2 id="how-it-was-run"')]
    rows = [" ".join(row.split()) for row in parsed(section).rows]
    values = [float(found.group()) for row in rows[1:] if (found := re.search(r"\d\.\d{3}", row))]
    assert values == sorted(values, reverse=True)
    ours = [row for row in rows if "this page" in row]
    assert len(ours) == 1
    assert f"last {scoring.score_run(folder)['uf1']:.3f} [" in ours[0]
    named = [row.split()[0] for row in rows]
    assert named.count("HTNet") == 1
    htnet = rows[named.index("HTNet")]
    assert "oracle-epoch 0.860" in htnet
    assert "htnet Table 2; merba Table V; bowam Table 1" in htnet
    assert any(row.startswith("dice roll, best of 800") for row in rows)
    assert "are not comparable" in said(section)


def test_the_configuration_is_there(rich: Path, tmp_path: Path) -> None:
    page = said(html_of([rich], tmp_path))
    for words in ('[model] name = "ststnet"', "casme2/s09/c<1> label emotion 'others' has no class", "d" * 64):
        assert words in page
    assert "The paper's head is <b>linear</b> & small." in page
    assert "a processor, Linux, device cpu" in page
    assert f"{duration(runs.status(runs.Run(rich))['seconds'])}, sum over 54 finished tasks" in page


# --- Markdown


def test_markdown_says_the_same_and_its_pictures_exist(plain: Path, rich: Path, tmp_path: Path) -> None:
    text = markdown_of([plain, rich], tmp_path)
    scores = scoring.score_run(rich, "oracle")
    assert f"| **oracle**<br>each fold's best epoch by {scores['select']['by']}" in text
    floor, spread = scores["floor"]["uf1"]
    assert f"| {floor:.3f}<br>± {spread:.3f} |" in text
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert len(pictures) == 6
    for picture in pictures:
        svg = (tmp_path / picture).read_text(encoding="utf-8")
        assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
        assert "<style>" in svg
        parsed(svg)
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
    assert min(widths) > 2
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_headings_of_both_kinds_agree(plain: Path, tmp_path: Path) -> None:
    page, text = html_of([plain], tmp_path), markdown_of([plain], tmp_path)
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == re.findall(r"^## (.*)$", text, flags=re.M)


# --- what is refused


def test_other_endings_and_no_runs_are_refused(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"want a report that ends with \.html or \.md, got \.pdf"):
        report.write([plain], tmp_path / "page.pdf")
    with pytest.raises(UserError, match="got no ending"):
        report.write([plain], tmp_path / "page")
    with pytest.raises(UserError, match="at least one run folder"):
        report.write([], tmp_path / "page.html")
    with pytest.raises(UserError, match=r"found no run\.toml"):
        report.write([tmp_path], tmp_path / "page.html")


def test_nothing_is_left_half_written(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report.write([plain], tmp_path / "page.html")
    before = (tmp_path / "page.html").read_text(encoding="utf-8")

    def full(path: Path, text: str) -> None:
        raise UserError("disk full")

    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(UserError, match="disk full"):
        report.write([plain], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == before
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_same_runs_give_the_same_bytes(plain: Path, tmp_path: Path) -> None:
    page = html_of([plain], tmp_path)
    report.write([plain], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


# --- figures


def coordinates(svg: str, name: str) -> list[float]:
    return [float(value) for value in re.findall(rf'\b{name}="(-?[\d.]+)"', svg)]


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_drawings_stay_inside(epochs: int) -> None:
    rows = [Selected("last", 0.0, None, None, 0.3, 0.4), Selected("oracle", 1.0, 0.9, 1.0, 0.99, 0.1)]
    lines = [Line(f"UF1, seed {seed}", [0.5] * epochs) for seed in range(3)]
    people = [Person("c", f"a long name {i}", np.diag([i, 1, 0]) + np.eye(3, k=1, dtype=int)) for i in range(150)]
    points = [Point("x", 0.9, "last")] * 40
    figures = [
        measured("m", [("a run", rows)], ""),
        curves("c", lines, [Line("loss", [0.0] * epochs, True)], 0.33, ""),
        strip("s", people, CLASSES, ""),
        published("p", points, [("ours", 0.75, None, None)], (0.33, 0.83), ""),
        differences("d", [Splits("b minus a", [0.1, -0.3, 0.0] * 9, -0.07, -0.45, 0.31)] * 3, ""),
    ]
    for figure in figures:
        for svg, width in ((figure.wide, WIDE), (figure.narrow, NARROW)):
            parsed(svg)
            height = float(re.search(r'height="(\d+)"', svg).group(1))  # type: ignore[union-attr]
            assert "nan" not in svg
            assert all(-1 <= x <= width + 1 for name in ("x", "x1", "x2", "cx") for x in coordinates(svg, name))
            assert all(-1 <= y <= height + 1 for name in ("y", "y1", "y2", "cy") for y in coordinates(svg, name))


def test_every_clip_is_a_square() -> None:
    counts = np.array([[3, 1, 0], [0, 2, 2], [1, 0, 4]])
    figure = strip("s", [Person("c", "s1", counts)], CLASSES, "")
    body = figure.wide[figure.wide.index("<g>") : figure.wide.index("</g>")]
    assert "c s1: 9 of 13 clips right" in body
    assert body.count("z") == 9 + 2 * 4  # a wrong one has a core


def test_a_bar_is_for_the_eye_only() -> None:
    assert 'aria-hidden="true"' in bar(0.5, 0.4, 0.6, 0.3)
    parsed(bar(0.5, None, None))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.26, "0.3 s"), (119.0, "119.0 s"), (125, "2 min 5 s"), (7800, "2 h 10 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers_have_three_decimals_and_their_sign() -> None:
    assert (number(0.75), number(None), number(float("nan"))) == ("0.750", "–", "–")
    assert (signed(0.09149), signed(-0.5), signed(-0.0001)) == ("+0.091", "−0.500", "+0.000")
