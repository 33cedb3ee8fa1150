"""Scores of runs against scikit-learn and against hand-made truth; selection rules on made-up traces."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from fleeting import files, predictions, runs, scoring, voting
from fleeting.errors import UserError
from fleeting.records import Clip, FlowFile, Fold, FoldResult

CLASSES = ["negative", "positive", "surprise"]


def clips(count: int, subjects: int) -> list[Clip]:
    flow = FlowFile(Path("x.png"), (0, 1), ("strain", "v", "u"))
    corpora = ("casme2", "samm")
    return [
        Clip(corpora[i % 2], f"s{i % subjects}", f"c{i:03d}", None, onset=0, apex=1, offset=1, flow_files=(flow,))
        for i in range(count)
    ]


def make_run(
    folder: Path,
    probs: dict[tuple[int, str, int | None], Any],
    listed: list[Clip],
    labels: dict[str, str],
    inner: int = 0,
    vote: str = "majority",
    views: int = 1,
) -> runs.Run:
    """A run of made-up results. `probs`: (seed, fold, inner) -> (keys, (E, N, C))."""
    seeds = sorted({seed for seed, _, _ in probs})
    groups = sorted({clip.group for clip in listed})
    folds = {
        seed: [
            Fold(g, tuple(c.key for c in listed if c.group != g), {"all": tuple(c.key for c in listed if c.group == g)})
            for g in groups
        ]
        for seed in seeds
    }
    tables = {"name": folder.name, "seeds": seeds, "inner": inner, "recipe": {"vote": vote}, "model": {"name": "none"}}
    header = {
        "digest": "d", "experiment": tables, "classes": CLASSES, "counts": {"tasks": len(probs)}, "standin": [],
    }  # fmt: skip
    run = runs.begin(folder, header, listed, labels, folds)
    for (seed, fold, number), (keys, values) in probs.items():
        name = runs.task_name(fold, seed, number)
        named = np.array([key for key in keys for _ in range(views)])
        kind = np.array([f"v{i % views}" for i in range(len(named))])
        log = {"fitted_accuracy": np.array(0.9), "loss": np.ones(len(values))}
        runs.write(folder, FoldResult(name, named, kind, np.asarray(values, np.float32), log, 1.5))
    return runs.Run(run.folder)


@pytest.fixture
def random_run(tmp_path: Path) -> runs.Run:
    """20 subjects, 120 clips, two seeds, five epochs of random probabilities."""
    rng = np.random.default_rng(0)
    listed = clips(120, 20)
    labels = {clip.key: CLASSES[rng.integers(3)] for clip in listed}
    probs = {}
    for seed in (3, 5):
        for group in sorted({clip.group for clip in listed}):
            keys = [clip.key for clip in listed if clip.group == group]
            probs[seed, group, None] = (keys, rng.dirichlet(np.ones(3), (5, len(keys))))
    return make_run(tmp_path / "random", probs, listed, labels)


def test_scores_are_pooled_and_agree_with_scikit_learn(random_run: runs.Run) -> None:
    scores = scoring.score_run(random_run.folder)
    frame = pd.read_csv(predictions.assemble(random_run))
    for seed in (3, 5):
        rows = frame[frame["seed"] == seed]
        found = scores["by_seed"][str(seed)]
        assert found["uf1"] == pytest.approx(f1_score(rows["true"], rows["pred"], average="macro"))
        assert found["uar"] == pytest.approx(recall_score(rows["true"], rows["pred"], average="macro"))
        assert found["accuracy"] == pytest.approx(accuracy_score(rows["true"], rows["pred"]))
    each = [scores["by_seed"][seed]["uf1"] for seed in ("3", "5")]
    assert scores["uf1"] == pytest.approx(np.mean(each))
    assert scores["range"]["uf1"] == pytest.approx([min(each), max(each)])
    assert scores["interval"]["uf1"][0] < scores["uf1"] < scores["interval"]["uf1"][1]
    assert np.sum(scores["confusion"]) == pytest.approx(120)
    part = frame[frame["dataset"] == "samm"]
    samm = [f1_score(r["true"], r["pred"], average="macro") for _, r in part.groupby("seed")]
    assert scores["by_dataset"]["samm"]["uf1"] == pytest.approx(np.mean(samm))


def test_what_stands_beside_a_score(random_run: runs.Run) -> None:
    last, oracle = (scoring.score_run(random_run.folder, select) for select in ("last", "oracle"))
    assert last["train_accuracy"] == pytest.approx(0.9)
    truth = [row["label"] for row in random_run.clips.values()]
    assert last["majority"]["class"] == max(sorted(set(truth)), key=truth.count)
    assert last["majority"]["accuracy"] == pytest.approx(max(truth.count(name) for name in CLASSES) / 120)
    # the run is itself a dice roll, so the floor of its own rule must be near it, under both rules
    assert oracle["floor"]["epochs"] == 5
    for scores in (last, oracle):
        mean, deviation = scores["floor"]["uf1"]
        assert abs(scores["uf1"] - mean) < 4 * deviation
    assert oracle["floor"]["uf1"][0] > last["floor"]["uf1"][0] + 0.1


def test_the_selection_rules_on_a_trace_made_by_hand(tmp_path: Path) -> None:
    listed = clips(4, 2)
    labels = {clip.key: CLASSES[0] for clip in listed}
    first, second = sorted({clip.group for clip in listed})
    right, wrong = np.eye(3)[0], np.eye(3)[1]
    # fold 1: epochs right, wrong, wrong. fold 2: wrong, right, wrong
    keys = {group: [clip.key for clip in listed if clip.group == group] for group in (first, second)}
    probs: dict[tuple[int, str, int | None], Any] = {
        (0, first, None): (keys[first], [[right, right], [wrong, wrong], [wrong, wrong]]),
        (0, second, None): (keys[second], [[wrong, wrong], [right, right], [wrong, wrong]]),
        # the inner tasks of both folds prefer epoch 1
        (0, first, 0): (keys[second], [[wrong, wrong], [right, right], [right, right]]),
        (0, second, 0): (keys[first], [[wrong, wrong], [right, right], [right, wrong]]),
    }
    run = make_run(tmp_path / "hand", probs, listed, labels, inner=1)
    assert predictions.table(run, "last")["epoch"].tolist() == [2] * 4
    assert scoring.score_run(run.folder, "last")["accuracy"] == 0
    assert scoring.score_run(run.folder, "oracle")["accuracy"] == 1
    inner = predictions.table(run, "inner").groupby("fold")["epoch"].first().to_dict()
    assert inner == {first: 1, second: 1}
    assert scoring.score_run(run.folder, "inner")["accuracy"] == 0.5
    ties = predictions.table(run, "oracle", ties="latest").groupby("fold")["epoch"].first().to_dict()
    assert ties == {first: 0, second: 1}
    with pytest.raises(UserError, match="one of"):
        predictions.table(run, "best")


def test_views_are_voted_by_clip(tmp_path: Path) -> None:
    listed = clips(2, 2)
    labels = {clip.key: "negative" for clip in listed}
    a, b, c = [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.0, 1.0, 0.0]
    probs = {(0, clip.group, None): ([clip.key], [[a, b, c]]) for clip in listed}
    majority = make_run(tmp_path / "majority", probs, listed, labels, views=3)
    mean = make_run(tmp_path / "mean", probs, listed, labels, vote="mean", views=3)
    assert scoring.score_run(majority.folder)["accuracy"] == 1
    assert scoring.score_run(mean.folder)["accuracy"] == 0
    tie = voting.vote(np.array([[[0.6, 0.4], [0.1, 0.9]]]), "majority")
    assert tie[0].argmax() == 1
    np.testing.assert_allclose(tie.sum(-1), 1)
    # as networks give them: float32 cannot hold a millionth of so small a difference beside a half
    close = voting.vote(np.array([[[0.51, 0.49], [0.489, 0.511]]], np.float32), "majority")
    assert close[0].argmax() == 1


def test_the_curve_ends_at_the_last_score(random_run: runs.Run) -> None:
    curve = predictions.curve(random_run, "all")
    scores = scoring.score_run(random_run.folder)
    for seed in (3, 5):
        assert len(curve[seed]) == 5
        assert curve[seed][-1] == pytest.approx(scores["by_seed"][str(seed)]["uf1"])


def test_compare_a_run_with_itself_and_with_a_better_one(random_run: runs.Run, tmp_path: Path) -> None:
    listed = clips(120, 20)
    truth = {key: row["label"] for key, row in random_run.clips.items()}
    better = {}
    for group in sorted({clip.group for clip in listed}):
        keys = [clip.key for clip in listed if clip.group == group]
        better[0, group, None] = (keys, [[np.eye(3)[CLASSES.index(truth[key])] for key in keys]])
    good = make_run(tmp_path / "good", better, listed, truth)
    same = scoring.compare([random_run.folder, random_run.folder])["pairs"][0]
    assert same["difference"] == 0
    assert same["p"] == 1
    pair = scoring.compare([good.folder, random_run.folder])["pairs"][0]
    assert pair["difference"] > 0.5
    assert pair["p"] < 0.001


def test_compare_uses_the_clips_in_common_and_refuses_other_labels(random_run: runs.Run, tmp_path: Path) -> None:
    listed = clips(60, 20)
    truth = {clip.key: random_run.clips[clip.key]["label"] for clip in listed}
    probs = {
        (0, group, None): ([c.key for c in listed if c.group == group], [np.tile(np.eye(3)[0], (3, 1))])
        for group in sorted({clip.group for clip in listed})
    }
    small = make_run(tmp_path / "small", probs, listed, truth)
    found = scoring.compare([random_run.folder, small.folder])
    assert (found["common"], found["left_out"]) == (60, 60)
    other = make_run(tmp_path / "other", probs, listed, dict.fromkeys(truth, "surprise"))
    with pytest.raises(UserError, match="same labels"):
        scoring.compare([random_run.folder, other.folder])
    with pytest.raises(UserError, match="at least two"):
        scoring.compare([random_run.folder])


def drawn_run(
    folder: Path, skill: float, splits: int = 8, test: int = 30, broken: frozenset[int] = frozenset()
) -> runs.Run:
    """Random splits of 120 clips, one a seed: each prediction is right with probability `skill`.

    The clips at `broken` are taken out after they are dealt.
    """
    listed = clips(120, 20)
    labels = {clip.key: CLASSES[i % 3] for i, clip in enumerate(listed)}
    rng = np.random.default_rng(round(1000 * skill))
    folds, results = {}, []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(120)
        tested, train = ([listed[i].key for i in part if i not in broken] for part in (order[:test], order[test:]))
        folds[seed] = [Fold("split", tuple(train), {"all": tuple(tested)})]
        guess = [CLASSES.index(labels[key]) if rng.random() < skill else rng.integers(3) for key in tested]
        probs = np.eye(3, dtype=np.float32)[guess][None]
        views = np.array(["v"] * len(tested))
        log = {"loss": np.ones(1)}
        results.append(FoldResult(runs.task_name("split", seed, None), np.array(tested), views, probs, log, 1.0))
    tables = {"name": folder.name, "seeds": list(range(splits)), "inner": 0, "recipe": {"vote": "mean"}}
    header = {"digest": "d", "experiment": tables | {"model": {"name": "none"}}, "classes": CLASSES,
              "counts": {"tasks": splits}, "standin": []}  # fmt: skip
    left = [clip for i, clip in enumerate(listed) if i not in broken]
    run = runs.begin(folder, header, left, labels, folds)
    for result in results:
        runs.write(folder, result)
    return runs.Run(run.folder)


def test_random_splits_are_compared_seed_by_seed(tmp_path: Path) -> None:
    good, bad = drawn_run(tmp_path / "good", 0.8), drawn_run(tmp_path / "bad", 0.2)
    found = scoring.compare([good.folder, bad.folder])
    (told,) = found["repeated"]
    assert (told["first"], told["second"], told["part"]) == ("good", "bad", "all")
    assert (told["splits"], told["train"], told["test"]) == (8, 90, 30)
    for seed, difference in told["by_seed"].items():
        one, two = (scoring.score_run(run.folder)["by_seed"][seed]["uf1"] for run in (good, bad))
        assert difference == pytest.approx(one - two)
    assert told["mean"] == pytest.approx(found["pairs"][0]["difference"])
    assert told["higher"] == 1
    assert told["corrected"]["se"] == pytest.approx(told["plain"]["se"] * np.sqrt(1 + 8 * 30 / 90))
    assert found["runs"][0]["n"] == 30


def test_splits_are_paired_although_one_run_could_not_prepare_every_clip(tmp_path: Path) -> None:
    whole, less = drawn_run(tmp_path / "whole", 0.8), drawn_run(tmp_path / "less", 0.8, broken=frozenset({3, 50}))
    found = scoring.compare([whole.folder, less.folder])
    (told,) = found["repeated"]
    assert told["splits"] == 8
    assert found["drawn"]
    lost = {clip.key for clip in clips(120, 20)} - less.clips.keys()
    sizes = [sum(key not in lost for key in fold["all"]) for fold in whole.folds.values()]
    assert told["test"] == pytest.approx(np.mean(sizes))
    assert told["train"] == pytest.approx(118 - np.mean(sizes))


def test_a_third_run_that_lacks_clips_takes_no_splits_from_the_others(tmp_path: Path) -> None:
    one, two = drawn_run(tmp_path / "one", 0.8), drawn_run(tmp_path / "two", 0.5)
    less = drawn_run(tmp_path / "less", 0.6, broken=frozenset({3, 50, 77}))
    for order in ([one, two, less], [less, one, two]):
        told = scoring.compare([run.folder for run in order])["repeated"]
        assert [pair["splits"] for pair in told] == [8, 8]


def test_seeds_of_one_split_have_no_distribution_over_splits(random_run: runs.Run) -> None:
    assert scoring.compare([random_run.folder, random_run.folder])["repeated"] == []


def test_splits_that_differ_between_the_runs_are_not_paired(tmp_path: Path) -> None:
    found = scoring.compare([drawn_run(tmp_path / "a", 0.5).folder, drawn_run(tmp_path / "b", 0.5, test=24).folder])
    assert found["repeated"] == []
    assert found["runs"][0]["n"] == 24  # clips that both tested in the same seed


def test_intervals_over_clips_stand_beside_those_over_subjects(tmp_path: Path) -> None:
    """Clips of a subject that are all right or all wrong: resampling clips says more than is known."""
    listed = clips(120, 20)
    labels = {clip.key: CLASSES[i % 3] for i, clip in enumerate(listed)}
    probs = {}
    for place, group in enumerate(sorted({clip.group for clip in listed})):
        keys = [clip.key for clip in listed if clip.group == group]
        probs[0, group, None] = (keys, [[np.eye(3)[(CLASSES.index(labels[key]) + place % 2) % 3] for key in keys]])
    scores = scoring.score_run(make_run(tmp_path / "run", probs, listed, labels).folder)
    people, alone = (np.diff(scores[name]["accuracy"])[0] for name in ("interval", "interval_over_clips"))
    assert people > 1.8 * alone
    assert alone == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 120), rel=0.1)


def test_both_macro_f1_are_named_where_a_class_is_absent(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("true,pred,subject\na,a,1\nb,c,1\nb,b,2\n", encoding="utf-8")
    scores = scoring.score_csv(path, {"true": "true", "pred": "pred", "subject": "subject"})
    assert scores["absent"] == ["c"]
    assert scores["uf1_all"] == pytest.approx(scores["uf1"] * 2 / 3)


def test_a_broken_task_file_is_named(random_run: runs.Run) -> None:
    path = next((random_run.folder / "tasks").glob("*.npz"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=path.name.replace("~", ".").split("@")[0]):
        scoring.score_run(random_run.folder)


def test_an_unfinished_run_is_scored_as_far_as_it_is(random_run: runs.Run) -> None:
    next((random_run.folder / "tasks").glob("casme2~s0@3.npz")).unlink()
    scores = scoring.score_run(random_run.folder)
    assert scores["tasks"] == {"done": 39, "failed": 0, "all": 40}
    assert scores["n"] == 120
    assert scores["by_dataset"]["casme2"]["n"] == 60


def test_a_class_that_only_one_seed_has_tested_yet_is_averaged_over_that_seed(tmp_path: Path) -> None:
    listed = clips(4, 4)
    labels = dict(zip([clip.key for clip in listed], ["negative", "positive", "surprise", "negative"], strict=True))
    right = {name: np.eye(3)[index] for index, name in enumerate(CLASSES)}
    probs = {(0, clip.group, None): ([clip.key], [[right[labels[clip.key]]]]) for clip in listed}
    probs |= {(1, clip.group, None): ([clip.key], [[right["negative"]]]) for clip in listed[:2]}
    scores = scoring.score_run(make_run(tmp_path / "run", probs, listed, labels).folder)
    assert scores["per_class"]["surprise"] == {"f1": 1.0, "recall": 1.0, "precision": 1.0, "n": 1}
    assert scores["per_class"]["positive"]["recall"] == 0.5
    assert scores["absent"] == []


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    files.write_text(tmp_path / "something.txt", "x")
    with pytest.raises(UserError, match=r"found no run\.toml"):
        scoring.score_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "uf1"),
    [
        ("true,pred,subject\n0,0.0,a\n1,1.0,b\n2,2.0,c\n", 1.0),
        ("true,pred,subject,note\n0,0,s1,n,\n1,1,s2,n,\n", 1.0),
        ('\ufefftrue, pred ,subject\r\n"a, b","a, b",x\r\nc,c,y\r\n', 1.0),
        ("true,pred,subject\n\u00b2,\u00b2,a\n--1,--1,b\n", 1.0),
    ],
)
def test_tables_as_people_write_them(text: str, uf1: float, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    columns = {"true": "true", "pred": "pred", "subject": "subject"}
    assert scoring.score_csv(tmp_path / "a.csv", columns)["uf1"] == uf1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("true,pred,subject\n0,nan,a\n", "line 2"),
        ("true,pred,subject\n0,0,a,9\n", "line 2.*more"),
        ("true,pred,subject\n0,0\n", "line 2.*'subject'"),
        ("true,pred,subject\nnegative,Negative,a\n", "written alike"),
        ("true,pred,subject\n", "at least one row"),
        ("truth,pred,subject\n1,1,a\n", "column 'true'; did you mean 'truth'"),
    ],
)
def test_tables_that_cannot_be_scored(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=words):
        scoring.score_csv(tmp_path / "a.csv", {"true": "true", "pred": "pred", "subject": "subject"})


def test_the_floor_knows_how_long_each_fold_ran(tmp_path: Path) -> None:
    """One long fold must not lift the floor of those that stopped early."""
    rng = np.random.default_rng(1)
    listed = clips(120, 20)
    labels = {clip.key: CLASSES[rng.integers(3)] for clip in listed}
    groups = sorted({clip.group for clip in listed})
    probs = {}
    for group in groups:
        keys = [clip.key for clip in listed if clip.group == group]
        probs[0, group, None] = (keys, rng.dirichlet(np.ones(3), (200 if group == groups[0] else 1, len(keys))))
    scores = scoring.score_run(make_run(tmp_path / "run", probs, listed, labels).folder, "oracle")
    assert scores["floor"]["epochs"] == 200
    assert scores["floor"]["uf1"][0] < 0.45


@pytest.mark.parametrize("text", ["", "x = 3", "not toml ["])
def test_a_foreign_run_toml_is_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="want the description of a run"):
        scoring.score_run(tmp_path)
