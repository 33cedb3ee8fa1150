"""Metrics against scikit-learn, against published predictions, and against hand-made tables."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from fleeting import counting, metrics
from fleeting.errors import UserError


@pytest.fixture
def ststnet():
    """STSTNet's published predictions, column by column."""
    if "FLEETING_TEST_DATA" not in os.environ:
        pytest.skip("FLEETING_TEST_DATA is not set")
    path = Path(os.environ["FLEETING_TEST_DATA"]) / "megc2019_published" / "ststnet_per_clip.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    numbers = ("label", "ststnet_matlab_log", "ststnet_pytorch_weights")
    return table | {name: table[name].astype(int) for name in numbers}


def table(seed, n=60, classes=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, n), rng.integers(0, classes, n)


# --- published predictions


@pytest.mark.data
@pytest.mark.parametrize(
    ("column", "uf1", "uar"),
    [("ststnet_matlab_log", 0.7353, 0.7186), ("ststnet_pytorch_weights", 0.7209, 0.7250)],
)
def test_ststnet_has_its_published_scores(ststnet, column, uf1, uar):
    matrix = counting.confusion(ststnet["label"], ststnet[column], 3)
    assert matrix.sum() == 442
    assert metrics.uf1(matrix) == pytest.approx(uf1, abs=5e-5)
    assert metrics.uar(matrix) == pytest.approx(uar, abs=5e-5)


@pytest.mark.data
def test_ststnet_published_uar_is_macro_precision(ststnet):
    matrix = counting.confusion(ststnet["label"], ststnet["ststnet_matlab_log"], 3)
    assert metrics.macro_precision(matrix) == pytest.approx(0.7605, abs=5e-5)
    names, corpora = counting.by_group(ststnet["label"], ststnet["ststnet_matlab_log"], ststnet["dataset"], 3)
    assert names == ["casme2", "samm", "smic"]
    assert metrics.uar(corpora) == pytest.approx([0.8190, 0.6415, 0.6703], abs=5e-5)
    assert metrics.macro_precision(corpora) == pytest.approx([0.8686, 0.6810, 0.7013], abs=5e-5)


@pytest.mark.data
def test_subject_matrices_sum_to_the_pooled_one(ststnet):
    subjects = np.char.add(np.char.add(ststnet["dataset"], "/"), ststnet["subject"])
    names, matrices = counting.by_group(ststnet["label"], ststnet["ststnet_matlab_log"], subjects, 3)
    assert len(names) == 68
    assert (matrices.sum(0) == counting.confusion(ststnet["label"], ststnet["ststnet_matlab_log"], 3)).all()


# --- scikit-learn


@pytest.mark.parametrize("seed", range(8))
def test_scores_equal_scikit_learn(seed):
    true, pred = table(seed)
    matrix, macro = counting.confusion(true, pred, 4), {"average": "macro", "zero_division": 0}
    assert metrics.uf1(matrix) == pytest.approx(f1_score(true, pred, **macro))
    assert metrics.uar(matrix) == pytest.approx(recall_score(true, pred, **macro))
    assert metrics.macro_precision(matrix) == pytest.approx(precision_score(true, pred, **macro))
    assert metrics.accuracy(matrix) == pytest.approx((true == pred).mean())
    assert metrics.per_class(matrix)["f1"] == pytest.approx(f1_score(true, pred, average=None))


@pytest.mark.parametrize("seed", range(8))
def test_scores_equal_scikit_learn_on_the_classes_in_the_truth(seed):
    true, pred = table(seed, n=12, classes=6)
    matrix = counting.confusion(true, pred, 6)
    macro = {"labels": np.unique(true), "average": "macro", "zero_division": 0}
    assert metrics.uf1(matrix) == pytest.approx(f1_score(true, pred, **macro))
    assert metrics.uar(matrix) == pytest.approx(recall_score(true, pred, **macro))
    assert metrics.macro_precision(matrix) == pytest.approx(precision_score(true, pred, **macro))


# --- counting


def test_rows_are_truth_and_columns_predictions():
    matrix = counting.confusion([0, 0, 1], [2, 2, 1], 3)
    assert matrix.tolist() == [[0, 0, 2], [0, 1, 0], [0, 0, 0]]
    assert matrix.dtype == np.int64


def test_small_unsigned_labels_do_not_overflow():
    labels = np.array([19, 3], dtype=np.uint8)
    assert counting.confusion(labels, labels, 20)[19, 19] == 1


def test_weights_repeat_clips():
    true, pred = table(1)
    times = np.random.default_rng(2).integers(0, 4, len(true))
    repeated = counting.confusion(np.repeat(true, times), np.repeat(pred, times), 4)
    assert (counting.confusion(true, pred, 4, times) == repeated).all()
    mask = times > 0
    assert (counting.confusion(true, pred, 4, mask) == counting.confusion(true[mask], pred[mask], 4)).all()


def test_order_of_rows_changes_nothing():
    true, pred = table(3)
    groups = np.array([f"s{i % 7}" for i in range(len(true))])
    order = np.random.default_rng(4).permutation(len(true))
    names, matrices = counting.by_group(true, pred, groups, 4)
    shuffled_names, shuffled = counting.by_group(true[order], pred[order], list(groups[order]), 4)
    assert names == shuffled_names == sorted(set(groups))
    assert (matrices == shuffled).all()
    for name, one in zip(names, matrices, strict=True):
        assert (one == counting.confusion(true[groups == name], pred[groups == name], 4)).all()


def test_integer_subjects_are_sorted_as_text():
    names, _ = counting.by_group([0, 0, 0], [0, 0, 0], [10, 9, 10], 2)
    assert names == ["10", "9"]


def test_a_batch_equals_its_matrices_one_by_one():
    rng = np.random.default_rng(5)
    batch = rng.integers(0, 3, (2, 4, 3, 3))
    for metric in metrics.METRICS.values():
        assert metric(batch).shape == (2, 4)
        one_by_one = [[metric(m) for m in row] for row in batch]
        np.testing.assert_array_equal(metric(batch), one_by_one)
    assert metrics.per_class(batch)["n"].shape == (2, 4, 3)


def test_inputs_are_not_modified():
    matrix = counting.confusion(*table(6), 4)
    before = matrix.copy()
    for metric in metrics.METRICS.values():
        metric(matrix)
    metrics.summary(matrix, list("abcd"))
    assert (matrix == before).all()


# --- absent classes, nothing at all


@pytest.mark.filterwarnings("error")
def test_a_class_absent_from_the_truth_is_skipped_and_named():
    matrix = counting.confusion([0, 0, 1, 1], [0, 2, 1, 1], 3)
    assert metrics.absent(matrix).tolist() == [2]
    assert metrics.uf1(matrix) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.uar(matrix) == pytest.approx((1 / 2 + 1) / 2)
    assert metrics.macro_precision(matrix) == 1
    values = metrics.per_class(matrix)
    assert np.isnan([values[key][2] for key in ("f1", "recall", "precision")]).all()
    assert values["n"].tolist() == [2, 2, 0]


@pytest.mark.filterwarnings("error")
def test_a_class_never_predicted_has_precision_zero():
    matrix = counting.confusion([0, 1], [0, 0], 2)
    assert metrics.per_class(matrix)["precision"].tolist() == [0.5, 0]
    assert metrics.macro_precision(matrix) == 0.25


@pytest.mark.filterwarnings("error")
def test_an_empty_matrix_scores_nan():
    empty = counting.confusion([], [], 3)
    assert empty.shape == (3, 3)
    assert all(np.isnan(metric(empty)) for metric in metrics.METRICS.values())
    assert metrics.absent(empty).tolist() == [0, 1, 2]
    mixed = metrics.uf1(np.stack([empty, np.eye(3)]))
    assert np.isnan(mixed[0])
    assert mixed[1] == 1


def test_macro_f1_over_all_classes_counts_an_absent_class_as_zero():
    """The frame study's test part has six of seven classes; its Table V gives their F1."""
    matrix = counting.confusion([0, 0, 1, 1], [0, 2, 1, 1], 3)  # class 2 is predicted and does not occur
    assert metrics.uf1(matrix) == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.uf1_all(matrix) == pytest.approx((2 / 3 + 1) / 3)
    complete = counting.confusion([0, 1, 2], [0, 1, 1], 3)
    assert metrics.uf1_all(complete) == metrics.uf1(complete)
    assert np.isnan(metrics.uf1_all(np.zeros((2, 2))))


@pytest.mark.parametrize("seed", range(3))
def test_macro_f1_over_all_classes_is_scikit_learns_with_all_labels(seed):
    rng = np.random.default_rng(seed)
    true, pred = rng.integers(0, 3, 20), rng.integers(0, 5, 20)
    wanted = f1_score(true, pred, labels=range(5), average="macro", zero_division=0)
    assert metrics.uf1_all(counting.confusion(true, pred, 5)) == pytest.approx(wanted)


# --- summary


def test_summary_is_json_with_exactly_its_keys():
    matrix = counting.confusion([0, 0, 1, 1], [0, 2, 1, 1], 3)
    said = metrics.summary(matrix, ["negative", "positive", "surprise"])
    said = json.loads(json.dumps(said, allow_nan=False))
    assert set(said) == {
        "uf1", "uf1_all", "uar", "accuracy", "macro_precision", "per_class", "confusion", "n", "absent",
    }  # fmt: skip
    negative = {"f1": pytest.approx(2 / 3), "recall": 0.5, "precision": 1, "n": 2}
    assert said["per_class"]["negative"] == negative
    assert said["per_class"]["surprise"] == {"f1": None, "recall": None, "precision": None, "n": 0}
    assert said["confusion"] == [[1, 0, 1], [0, 2, 0], [0, 0, 0]]
    assert (said["n"], said["absent"], said["accuracy"]) == (4, ["surprise"], 0.75)


def test_summary_of_nothing_is_json_too():
    said = metrics.summary(np.zeros((2, 2), int), ["a", "b"])
    assert json.loads(json.dumps(said, allow_nan=False))["uf1"] is None
    assert said["absent"] == ["a", "b"]


# --- errors


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: counting.confusion([0, 3], [0, 0], 3), r"true: want labels in 0\.\.2, got 0\.\.3"),
        (lambda: counting.confusion([0, 1], [0, -1], 3), r"pred: want labels in 0\.\.2, got -1\.\.0"),
        (lambda: counting.confusion([0, 1], [0], 3), "pred: want 2 labels"),
        (lambda: counting.confusion([[0, 1]], [[0, 1]], 3), "true: want labels of shape"),
        (lambda: counting.confusion([0.0, 1.0], [0, 1], 3), "true: want integers, got float64"),
        (lambda: counting.confusion(["a"], ["b"], 3), "true: want integers"),
        (lambda: counting.confusion([0], [0], 0), "classes: want a whole number"),
        (lambda: counting.confusion([0], [0], 2, [0.5]), "weights: want whole numbers"),
        (lambda: counting.confusion([0], [0], 2, [-1]), "weights: want whole numbers"),
        (lambda: counting.confusion([0], [0], 2, [1, 1]), "weights: want shape"),
        (lambda: counting.by_group([0, 1], [0, 1], ["a"], 2), "groups: want 2 names"),
        (lambda: counting.by_group([0, 1], [0, 1], ["a", None], 2), "groups: want a text or integer name"),
        (lambda: counting.by_group([0, 1], [0, 1], ["a", np.nan], 2), "groups: want a text or integer name"),
        (lambda: counting.by_group([0, 1], [0, 1], ["a", ""], 2), "groups: want a text or integer name"),
        (lambda: metrics.uf1([1, 2]), "matrix: want shape"),
        (lambda: metrics.uf1(np.ones((2, 3))), "matrix: want shape"),
        (lambda: metrics.uf1([[1, -1], [0, 1]]), "matrix: want finite counts"),
        (lambda: metrics.uf1([[1, np.nan], [0, 1]]), "matrix: want finite counts"),
        (lambda: metrics.uf1([["a", "b"], ["c", "d"]]), "matrix: want numbers"),
        (lambda: metrics.absent(np.ones((2, 2, 2))), "matrix: want one"),
        (lambda: metrics.summary(np.full((2, 2), 0.5), ["a", "b"]), "matrix: want whole counts"),
        (lambda: metrics.summary(np.eye(2), ["a", "a"]), "names: want 2 different"),
        (lambda: metrics.summary(np.eye(2), ["a"]), "names: want 2 different"),
    ],
)
def test_errors_say_want_got_do(call, words):
    with pytest.raises(UserError, match=words) as error:
        call()
    assert "got" in str(error.value)
    assert ";" in str(error.value)
