"""Intervals, tests and floors against brute force, known cases and the real MEGC2019 labels."""

import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from fleeting import counting, metrics, selection, statistics
from fleeting.errors import UserError


@pytest.fixture(scope="module")
def megc2019():
    """The 442 labels of MEGC2019 and the corpus + subject of each."""
    if "FLEETING_TEST_DATA" not in os.environ:
        pytest.skip("FLEETING_TEST_DATA is not set")
    path = Path(os.environ["FLEETING_TEST_DATA"]) / "megc2019" / "combined_3_class2_for_optical_flow.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array([int(row["label"]) for row in rows]), [row["dataset"] + row["sub"] for row in rows]


def answers(true, skill, rng, seeds=1, classes=3):
    """(S, G, C, C) for truth (G, clips): a clip is right with probability `skill`, else a random class."""
    groups = len(true)
    right = rng.random((seeds, *true.shape)) < skill
    pred = np.where(right, true, rng.integers(0, classes, right.shape))
    matrices = np.zeros((seeds, groups, classes, classes), dtype=np.int64)
    np.add.at(matrices, (np.arange(seeds)[:, None, None], np.arange(groups)[:, None], true, pred), 1)
    return matrices


def systems(seed, *skills, groups=20, clips=6, seeds=1):
    """One (S, G, 3, 3) a skill, all about the same clips."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 3, (groups, clips))
    return [answers(true, skill, rng, seeds) for skill in skills]


# --- bootstrap


def test_bootstrap_equals_a_plain_loop():
    (matrices,) = systems(0, 0.5, seeds=3)
    rng, scores = np.random.default_rng(7), []
    for _ in range(50):
        times = rng.multinomial(20, np.full(20, 1 / 20))
        scores.append(np.mean([metrics.uf1(np.repeat(one, times, axis=0).sum(0)) for one in matrices]))
    low, high = np.quantile(scores, [0.05, 0.95])
    assert statistics.bootstrap(matrices, "uf1", rounds=50, level=0.9, seed=7) == pytest.approx((low, high))


def test_bootstrap_covers_a_known_accuracy():
    covered = 0
    for trial in range(300):
        rng = np.random.default_rng([1, trial])
        hits = rng.binomial(5, 0.7, size=50)  # 50 subjects of 5 clips, accuracy .7
        matrices = np.stack([[[h, 5 - h], [0, 0]] for h in hits])
        low, high = statistics.bootstrap(matrices, "accuracy", rounds=400, seed=trial)
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_bootstrap_is_wider_when_clips_of_a_subject_agree():
    rng = np.random.default_rng(2)
    alone = np.stack([[[h, 5 - h], [0, 0]] for h in rng.binomial(5, 0.6, 60)])
    together = np.stack([[[h, 5 - h], [0, 0]] for h in 5 * rng.binomial(1, 0.6, 60)])
    widths = [np.diff(statistics.bootstrap(m, "accuracy"))[0] for m in (alone, together)]
    assert widths[1] > 1.8 * widths[0]


def test_bootstrap_is_reproducible_and_chunks_change_nothing(monkeypatch):
    (matrices,) = systems(3, 0.5, seeds=2)
    whole = statistics.bootstrap(matrices, "uar", rounds=300, seed=5)
    assert statistics.bootstrap(matrices, "uar", rounds=300, seed=5) == whole
    assert statistics.bootstrap(matrices, "uar", rounds=300, seed=6) != whole
    monkeypatch.setattr(statistics, "_BUDGET", 1000)
    assert statistics.bootstrap(matrices, "uar", rounds=300, seed=5) == whole


def test_intervals_are_the_bootstraps_of_all_metrics():
    (matrices,) = systems(4, 0.6, seeds=2)
    together = statistics.intervals(matrices, rounds=200, seed=3)
    assert list(together) == list(metrics.METRICS)
    for name, interval in together.items():
        assert interval == statistics.bootstrap(matrices, name, rounds=200, seed=3)
        assert interval[0] < metrics.METRICS[name](matrices.sum(1)).mean() < interval[1]


def test_one_seed_with_or_without_its_axis():
    (matrices,) = systems(5, 0.6)
    assert statistics.intervals(matrices, rounds=100) == statistics.intervals(matrices[0], rounds=100)


@pytest.mark.filterwarnings("error")
def test_subjects_that_a_seed_did_not_test_are_allowed():
    (matrices,) = systems(6, 0.6, groups=3, seeds=2)
    matrices[0, 1:] = 0  # this seed's split tested one subject only: some resamples hold none of its clips
    low, high = statistics.bootstrap(matrices, "uf1", rounds=200)
    assert 0 <= low <= high <= 1


def test_a_single_subject_has_no_interval():
    assert np.isnan(statistics.bootstrap([[[3, 1], [1, 2]]], "uf1")).all()


def test_the_interval_of_a_difference_equals_a_plain_loop():
    first, second = systems(5, 0.7, 0.5, groups=9, seeds=2)
    rng, found = np.random.default_rng(3), []
    for _ in range(400):
        times = rng.multinomial(9, np.full(9, 1 / 9), size=1)[0]
        drawn = [np.repeat(one, times, axis=1).sum(1) for one in (first, second)]
        found.append(metrics.uf1(drawn[0]).mean() - metrics.uf1(drawn[1]).mean())
    said = statistics.bootstrap_difference(first, second, rounds=400, level=0.9, seed=3)
    assert said == pytest.approx(np.quantile(found, [0.05, 0.95]))


def test_the_interval_of_a_difference_is_narrower_for_systems_that_err_together():
    first, second = systems(6, 0.6, 0.6, groups=30)
    alike, apart = first.copy(), second
    alike[:, 0] = second[:, 0]  # one subject in thirty is told otherwise
    widths = [np.diff(statistics.bootstrap_difference(first, other))[0] for other in (alike, apart)]
    assert widths[0] < widths[1] / 2
    assert statistics.bootstrap_difference(first, first) == (0, 0)
    back = statistics.bootstrap_difference(apart, first)
    assert statistics.bootstrap_difference(first, apart) == pytest.approx((-back[1], -back[0]))
    assert np.isnan(statistics.bootstrap_difference(first[:, :1], first[:, :1])).all()


# --- permutation


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_exact_permutation_equals_a_plain_loop(metric):
    first, second = systems(8, 0.7, 0.3, groups=6, seeds=2)
    score = metrics.METRICS[metric]
    wanted = score(first.sum(1)).mean() - score(second.sum(1)).mean()
    count = 0
    for exchange in itertools.product([False, True], repeat=6):
        a, b = first.copy(), second.copy()
        for g in np.flatnonzero(exchange):
            a[:, g], b[:, g] = second[:, g], first[:, g]
        count += abs(score(a.sum(1)).mean() - score(b.sum(1)).mean()) >= abs(wanted) - 1e-12
    said = statistics.permutation(first, second, metric)
    assert said == {"difference": pytest.approx(wanted), "p": count / 64, "rounds": 64, "exact": True}


def test_drawn_permutation_agrees_with_the_exact_one(monkeypatch):
    first, second = systems(9, 0.6, 0.4, groups=12)
    exact = statistics.permutation(first, second)
    monkeypatch.setattr(statistics, "EXACT_GROUPS", 0)
    drawn = statistics.permutation(first, second, rounds=20000)
    assert (exact["exact"], drawn["exact"], drawn["rounds"]) == (True, False, 20000)
    assert drawn["p"] == pytest.approx(exact["p"], abs=0.02)
    monkeypatch.setattr(statistics, "_BUDGET", 1000)
    assert statistics.permutation(first, second, rounds=20000) == drawn


def test_p_is_uniform_under_the_null():
    p = [statistics.permutation(*systems([10, t], 0.5, 0.5), rounds=300, seed=t)["p"] for t in range(300)]
    shares = [np.mean(np.array(p) <= level) for level in (0.05, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.05, 0.25, 0.5, 0.75], abs=0.08)
    assert shares[0] < 0.1


def test_p_is_small_for_an_obvious_difference_and_one_for_none():
    first, second = systems(11, 0.9, 0.2, groups=30)
    said = statistics.permutation(first, second, rounds=2000)
    assert said["p"] == 1 / 2001
    assert said["difference"] > 0.4
    back = statistics.permutation(second, first, rounds=2000)
    assert back["difference"] == -said["difference"]
    assert statistics.permutation(first, first, rounds=100) == {
        "difference": 0, "p": 1, "rounds": 100, "exact": False,
    }  # fmt: skip


def test_the_two_may_have_different_numbers_of_seeds():
    rng = np.random.default_rng(12)
    true = rng.integers(0, 3, (15, 6))
    first, second = answers(true, 0.7, rng, seeds=2), answers(true, 0.4, rng, seeds=3)
    said = statistics.permutation(first, second, rounds=500)
    wanted = metrics.uf1(first.sum(1)).mean() - metrics.uf1(second.sum(1)).mean()
    assert said["difference"] == pytest.approx(wanted)
    again = statistics.permutation(np.tile(first, (3, 1, 1, 1)), np.tile(second, (2, 1, 1, 1)), rounds=500)
    assert again == said


# --- the oracle rule


TRUE = [0, 0, 1]
TRACE = [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1]]  # hits 0, 2, 2, 1; macro F1 0, .4, .667, .25


@pytest.mark.parametrize(
    ("by", "ties", "epoch"),
    [("accuracy", "latest", 2), ("accuracy", "earliest", 1), ("uf1", "latest", 2), ("uf1", "earliest", 2)],
)
def test_rules_on_a_trace_made_by_hand(by, ties, epoch):
    assert selection.best_epoch(TRACE, TRUE, 2, by, ties) == epoch


def test_uf1_ties_and_classes_that_the_subject_does_not_have():
    # in every epoch one of two clips of class 0 is right; what the other one was called does not matter
    trace = [[0, 1], [2, 0], [0, 2]]
    assert selection.best_epoch(trace, [0, 0], 3, "uf1", "earliest") == 0
    assert selection.best_epoch(trace, [0, 0], 3, "uf1", "latest") == 2


@pytest.mark.parametrize("by", ["accuracy", "uf1"])
def test_best_epochs_equal_a_loop_over_metrics(by):
    rng = np.random.default_rng(13)
    traces, true = rng.integers(0, 3, (4, 5, 30, 7)), rng.integers(0, 3, 7)
    chosen = {ties: selection.best_epochs(traces, true, 3, by, ties) for ties in ("latest", "earliest")}
    for i, j in np.ndindex(4, 5):
        scores = [round(float(metrics.METRICS[by](counting.confusion(true, p, 3))), 12) for p in traces[i, j]]
        best = [e for e, s in enumerate(scores) if s == max(scores)]
        assert (chosen["earliest"][i, j], chosen["latest"][i, j]) == (best[0], best[-1])


# --- the floor


@pytest.mark.data
@pytest.mark.parametrize(
    ("rule", "epochs", "uf1", "uar"),
    [
        ({"select": "oracle"}, 800, 0.82, 0.813),
        ({"select": "oracle", "by": "uf1", "ties": "earliest"}, 800, 0.82, 0.813),
        ({"select": "oracle"}, 100, 0.74, 0.722),
        ({"select": "last"}, 800, 0.33, 0.33),
        ({"select": "inner"}, 800, 0.33, 0.33),
    ],
)
def test_floor_of_megc2019(megc2019, rule, epochs, uf1, uar):
    said = selection.floor(*megc2019, 3, epochs, **rule)
    assert said["uf1"][0] == pytest.approx(uf1, abs=0.02)
    assert said["uar"][0] == pytest.approx(uar, abs=0.02)
    assert 0.005 < said["uf1"][1] < 0.03
    assert set(said) == {"uf1", "uar", "epochs", "select", "by", "ties", "rounds"}


def dice(n=60, folds=12, seed=14):
    rng = np.random.default_rng(seed)
    return rng.choice(3, n, p=[0.5, 0.3, 0.2]), [f"s{i % folds}" for i in range(n)]


@pytest.mark.parametrize("by", ["accuracy", "uf1"])
def test_floor_rises_with_epochs(by):
    means = [selection.floor(*dice(), 3, epochs, "oracle", by=by)["uf1"][0] for epochs in (1, 5, 25, 125)]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.3


def test_floor_without_choice_is_the_class_frequencies():
    truth, groups = dice(600)
    said = selection.floor(truth, groups, 3, 1, "last", rounds=500)
    assert said["uar"][0] == pytest.approx(1 / 3, abs=0.005)
    assert said == selection.floor(truth, groups, 3, 1, "oracle", rounds=500) | {"select": "last"}


def test_floor_of_one_clip_a_fold_and_one_class_is_perfect():
    said = selection.floor([0, 0], ["a", "b"], 1, 1, "oracle", rounds=3)
    assert (said["uf1"], said["uar"]) == ((1, 0), (1, 0))


def test_floor_matches_a_plain_simulation():
    truth, groups = dice()
    rng, scores = np.random.default_rng(15), []
    for _ in range(150):
        kept = np.empty_like(truth)
        for name in sorted(set(groups)):
            rows = np.flatnonzero(np.array(groups) == name)
            rolls = rng.choice(truth, (20, len(rows)))
            kept[rows] = rolls[selection.best_epoch(rolls, truth[rows], 3)]
        scores.append(metrics.uf1(counting.confusion(truth, kept, 3)))
    said = selection.floor(truth, groups, 3, 20, "oracle", rounds=500)
    assert said["uf1"][0] == pytest.approx(np.mean(scores), abs=0.015)
    assert said["uf1"][1] == pytest.approx(np.std(scores), rel=0.25)


def test_floor_is_reproducible():
    first, again, other = (selection.floor(*dice(), 3, 10, "oracle", rounds=20, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_floor_chooses_for_each_part():
    truth, _ = dice(40)
    parts = ["A", "B"] * 20
    said = selection.floor(truth, ["fixed"] * 40, 3, 100, "oracle", parts=parts)
    together = selection.floor(truth, ["fixed"] * 40, 3, 100, "oracle")
    assert set(said["parts"]) == {"A", "B"}
    assert said["uf1"][0] > together["uf1"][0]
    assert "parts" not in together


def test_floor_over_chunks(monkeypatch):
    whole = selection.floor(*dice(), 3, 50, "oracle")
    monkeypatch.setattr(statistics, "_BUDGET", 1000)
    cut = selection.floor(*dice(), 3, 50, "oracle")
    assert cut["uf1"][0] == pytest.approx(whole["uf1"][0], abs=0.01)


# --- errors


EYE = np.tile(np.eye(3, dtype=int), (4, 1, 1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: statistics.bootstrap(EYE, "f1"), "metric: want one of uf1, uar"),
        (lambda: statistics.bootstrap(np.eye(3), "uf1"), r"matrices: want \(subjects, C, C\)"),
        (lambda: statistics.bootstrap(EYE[:0], "uf1"), r"matrices: want \(subjects, C, C\)"),
        (lambda: statistics.bootstrap(EYE * 0, "uf1"), "matrices: want at least one clip"),
        (lambda: statistics.bootstrap(EYE, "uf1", rounds=0), "rounds: want a whole number"),
        (lambda: statistics.intervals(EYE, level=95), "level: want a share"),
        (lambda: statistics.bootstrap_difference(EYE, EYE[:3]), "second: want 4 subjects"),
        (lambda: statistics.bootstrap_difference(EYE, EYE, level=1), "level: want a share"),
        (lambda: statistics.permutation(EYE, EYE[:3]), "second: want 4 subjects"),
        (lambda: statistics.permutation(EYE, EYE * [[[1], [2], [1]]]), "second: want the same true labels"),
        (lambda: statistics.permutation(EYE, EYE, "f1"), "metric: want one of"),
        (lambda: statistics.permutation(EYE, EYE, rounds=0), "rounds: want a whole number"),
        (lambda: selection.best_epoch(TRACE, TRUE, 2, "loss"), "by: want one of accuracy, uf1"),
        (lambda: selection.best_epoch(TRACE, TRUE, 2, ties="first"), "ties: want one of latest, earliest"),
        (lambda: selection.best_epoch([TRACE], TRUE, 2), "preds: want one trace"),
        (lambda: selection.best_epoch(TRACE, TRUE[:2], 2), r"preds: want \(..., epochs, 2\)"),
        (lambda: selection.best_epoch(TRACE, TRUE, 1), r"true: want labels in 0\.\.0"),
        (lambda: selection.best_epoch([[0, 2, 0]], TRUE, 2), r"preds: want labels in 0\.\.1"),
        (lambda: selection.floor([0, 1], ["a", "b"], 2, 5, "best"), "select: want one of last, inner"),
        (lambda: selection.floor([0, 1], ["a", "b"], 2, 0, "oracle"), "epochs: want a whole number"),
        (lambda: selection.floor([0, 1], ["a"], 2, 5, "oracle"), "groups: want 2 names"),
        (lambda: selection.floor([], [], 2, 5, "oracle"), "truth: want at least one label"),
    ],
)
def test_errors_say_want_got_do(call, words):
    with pytest.raises(UserError, match=words) as error:
        call()
    assert "got" in str(error.value)
    assert ";" in str(error.value)
